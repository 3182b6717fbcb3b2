"""The questions about a span, on random traffic, against what brute force over its calls says."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from math import ceil
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from postgres_rows import MINUTE, NOON, cell, metric
from streamlens.cell import Cell
from streamlens.facets import version_of
from streamlens.postgres import analytics
from streamlens.postgres.rollup import Rollup
from streamlens.postgres.rows import FacetRow, SettledRow, time_of
from streamlens.postgres.store import PostgresStore

HOUR = 60 * MINUTE
PICO = 10**12
TENANTS = ("acme", "other")


class Call(NamedTuple):
    tenant: str
    minute: int
    route: str
    model: str
    version: str | None
    provider: str | None
    latency_us: int
    error: str | None
    tokens: tuple[int, int]
    cost_pico: int | None


def calls(seed: int, count: int = 600) -> list[Call]:
    """Of three hours."""
    random = Random(seed)
    return [
        Call(
            random.choice(TENANTS),
            random.choice((0, 1, 59, 60, 61, 119, 150)),
            random.choice(("/chat", "/search")),
            random.choice(("gpt-5", "acme/small\\", "acme")),
            random.choice((None, "1", "small\\/1")),
            random.choice((None, "openai", "anthropic")),
            random.choice((0, 1, random.randrange(10**6), random.randrange(10**8))),
            random.choice((None, None, "timeout", "rate_limit")),
            (random.randrange(1000), random.randrange(500)),
            random.choice((None, random.randrange(PICO))),
        )
        for _ in range(count)
    ]


def grouped(found: Iterable[Call], key: Callable[[Call], Any]) -> dict[Any, list[Call]]:
    groups: dict[Any, list[Call]] = {}
    for call in found:
        groups.setdefault(key(call), []).append(call)
    return groups


def summed(group: list[Call]) -> Cell:
    errors = Counter(call.error for call in group if call.error)
    costs = [call.cost_pico for call in group if call.cost_pico is not None]
    return cell(
        [call.latency_us for call in group],
        errors=errors.total(),
        error_types=dict(errors),
        prompt_tokens=sum(call.tokens[0] for call in group),
        completion_tokens=sum(call.tokens[1] for call in group),
        cost_pico=sum(costs),
        priced=len(costs),
        unpriced=len(group) - len(costs),
    )


async def put(store: PostgresStore, found: list[Call]) -> None:
    """The rows that both stages would write."""
    rows: list[Any] = []
    for (tenant, minute, route, model), group in grouped(
        found, lambda c: (c.tenant, c.minute, c.route, c.model)
    ).items():
        names = {"tenant_id": tenant, "route": route, "model": model}
        rows.append(metric(summed(group), window_start_us=NOON + minute * MINUTE, **names))
    facets: dict[str, Callable[[Call], str | None]] = {
        "provider": lambda c: c.provider,
        "model_version": lambda c: c.version and version_of(c.model, c.version),
        "region": lambda c: "eu",
    }
    for facet, value_of in facets.items():
        for (tenant, minute, value), group in grouped(found, lambda c, v=value_of: (c.tenant, c.minute, v(c))).items():  # type: ignore[misc]
            if value is not None:
                at = NOON + minute * MINUTE
                rows.append(FacetRow(tenant, facet, value, at, MINUTE, summed(group), 1, False, (1, 1)))
    await store.write(rows)


async def add_up(store: PostgresStore) -> None:
    """The first two hours."""
    await store.write([SettledRow(0, NOON + 2 * HOUR, (1, 1))])
    rollup = Rollup(SimpleNamespace(pool=store.pool, trouble=""), 1)  # type: ignore[arg-type]
    while await rollup.step():
        pass


Fill = Callable[[list[Call]], Awaitable[bool]]


@pytest.fixture(params=["minutes", "hours"])
def fill(request: pytest.FixtureRequest, store: PostgresStore) -> Fill:
    """Puts the rows; returns whether their first two hours were added up then."""

    async def fill(found: list[Call]) -> bool:
        await put(store, found)
        if request.param == "hours":
            await add_up(store)
        return bool(request.param == "hours")

    return fill


def p(group: list[Call], q: float) -> Any:
    """By nearest rank, in milliseconds."""
    ascending = sorted(call.latency_us for call in group)
    return pytest.approx(ascending[ceil(q * len(ascending)) - 1] / 1000, rel=0.011) if group else None


def cost(group: list[Call]) -> Any:
    costs = [call.cost_pico for call in group if call.cost_pico is not None]
    return pytest.approx(sum(costs) / PICO, rel=1e-12) if costs else None


def counts(group: list[Call]) -> dict[str, int]:
    return {"requests": len(group), "errors": sum(call.error is not None for call in group)}


def tokens(group: list[Call]) -> dict[str, int]:
    return {
        "prompt_tokens": sum(call.tokens[0] for call in group),
        "completion_tokens": sum(call.tokens[1] for call in group),
    }


def iso(minute: int) -> str:
    return f"2026-11-18T{12 + minute // 60}:{minute % 60:02}:00Z"


def of(found: list[Call], tenant: str | None, first: int = 0, last: int = 180) -> list[Call]:
    return [call for call in found if tenant in (None, call.tenant) and first <= call.minute < last]


@pytest.fixture(scope="module", params=range(2))
def traffic(request: pytest.FixtureRequest) -> list[Call]:
    return calls(request.param)


@pytest.mark.parametrize(("tenant", "model"), [(None, None), ("acme", None), ("acme", "acme/small\\"), (None, "acme")])
async def test_minutes_have_each_version_and_what_tells_none(
    store: PostgresStore, traffic: list[Call], tenant: str | None, model: str | None
) -> None:
    await put(store, traffic)
    chosen = [call for call in of(traffic, tenant) if model in (None, call.model)]
    groups = grouped(chosen, lambda c: (c.tenant, c.minute, c.model, c.version))
    expected = [
        {
            "tenant_id": key[0],
            "minute": iso(key[1]),
            "model": key[2],
            "model_version": key[3],
            **counts(group),
            **{f"p{q}_latency_ms": p(group, q / 100) for q in (50, 95, 99)},
            "tokens_in": tokens(group)["prompt_tokens"],
            "tokens_out": tokens(group)["completion_tokens"],
        }
        for key, group in groups.items()
    ]
    expected.sort(key=lambda row: (row["tenant_id"], row["model"], row["model_version"] is None, row["model_version"]))
    expected.sort(key=lambda row: row["minute"], reverse=True)
    found = await analytics.minutes(store.pool, tenant, model, limit=1_000)
    assert found == expected
    assert await analytics.minutes(store.pool, tenant, model, limit=7) == expected[:7]
    span = [row for row in expected if iso(1) <= row["minute"] < iso(61)]
    assert await analytics.minutes(store.pool, tenant, model, NOON + MINUTE, NOON + 61 * MINUTE, 1_000) == span


async def test_a_model_all_of_whose_calls_tell_a_version_has_no_row_without_and_other_is_without(
    store: PostgresStore,
) -> None:
    told = [Call("acme", 0, "/chat", "gpt-5", "1", None, 5, None, (1, 1), None)] * 3
    await put(store, told)
    assert [(row["model_version"], row["requests"]) for row in await analytics.minutes(store.pool)] == [("1", 3)]
    more = FacetRow("acme", "model_version", "__other__", NOON, MINUTE, cell([5] * 2), 1, False, (1, 1))
    await store.write([metric(cell([5] * 5), version=(1, 2)), more])
    found = [(row["model_version"], row["requests"]) for row in await analytics.minutes(store.pool)]
    assert found == [("1", 3), (None, 2)]


@pytest.mark.parametrize("tenant", [None, "acme", "nobody"])
@pytest.mark.parametrize(("first", "last"), [(0, 180), (1, 61)])
async def test_errors(
    store: PostgresStore, fill: Fill, traffic: list[Call], tenant: str | None, first: int, last: int
) -> None:
    hours = await fill(traffic)
    span = NOON + first * MINUTE, NOON + last * MINUTE
    failed = [call for call in of(traffic, tenant, first, last) if call.error]
    groups = grouped(failed, lambda c: (c.tenant, c.error, c.route, c.model))
    expected = [
        {
            **dict(zip(("tenant_id", "error_type", "route", "model"), key, strict=True)),
            "count": len(group),
            "last_seen": _seen(group, hours and last == 180),
            "share": len(group) / len(failed),
        }
        for key, group in groups.items()
    ]
    names = ("tenant_id", "error_type", "route", "model")
    expected.sort(key=lambda row: (-row["count"], *(row[name] for name in names)))
    assert await analytics.top_errors(store.pool, tenant, *span, limit=100) == (expected, len(failed))
    assert await analytics.top_errors(store.pool, tenant, *span, limit=3) == (expected[:3], len(failed))

    by_type = await analytics.errors_by_type(store.pool, tenant, *span)
    assert by_type == [
        {
            "error_type": error,
            "count": len(group),
            "share": pytest.approx(len(group) / len(failed)),
            "last_seen": _seen(group, hours and last == 180),
            "routes": _most(call.route for call in group),
            "models": _most(call.model for call in group),
        }
        for error, group in sorted(
            grouped(failed, lambda c: c.error).items(), key=lambda pair: (-len(pair[1]), pair[0])
        )
    ]


def _seen(group: list[Call], hours: bool) -> str:
    """The newest minute; of what was added up, the hour."""
    newest = max(call.minute for call in group)
    return iso(newest // 60 * 60 if hours and newest < 120 else newest)


def _most(names: Iterable[str]) -> list[str]:
    return [name for name, _ in sorted(Counter(names).items(), key=lambda pair: (-pair[1], pair[0]))]


@pytest.mark.parametrize("tenant", [None, "acme", "nobody"])
async def test_a_summary(store: PostgresStore, fill: Fill, traffic: list[Call], tenant: str | None) -> None:
    await fill(traffic)
    group = of(traffic, tenant, 1, 61)
    known = {**counts(group), **tokens(group)}
    assert await analytics.summary(store.pool, tenant, NOON + MINUTE, NOON + 61 * MINUTE) == {
        **known,
        "error_rate": known["errors"] / known["requests"] if group else None,
        "avg_latency_ms": pytest.approx(sum(c.latency_us for c in group) / len(group) / 1000) if group else None,
        **{f"p{q}_latency_ms": p(group, q / 100) for q in (50, 95, 99)},
        "estimated_cost_usd": cost(group),
        "unpriced": sum(call.cost_pico is None for call in group),
        "active_models": len({call.model for call in group}),
        "active_routes": len({call.route for call in group}),
        "tenants": len({call.tenant for call in group}),
    }


@pytest.mark.parametrize("step_us", [MINUTE, 5 * MINUTE, HOUR])
@pytest.mark.parametrize(
    "chosen", [(None, None, None), ("acme", "/chat", None), ("acme", None, "acme"), ("no", None, None)]
)
async def test_each_step_has_a_point(
    store: PostgresStore,
    fill: Fill,
    traffic: list[Call],
    step_us: int,
    chosen: tuple[str | None, str | None, str | None],
) -> None:
    await fill(traffic)
    tenant, route, model = chosen
    group = [c for c in of(traffic, tenant, 1, 152) if route in (None, c.route) and model in (None, c.model)]
    step = step_us // MINUTE
    expected = []
    for at in range(1 // step * step, 152, step):
        here = [call for call in group if at <= call.minute < at + step]
        quantiles = {f"p{q}_latency_ms": p(here, q / 100) for q in (50, 95, 99)}
        expected.append({"at": iso(at), **counts(here), **quantiles, **tokens(here), "estimated_cost_usd": cost(here)})
    span = NOON + MINUTE, NOON + 152 * MINUTE
    assert await analytics.over_time(store.pool, tenant, route, model, *span, step_us) == expected


@pytest.mark.parametrize("tenant", [None, "acme", "nobody"])
async def test_providers_and_those_that_tell_none(
    store: PostgresStore, fill: Fill, traffic: list[Call], tenant: str | None
) -> None:
    await fill(traffic)
    chosen = of(traffic, tenant, 1, 61)
    expected = [
        {
            "provider": provider,
            **counts(group),
            "error_rate": pytest.approx(counts(group)["errors"] / len(group)),
            "avg_latency_ms": pytest.approx(sum(call.latency_us for call in group) / len(group) / 1000),
            "p95_latency_ms": p(group, 0.95),
            **tokens(group),
            "estimated_cost_usd": cost(group),
            "unpriced": sum(call.cost_pico is None for call in group),
            "share": pytest.approx(len(group) / len(chosen)),
        }
        for provider, group in grouped(chosen, lambda c: c.provider).items()
    ]
    expected.sort(key=lambda row: (-row["requests"], row["provider"] is None, row["provider"]))
    assert await analytics.providers(store.pool, tenant, NOON + MINUTE, NOON + 61 * MINUTE) == expected


async def test_what_nobody_priced_costs_null_also_as_a_rest(store: PostgresStore) -> None:
    priced = Call("acme", 0, "/chat", "gpt-5", None, "openai", 5, None, (1, 1), PICO)
    await put(store, [priced, priced._replace(provider=None, cost_pico=None)])
    found = await analytics.providers(store.pool, None, NOON, NOON + MINUTE)
    assert [(row["provider"], row["estimated_cost_usd"], row["unpriced"]) for row in found] == [
        ("openai", 1.0, 0),
        (None, None, 1),
    ]


async def test_whole_hours_are_answered_without_their_minutes(store: PostgresStore, traffic: list[Call]) -> None:
    span = NOON, NOON + 3 * HOUR

    async def all_answers() -> list[Any]:
        return [
            await analytics.summary(store.pool, None, *span),
            await analytics.providers(store.pool, None, *span),
            await analytics.over_time(store.pool, None, None, None, *span, HOUR),
            [each | {"last_seen": None} for each in await analytics.errors_by_type(store.pool, None, *span)],
        ]

    await put(store, traffic)
    by_minutes = await all_answers()
    await add_up(store)
    for table in ("llm_metrics", "llm_facets"):
        await store.pool.execute(f"delete from {table} where window_start < $1", time_of(NOON + 2 * HOUR))
    assert await all_answers() == by_minutes
