"""`make screenshots`: pictures of the page with demo traffic, for the documentation, into docs/img/."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, async_playwright

from browser.conftest import CHROMIUM
from process_server import Server

TO = Path(__file__).parents[2] / "docs/img"
DESK: dict[str, Any] = {"viewport": {"width": 1200, "height": 750}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
PICTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "overview-light": ("", DESK),
    "overview-dark": ("", DESK | {"color_scheme": "dark"}),
    "overview-phone": ("", PHONE),
    "errors-light": ("?view=errors", DESK),
    "experiments-dark": ("?view=experiments", DESK | {"color_scheme": "dark"}),
}
"""Query and options of the browser, by name of the file."""
WARM_S = 60
"""After the traffic of the past has come, so long until the pictures are taken."""
MOST_BYTES = 150_000


async def main() -> None:
    TO.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="streamlens-page-") as directory:
        Path(directory).chmod(0o755)  # PostgreSQL runs as another account there
        with Server(Path(directory) / "data", demo=True) as server:
            server.start()
            await asyncio.sleep(WARM_S)
            async with async_playwright() as playwright:
                browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                for name, (query, options) in PICTURES.items():
                    await take(browser, f"{server.url}/{query}", TO / f"{name}.png", options)


async def take(browser: Browser, url: str, path: Path, options: dict[str, Any]) -> None:
    context = await browser.new_context(**options)
    page = await context.new_page()
    await page.goto(url)
    await page.get_by_role("status").filter(has_text="live").wait_for()
    await page.locator("main:not([aria-busy])").wait_for()
    await page.screenshot(path=path)
    await context.close()
    size = path.stat().st_size
    print(f"{path.name}: {size:,} bytes")
    assert size < MOST_BYTES, path


if __name__ == "__main__":
    asyncio.run(main())
