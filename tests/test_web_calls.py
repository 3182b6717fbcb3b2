"""Questions about calls that are kept: strict, and answered from a real Postgres, page by page."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from postgres_rows import MINUTE, NOON
from streamlens.details import Answered, Asked
from streamlens.fields import MAX_TIME_US
from streamlens.keptcall import ERROR, SAMPLE, SLOW, KeptCall
from streamlens.postgres.call_queries import Place
from streamlens.postgres.calls import CallRow
from streamlens.postgres.store import PostgresStore
from web.cursor import token
from web_server import Site, serving

SLOWEST_PLACE = token(Place("slowest", 1, "0" * 32))
LATER_PLACE = token(Place("newest", MAX_TIME_US, "0" * 32))
BAD = [
    ("/v1/calls?order=oldest", "order"),
    ("/v1/calls?kept=good", "kept"),
    ("/v1/calls?prompt=x", "prompt"),
    ("/v1/calls?from=2&to=1", "from"),
    ("/v1/calls?limit=0", "limit"),
    ("/v1/calls?cursor=abc", "cursor"),
    (f"/v1/calls?cursor={SLOWEST_PLACE}", "cursor"),
    (f"/v1/calls?cursor={token(Place('newest', 1, 'x'))}", "cursor"),
    (f"/v1/calls?cursor={LATER_PLACE}", "cursor"),
    ("/v1/calls/a?limit=1", "limit"),
]


@pytest.mark.parametrize(("path", "field"), BAD, ids=[path for path, _ in BAD])
async def test_a_bad_parameter_is_named(tmp_path: Path, path: str, field: str) -> None:
    async with serving(tmp_path) as site:  # no pool: nothing of it may reach Postgres
        answer = await site.http.get(path)
        problem = await answer.json()
    assert (answer.status, problem["field"]) == (400, field)


def row(number: int, tenant_id: str = "acme", why: int = SLOW, **fields: Any) -> CallRow:
    """A call `number` seconds after noon, that took `number` times 100 ms modulo 500."""
    at_us, latency_us = NOON + number * 1_000_000, number * 100_000 % 500_000
    call = KeptCall(at_us, why, f"c{number}", 0, "/chat", "gpt-5", latency_us=latency_us)
    for name, value in fields.items():
        setattr(call, name, value)
    return CallRow(b"n%d" % number + tenant_id.encode(), tenant_id, NOON, call, (1, 1))


WHOLE = row(
    1,
    request_id="a/b c",
    why=ERROR | SAMPLE,
    ttft_us=50_500,
    cost_pico="1230000000000000000000",
    error_type="other",
    user=b"\x01\xff",
    session_id="s1",
    asked=Asked(True, b'{"big":123456789012345678901}', "tone", "A", "v1", "m1", "eu", "ios", None, "Hello"),
    answered=Answered("stop", "no", "quota", "Hi!"),
)


@pytest.fixture
async def site(tmp_path: Path, store: PostgresStore) -> AsyncIterator[Site]:
    await store.write(
        [
            WHOLE,
            row(2, route="/search"),
            row(3, model="gpt-4", why=SLOW | SAMPLE),
            row(4, error_type="timeout", why=ERROR, session_id="s1"),
            row(5, why=0),
            row(6, tenant_id="other"),
            row(MINUTE // 1_000_000, why=SAMPLE),
        ]
    )
    async with serving(tmp_path, pool=store.pool) as site:
        yield site


CASES = [
    ("", ["c60", "c6", "c4", "c3", "c2", "a/b c"]),
    ("?order=slowest&limit=3", ["c4", "c3", "c2"]),
    ("?tenant_id=other", ["c6"]),
    ("?route=/search", ["c2"]),
    ("?model=gpt-4", ["c3"]),
    ("?kept=sample", ["c60", "c3", "a/b c"]),
    ("?kept=error,sample", ["c60", "c4", "c3", "a/b c"]),
    ("?kept=none", []),
    ("?error_type=timeout", ["c4"]),
    ("?session_id=s1&order=newest", ["c4", "a/b c"]),
    (f"?from={NOON // 1000 + 3000}&to={NOON // 1000 + 60_000}", ["c6", "c4", "c3"]),
    ("?tenant_id=nobody", []),
]


@pytest.mark.parametrize(("query", "expected"), CASES, ids=[query for query, _ in CASES])
async def test_calls_are_chosen_as_asked(site: Site, query: str, expected: list[str]) -> None:
    answer = await site.http.get(f"/v1/calls{query}")
    body = await answer.json()
    assert answer.status == 200, body
    assert body["count"] == len(body["calls"])
    assert [call["request_id"] for call in body["calls"]] == expected


@pytest.mark.parametrize("order", ["newest", "slowest"])
@pytest.mark.parametrize("limit", [1, 2, 3, 6])
async def test_pages_make_the_whole_list(site: Site, order: str, limit: int) -> None:
    whole = (await (await site.http.get(f"/v1/calls?order={order}")).json())["calls"]
    found, cursor = [], ""
    while True:
        body = await (await site.http.get(f"/v1/calls?order={order}&limit={limit}&cursor={cursor}")).json()
        found += body["calls"]
        assert len(body["calls"]) <= limit
        if (cursor := body["next"]) is None:
            break
    assert found == whole
    assert len(found) == 6


async def test_a_call_has_all_that_is_kept_of_it(site: Site) -> None:
    (call,) = (await (await site.http.get("/v1/calls/a%2Fb%20c?tenant_id=acme")).json())["calls"]
    assert call == {
        "tenant_id": "acme",
        "request_id": "a/b c",
        "at": "2026-11-18T12:00:01Z",
        "route": "/chat",
        "model": "gpt-5",
        "provider": None,
        "latency_ms": 100.0,
        "ttft_ms": 50.5,
        **dict.fromkeys(("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens"), 0),
        "reasoning_tokens": 0,
        "estimated_cost_usd": 1.23e9,
        "error_type": "other",
        "error_type_raw": "quota",
        "error": "no",
        "finish_reason": "stop",
        "user_id_hash": "01ff",
        "session_id": "s1",
        "experiment": "tone",
        "variant": "A",
        "prompt_version": "v1",
        "model_version": "m1",
        "region": "eu",
        "kept": ["error", "sample"],
        "client": {"app": "ios", "os": None},
        "stream": True,
        "metadata": {"big": 1.2345678901234568e20},
        "prompt": "Hello",
        "response": "Hi!",
    }


@pytest.mark.parametrize(
    "path", ["/v1/calls/c7", "/v1/calls/c5", "/v1/calls/c6?tenant_id=acme", f"/v1/calls/{'x' * 300}"]
)
async def test_what_is_not_kept_is_not_found(site: Site, path: str) -> None:
    answer = await site.http.get(path)
    assert (answer.status, answer.content_type) == (404, "application/problem+json")


async def test_a_place_that_is_taken_anew_shows_the_new_call_alone(site: Site, store: PostgresStore) -> None:
    taken = row(2, request_id="new")
    await store.write([msgspec.structs.replace(taken, version=(1, 2))])
    ids = [call["request_id"] for call in (await (await site.http.get("/v1/calls")).json())["calls"]]
    assert ids == ["c60", "c6", "c4", "c3", "new", "a/b c"]


async def test_without_postgres_readers_are_told_to_come_again(tmp_path: Path) -> None:
    away = await PostgresStore.open("postgresql://nobody@127.0.0.1:1/nothing")
    async with serving(tmp_path, pool=away.pool) as site:
        for path in ("/v1/calls", "/v1/calls/a"):
            answer = await site.http.get(path)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
    await away.close()
