"""What stands on the page, as values: tiles, tables and all numbers. For the browser tests."""

from typing import Any

from playwright.async_api import Page

_TABLE = """table => ({
  head: [...table.tHead.rows[0].cells].map(cell => cell.innerText.replace(/ [↑↓]$/, "")),
  rows: [...table.tBodies[0].rows].map(row => [...row.cells].map(cell => {
    const data = cell.querySelector("data");
    return data ? (data.value === "" ? null : Number(data.value)) : cell.innerText;
  })),
})"""


async def table(page: Page, label: str) -> list[dict[str, Any]]:
    """The rows of the table in the region `label`, by their column's title; numbers are the exact ones."""
    read = await page.get_by_role("region", name=label, exact=True).locator("table").evaluate(_TABLE)
    return [dict(zip(read["head"], row, strict=True)) for row in read["rows"]]


async def tiles(page: Page) -> dict[str, list[float | None]]:
    """The numbers of each tile of the overview: the large one first."""
    return await page.locator(".tile").evaluate_all(  # type: ignore[no-any-return]
        """tiles => Object.fromEntries(tiles.map(tile => [tile.querySelector("dt").innerText,
             [...tile.querySelectorAll("data")].map(data => data.value === "" ? null : Number(data.value))]))"""
    )


async def numbers(page: Page) -> set[float]:
    """Every number that the view shows with its exact value."""
    found = await page.locator("main data").evaluate_all("all => all.map(data => data.value)")
    return {float(value) for value in found if value != ""}


def numbers_in(answer: Any) -> set[float]:
    """Every number in a JSON value."""
    if isinstance(answer, dict):
        return set().union(*map(numbers_in, answer.values()))
    if isinstance(answer, list):
        return set().union(*map(numbers_in, answer))
    return {float(answer)} if isinstance(answer, int | float) and not isinstance(answer, bool) else set()
