"""Variants in a real Postgres: exact, guarded by version, summed up as asked, deleted by age."""

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from postgres_rows import MINUTE, NOON
from streamlens.moments import Moments, Variant
from streamlens.postgres import experiments, retention
from streamlens.postgres.experiments import ExperimentRow, Measured
from streamlens.postgres.retention import EXPERIMENT_DAYS, Retention
from streamlens.postgres.store import PostgresStore
from streamlens.settings import Settings

DAY = 24 * 60 * MINUTE
SECRETS = "".join(chr(0x10000 + 97 * n) for n in range(256))
"""A name as long as names may be, which does not compress."""


def row(variant: str = "A", at_us: int = NOON, **fields: Any) -> ExperimentRow:
    """One call of 1.5 ms of tenant acme in the experiment tone, at noon; other fields as given."""
    sums = Variant(errors=Moments(1, 0, 0), latency_us=Moments(1, 1_500, 2_250_000))
    made = {"tenant_id": "acme", "experiment": "tone", "sums": sums, "version": (1, 1)}
    return ExperimentRow(variant=variant, window_start_us=at_us, window_us=MINUTE, **made | fields)


async def ask(store: PostgresStore, metric: str = "latency_ms", **chosen: Any) -> list[Measured]:
    span = {"from_us": None, "to_us": None}
    return await experiments.moments(
        store.pool, **{"tenant_id": "acme", "experiment": "tone", **span} | chosen, metric=metric
    )


async def test_minutes_add_up_by_variant_and_metric(store: PostgresStore) -> None:
    b = Variant(
        errors=Moments(3, 1, 1), cost_pico=Moments(1, 7, 49), scores={'"tr\\uth"': Moments(2, -500_000, 10**12)}
    )
    await store.write(
        [row(), row(at_us=NOON + MINUTE), row("B", sums=b), row("C", experiment="other"), row(tenant_id="x")]
    )
    a = Measured("A", 2, 2, Fraction(3), Fraction("4.5"))
    assert await ask(store) == [a, Measured("B", 3, 0, Fraction(0), Fraction(0))]
    assert await ask(store, from_us=NOON, to_us=NOON + MINUTE, metric="error_rate") == [
        Measured("A", 1, 1, Fraction(0), Fraction(0)),
        Measured("B", 3, 3, Fraction(1), Fraction(1)),
    ]
    assert (await ask(store, "cost_usd"))[1] == Measured("B", 3, 1, Fraction(7, 10**12), Fraction(49, 10**24))
    assert (await ask(store, 'score:"tr\\uth"'))[1] == Measured("B", 3, 2, Fraction(-1, 2), Fraction(1))
    assert await ask(store, from_us=NOON + MINUTE) == [Measured("A", 1, 1, Fraction("1.5"), Fraction("2.25"))]
    assert await ask(store, experiment="none") == []
    assert await experiments.tenants_of(store.pool, "tone") == ["acme", "x"]
    assert await experiments.tenants_of(store.pool, "other") == ["acme"]
    assert await experiments.tenants_of(store.pool, "none") == []


async def test_experiments_are_listed_the_newest_first(store: PostgresStore) -> None:
    await store.write(
        [
            *(row(variant, NOON + minute * MINUTE) for minute, variant in enumerate("BAB")),
            row("C", NOON + 9 * MINUTE, experiment="later"),
            row("C", tenant_id="other"),
        ]
    )

    async def listed(*asked: Any) -> list[dict[str, Any]]:
        return await experiments.experiments(store.pool, *asked)

    tone = {
        "tenant_id": "acme",
        "experiment": "tone",
        "variants": ["A", "B"],
        "calls": 3,
        "first_at": "2026-11-18T12:00:00Z",
        "last_at": "2026-11-18T12:02:00Z",
    }
    every = await listed(None, None, None, 10)
    assert [(each["tenant_id"], each["experiment"]) for each in every] == [
        ("acme", "later"),
        ("acme", "tone"),
        ("other", "tone"),
    ]
    assert every[1] == tone
    assert [each["experiment"] for each in await listed("acme", None, None, 1)] == ["later"]
    assert await listed("acme", None, NOON + 2 * MINUTE, 9) == [tone | {"calls": 2, "last_at": "2026-11-18T12:01:00Z"}]
    assert await listed("acme", NOON + 10 * MINUTE, None, 9) == []


async def test_only_a_higher_version_replaces_a_row(store: PostgresStore) -> None:
    for version, calls in (((1, 2), 2), ((1, 1), 1), ((2, 1), 3), ((1, 9), 9)):
        await store.write([row(version=version, sums=Variant(errors=Moments(calls)))])
    assert [each.calls for each in await ask(store)] == [3]


async def test_the_longest_names_and_the_largest_sums_are_exact(store: PostgresStore) -> None:
    huge = Moments(10**9, 10**27 + 1, 10**45 + 1)
    names = {"tenant_id": SECRETS, "experiment": SECRETS[:200]}
    await store.write([row(SECRETS[200:255], **names, sums=Variant(cost_pico=huge, scores={SECRETS: huge}))])
    (cost,), (score,) = [await ask(store, metric, **names) for metric in ("cost_usd", f"score:{SECRETS}")]
    assert (cost.count, cost.sum * 10**12, cost.squares * 10**24) == (huge.count, huge.sum, huge.squares)
    assert (score.sum * 10**6, score.squares * 10**12) == (huge.sum, huge.squares)


async def test_the_function_answers_by_itself(store: PostgresStore, dsn: str) -> None:
    await store.write([row(), row("B")])
    connection = await asyncpg.connect(dsn)
    query = "select variant, sum / count as mean from experiment_moments('acme', 'tone', 'latency_ms')"
    found = await connection.fetch(query)
    await connection.close()
    assert [(each["variant"], float(each["mean"])) for each in found] == [("A", 1.5), ("B", 1.5)]


async def test_variants_stay_long_after_other_rows(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_PAUSE_S", 0)
    ages = [0, EXPERIMENT_DAYS - 0.1, EXPERIMENT_DAYS + 0.1]
    await store.write([row(at_us=NOON - round(age * DAY)) for age in ages])
    database: Any = SimpleNamespace(pool=store.pool, trouble="")
    assert await Retention(database, Settings(retention_days=1), lambda: NOON).sweep() == 1
    assert [each.calls for each in await ask(store)] == [2]
