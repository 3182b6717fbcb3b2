"""Questions about facets, evaluations, tallies and lines of logs: strict, and answered from a real Postgres."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from postgres_rows import MINUTE, NOON, cell, metric
from streamlens.postgres.observed import EvaluationRow, KeptRow, TallyRow
from streamlens.postgres.rows import FacetRow
from streamlens.postgres.store import PostgresStore
from streamlens.scores import Scores
from streamlens.tally import Tally
from web_server import Site, serving

LOGS = "/api/v1/analytics/logs/recent"
BAD = [
    ("/v1/metrics?group_by=colour", "group_by"),
    ("/v1/metrics?group_by=region,route", "group_by"),
    ("/v1/metrics?group_by=region&route=/chat", "route"),
    ("/v1/metrics?group_by=region&model=gpt-5", "model"),
    ("/v1/evaluations?score=1", "score"),
    ("/v1/evaluations?step=2m", "step"),
    ("/v1/evaluations?limit=0", "limit"),
    ("/v1/evaluations?from=2&to=1", "from"),
    ("/v1/evaluations?name=%00", "name"),
    ("/v1/tallies?kind=trace", "kind"),
    ("/v1/tallies?from=soon", "from"),
    ("/v1/tallies?limit=10001", "limit"),
    (f"{LOGS}?level=LOUD", "level"),
    (f"{LOGS}?limit=1001", "limit"),
    (f"{LOGS}?from=1", "from"),
]


@pytest.mark.parametrize(("path", "field"), BAD, ids=[path for path, _ in BAD])
async def test_a_bad_parameter_is_named(tmp_path: Path, path: str, field: str) -> None:
    async with serving(tmp_path) as site:  # no pool: nothing of it may reach Postgres
        answer = await site.http.get(path)
        problem = await answer.json()
    assert (answer.status, problem["field"]) == (400, field)


@pytest.fixture
async def site(tmp_path: Path, store: PostgresStore) -> AsyncIterator[Site]:
    scores, version = Scores(), (1, 1)
    scores.add(0.5, "fair")

    def facet(name: str, value: str, calls: int) -> FacetRow:
        return FacetRow("acme", name, value, NOON, MINUTE, cell([1000] * calls), 1, False, version)

    await store.write(
        [
            metric(),
            facet("region", "eu", 2),
            facet("region", "us", 1),
            facet("sender", "sdk/1", 3),
            EvaluationRow(b"e", "acme", "/chat", "gpt-5", "truth", NOON, MINUTE, scores, 1, False, version),
            TallyRow(b"s1", "acme", "log", "api", "ERROR", NOON, MINUTE, Tally(4), version),
            TallyRow(
                b"s2", "acme", "metric", "cpu", "host=a", NOON, MINUTE, Tally(1, 500_000, 500_000, 500_000), version
            ),
            KeptRow(b"r1", "acme", "log", "id1", NOON, b'{"level":"INFO","service":"api","message":"calm"}', version),
            KeptRow(
                b"r2", "acme", "log.loud", "id2", NOON, b'{"level":"ERROR","service":"web","message":"broke"}', version
            ),
        ]
    )
    async with serving(tmp_path, pool=store.pool) as site:
        yield site


CASES = [
    ("/v1/metrics?group_by=region", "metrics", [("region", "eu", 2), ("region", "us", 1)]),
    ("/v1/metrics?group_by=region&step=1h&tenant_id=acme", "metrics", [("region", "eu", 2), ("region", "us", 1)]),
    ("/v1/metrics?group_by=sender&limit=1", "metrics", [("sender", "sdk/1", 3)]),
    ("/v1/metrics?group_by=country", "metrics", []),
    ("/v1/evaluations", "evaluations", [("truth", 1, 0.5)]),
    ("/v1/evaluations?name=truth&route=/chat&model=gpt-5&step=1d", "evaluations", [("truth", 1, 0.5)]),
    ("/v1/evaluations?tenant_id=other", "evaluations", []),
    ("/v1/tallies", "tallies", [("log", "ERROR", 4), ("metric", "host=a", 1)]),
    ("/v1/tallies?kind=metric&name=cpu&step=5m", "tallies", [("metric", "host=a", 1)]),
    ("/v1/tallies?kind=warning", "tallies", []),
    (LOGS, "logs", [("id1", "INFO", "calm"), ("id2", "ERROR", "broke")]),
    (f"{LOGS}?level=ERROR,CRITICAL&service=web&tenant_id=acme&limit=1", "logs", [("id2", "ERROR", "broke")]),
    (f"{LOGS}?tenant_id=other", "logs", []),
]
COLUMNS = {
    "metrics": ("facet", "value", "requests"),
    "evaluations": ("name", "evaluations", "avg_score"),
    "tallies": ("kind", "detail", "count"),
    "logs": ("id", "level", "message"),
}


@pytest.mark.parametrize(("path", "name", "expected"), CASES, ids=[case[0] for case in CASES])
async def test_rows_are_chosen_as_asked(site: Site, path: str, name: str, expected: list[tuple[Any, ...]]) -> None:
    answer = await site.http.get(path)
    body = await answer.json()
    assert answer.status == 200, body
    assert body["count"] == len(body[name])
    assert [tuple(row[column] for column in COLUMNS[name]) for row in body[name]] == expected


@pytest.mark.parametrize("path", ["/v1/evaluations", "/v1/tallies", LOGS])
async def test_without_postgres_readers_are_told_to_come_again(tmp_path: Path, path: str) -> None:
    away = await PostgresStore.open("postgresql://nobody@127.0.0.1:1/nothing")
    async with serving(tmp_path, pool=away.pool) as site:
        answer = await site.http.get(path)
    await away.close()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
