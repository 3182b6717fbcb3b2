"""Questions about experiments: strict, answered from a real Postgres, each look as a program would have it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from guarded_site import EXPERIMENTS, OTHER, TENANT, Guarded, guarded
from postgres_rows import MINUTE, NOON
from streamlens.moments import Moments, Variant
from streamlens.postgres.experiments import ExperimentRow
from streamlens.postgres.store import PostgresStore
from web_server import Site, serving

__all__ = ["guarded"]

EQUAL = {"A": 0.5, "B": 0.5}


def moments(values: list[int]) -> Moments:
    return Moments(len(values), sum(values), sum(value * value for value in values))


def variant(slower: int = 0, calls: int = 400) -> Variant:
    """Half of the calls take 1 ms, half 3 ms, and all of them so many ms longer; one in ten fails and has no score."""
    sums = Variant(
        errors=moments([0] * (calls - calls // 10) + [1] * (calls // 10)),
        latency_us=moments([1000 + 1000 * slower, 3000 + 1000 * slower] * (calls // 2)),
        cost_pico=moments([5 * 10**9, 7 * 10**9] * (calls // 2)),
    )
    sums.scores = {"truth": moments([-500_000] * (calls - calls // 10))}
    return sums


@pytest.fixture
async def site(tmp_path: Path, store: PostgresStore) -> AsyncIterator[Site]:
    def row(name: str, sums: Variant, at_us: int = NOON, tenant_id: str = "acme", experiment: str = "to/ne") -> Any:
        return ExperimentRow(tenant_id, experiment, name, at_us, MINUTE, sums, (1, 1))

    await store.write(
        [
            *(row("A", variant(), NOON + minute * MINUTE) for minute in range(2)),
            *(row("B", variant(slower=1), NOON + minute * MINUTE) for minute in range(2)),
            row("A", variant(calls=20), experiment="few"),
            *(row("A", variant(), experiment="shared", tenant_id=tenant) for tenant in ("acme", "other")),
        ]
    )
    async with serving(tmp_path, pool=store.pool) as site:
        yield site


async def asked(site: Site, name: str, query: str = "", status: int = 200) -> dict[str, Any]:
    answer = await site.http.get(f"/v1/experiments/{quote(name, safe='')}{query}")
    body: dict[str, Any] = await answer.json()
    assert answer.status == status, body
    return body


async def test_variants_are_compared_with_the_first(site: Site) -> None:
    found = await asked(site, "to/ne")
    a, b = found.pop("variants")
    assert found == {
        "tenant_id": "acme",
        "experiment": "to/ne",
        "metric": "latency_ms",
        "baseline": "A",
        "alpha": 0.05,
        "sample_ratio": {"expected": EQUAL, "observed": {"A": 800, "B": 800}, "p_value": 1.0, "ok": True},
    }
    assert (a["variant"], a["n"], a["mean"], b["mean"]) == ("A", 800, 2.0, 3.0)
    assert a["standard_deviation"] == b["standard_deviation"] == pytest.approx(1.0, abs=1e-3)
    assert a["interval"][0] < 2.0 < a["interval"][1] < 2.2
    assert [a[name] for name in ("difference", "relative_difference", "difference_interval", "p_value")] == [None] * 4
    assert (b["difference"], b["relative_difference"]) == (1.0, 0.5)
    assert 0.8 < b["difference_interval"][0] < 1.0 < b["difference_interval"][1] < 1.2
    assert b["p_value"] < 1e-50


async def test_another_baseline_turns_the_difference_round(site: Site) -> None:
    (a, b) = (await asked(site, "to/ne", "?baseline=B&tenant_id=acme"))["variants"]
    assert (a["difference"], b["difference"]) == (-1.0, None)


METRICS = {
    "cost_usd": (800, 0.006),
    "error_rate": (800, 0.1),
    "score:truth": (720, -0.5),
    "ttft_ms": (0, None),
    "score:unheard of": (0, None),
}


async def test_each_metric_is_in_its_unit(site: Site) -> None:
    for metric, (n, mean) in METRICS.items():
        a, b = (await asked(site, "to/ne", f"?metric={quote(metric)}"))["variants"]
        assert (a["n"], a["mean"], a["interval"] is None) == (n, mean, mean is None)
        assert (b["difference"], b["p_value"]) == ((0.0, 1.0) if n else (None, None))


async def test_the_span_is_chosen(site: Site) -> None:
    found = await asked(site, "to/ne", f"?from={NOON // 1000 + 60_000}")
    assert [each["n"] for each in found["variants"]] == [400, 400]
    await asked(site, "to/ne", f"?from={NOON // 1000 + 120_000}", 404)


async def test_of_few_calls_there_is_only_a_mean(site: Site) -> None:
    (a,) = (await asked(site, "few"))["variants"]
    assert (a["n"], a["mean"], a["interval"]) == (20, 2.0, None)


SHARES = [
    ("A:0.9,B:0.1", {"A": 0.9, "B": 0.1}, False),
    ("A:2,B:2", EQUAL, True),
    ("A:1", {"A": 1.0, "B": 0.0}, False),
]


async def test_shares_are_those_expected_or_not(site: Site) -> None:
    for expected, shares, ok in SHARES:
        ratio = (await asked(site, "to/ne", f"?expected={expected}"))["sample_ratio"]
        assert (ratio["expected"], ratio["ok"], ratio["p_value"] < 0.01) == (pytest.approx(shares), ok, not ok)


BAD = [
    ("to/ne", "?baseline=C", "baseline"),
    ("to/ne", "?metric=latency", "metric"),
    ("to/ne", "?metric=score:", "metric"),
    ("to/ne", "?expected=A", "expected"),
    ("to/ne", "?expected=A:0,B:1", "expected"),
    ("to/ne", "?expected=A:1,A:2", "expected"),
    ("to/ne", "?expected=:1,B:1", "expected"),
    ("to/ne", "?expected=A:1,,B:1", "expected"),
    ("to/ne", "?from=2&to=1", "from"),
    ("to/ne", "?limit=1", "limit"),
    ("shared", "", "tenant_id"),
]


async def test_a_bad_parameter_is_named(site: Site) -> None:
    named = [(name, query, (await asked(site, name, query, 400))["field"]) for name, query, _ in BAD]
    assert named == BAD


async def test_what_is_not_there_is_not_found(site: Site) -> None:
    for name, query in (("nothing", ""), ("to/ne", "?tenant_id=other"), ("x" * 257, "")):
        await asked(site, name, query, 404)


async def test_experiments_are_listed_and_told_as_csv(site: Site) -> None:
    listed = await (await site.http.get("/v1/experiments?tenant_id=acme&limit=1")).json()
    assert listed == {
        "experiments": [
            {
                "tenant_id": "acme",
                "experiment": "to/ne",
                "variants": ["A", "B"],
                "calls": 1600,
                "first_at": "2026-11-18T12:00:00Z",
                "last_at": "2026-11-18T12:01:00Z",
            }
        ],
        "count": 1,
    }
    lines = (await (await site.http.get("/v1/experiments/few?format=csv")).text()).splitlines()
    assert lines[0].startswith("variant,n,mean,standard_deviation,interval,difference,")
    assert [line.split(",")[:3] for line in lines[1:]] == [["A", "20", "2.0"]]


async def test_a_tenants_key_compares_its_own_experiments(guarded: Guarded) -> None:
    secret = guarded.secrets[TENANT, "read"]
    answer = await guarded.ask("GET", f"/v1/experiments/{EXPERIMENTS[TENANT]}", secret)
    assert (await answer.json())["tenant_id"] == TENANT
    hidden = await guarded.ask("GET", f"/v1/experiments/{EXPERIMENTS[OTHER]}", secret)
    unknown = await guarded.ask("GET", "/v1/experiments/nothing", secret)
    assert (hidden.status, await hidden.json()) == (unknown.status, await unknown.json())
