"""`/v1/dlq`: which letters there are, one with its bytes, and what is asked wrongly."""

import base64
from datetime import datetime
from pathlib import Path

import pytest

from dlq_world import EVENTS, World, call, world
from pipeline import MINUTE, SECOND, START
from streamlens.deadletters import REASONS, tenant_of
from streamlens.letterreplay import FATES
from streamlens.metrics import REGISTRY
from streamlens.partitioner import partition_of
from streamlens.postgres.store import PostgresStore
from streamlens.topics import CALLS
from web_server import PARTITIONS, serving

__all__ = ["world"]

BAD = ["from=soon", "to=1.5", "limit=0", "limit=10001", "tenant=acme", "from=2&to=1", "reason=bad", "topic=llm.metrics"]
BAD_CURSORS = ["cursor=x", "cursor=%C3%A9", "cursor=WzEsMl0="]
BAD_REPLAYS = ["limit=1001", "again=yes", "dry_run=1", "after=x", "after=WzEsWzEsMl1d"]
BAD_PLACES = [b'[1,[1,"a\\u0000",1,1]]', b'[1,[1,"llm.calls",1,9223372036854775808]]', b"[253402300800000000]", b"[-1]"]


@pytest.mark.parametrize("reason", REASONS)
async def test_what_the_log_took_and_nobody_can_count_is_there_with_its_reason(world: World, reason: str) -> None:
    before = REGISTRY.get_sample_value("streamlens_dlq_total", {"reason": reason})
    assert before is not None, "there before the first one"
    await world.pipeline.send("call", 0, "good")  # so that time is known
    await world.pipeline.idle(60)
    await world.pipeline.send_raw("call", EVENTS[reason], "k")
    await world.settle()
    (letter,) = await world.letters()
    place = letter["topic"], letter["partition"]
    assert (letter["reason"], place) == (reason, (CALLS, partition_of(b"k", PARTITIONS)))
    assert REGISTRY.get_sample_value("streamlens_dlq_total", {"reason": reason}) == before + 1
    assert world.outcomes()["late" if reason == "late" else "rejected"] == 1
    tenants = {"malformed": "", "invalid": "globex", "future": "acme", "late": "acme"}
    assert letter["tenant_id"] == tenants[reason]
    shown = await world.get(f"/v1/dlq/{CALLS}/{letter['partition']}/{letter['offset']}")
    assert shown == letter | {"value": EVENTS[reason].decode(), "encoding": "utf-8"}


async def test_letters_are_selected_and_the_newest_come_first(world: World) -> None:
    for minute, (tenant, topic) in enumerate([("acme", "call"), ("globex", "call"), ("acme", "request")]):
        world.pipeline.clock.at(60 * minute)
        await world.pipeline.send_raw(topic, call(str(minute), latency_ms=-1, route=5, tenant_id=tenant), str(minute))
        await world.settle()

    async def minutes(query: str) -> list[float]:
        times = [datetime.fromisoformat(letter["time"]) for letter in await world.letters(query)]
        return [(time.timestamp() - START // SECOND) / 60 for time in times]

    assert await minutes("") == [2, 1, 0]
    assert await minutes("?limit=2") == [2, 1]
    assert await minutes("?tenant_id=acme") == [2, 0]
    assert await minutes("?topic=llm.calls") == [1, 0]
    assert await minutes("?topic=llm.calls&tenant_id=acme&reason=invalid") == [0]
    assert await minutes("?reason=late") == []
    since, until = (START + MINUTE) // 1000, (START + 2 * MINUTE) // 1000
    assert await minutes(f"?from={since}&to={until}") == [1]
    assert await minutes(f"?from={since}") == [2, 1]


async def test_letters_are_continued_where_the_answer_before_has_ended(world: World) -> None:
    for number in range(5):
        await world.pipeline.send_raw("call", EVENTS["malformed"] + bytes([number]), str(number))
    await world.settle()
    every, seen, query = await world.letters(), [], "?limit=2"
    assert len(every) == 5
    for count in (2, 2, 1):
        async with world.site.http.get(f"/v1/dlq{query}") as answer:
            page = await answer.json()
        assert page["count"] == len(page["letters"]) == count
        seen += page["letters"]
        query = f"?limit=2&cursor={page['next']}"
        if page["next"]:
            assert answer.headers["Link"] == f'</v1/dlq?limit=2&cursor={page["next"]}>; rel="next"'
            world.pipeline.clock.at(count + len(seen))
            await world.pipeline.send_raw("call", EVENTS["malformed"], "newer: moves nothing")
            await world.settle()
    assert (seen, page["next"]) == (every, None)


async def test_bytes_that_are_no_text_come_in_base64_and_long_ones_cut(world: World) -> None:
    await world.pipeline.send_raw("call", b"\xff\x00", "short")
    await world.pipeline.send_raw("call", b"\xfe" * ((1 << 20) + 1), "long")
    await world.settle()
    by_size = {letter["size_bytes"]: letter for letter in await world.letters()}
    shown = {}
    for size, letter in by_size.items():
        shown[size] = await world.get(f"/v1/dlq/{CALLS}/{letter['partition']}/{letter['offset']}")
    assert (shown[2]["encoding"], base64.b64decode(shown[2]["value"])) == ("base64", b"\xff\x00")
    assert base64.b64decode(shown[1 << 20]["value"]) == b"\xfe" * (1 << 20)
    assert (shown[2]["truncated"], shown[1 << 20]["truncated"]) == (False, True)
    assert await world.replay() == {"bad_again": 1, "truncated": 1}


@pytest.mark.parametrize("name", ["llm.calls/0/1", "x/0/0", "%00/0/0", "llm.calls/-1/0", f"llm.calls/{1 << 31}/0"])
async def test_a_letter_that_is_not_there(world: World, name: str) -> None:
    answer = await world.site.http.get(f"/v1/dlq/{name}")
    assert (answer.status, (await answer.json())["detail"][:11]) == (404, "there is no")


async def test_a_letter_is_its_tenants(world: World) -> None:
    await world.pipeline.send_raw("call", EVENTS["invalid"], "k")
    await world.settle()
    path = f"/v1/dlq/{CALLS}/{partition_of(b'k', PARTITIONS)}/0"
    assert (await world.get(f"{path}?tenant_id=globex"))["tenant_id"] == "globex"
    assert (await world.site.http.get(f"{path}?tenant_id=acme")).status == 404


@pytest.mark.parametrize("query", BAD_CURSORS)
async def test_a_cursor_that_is_none_is_refused(tmp_path: Path, query: str) -> None:
    async with serving(tmp_path) as site:
        answer = await site.http.get(f"/v1/dlq?{query}")
        assert (answer.status, (await answer.json())["field"]) == (400, "cursor")


@pytest.mark.parametrize("query", BAD)
async def test_a_bad_parameter_is_named(tmp_path: Path, query: str) -> None:
    async with serving(tmp_path) as site:  # no pool: nothing of it may reach Postgres
        answers = [await site.http.get(f"/v1/dlq?{query}"), await site.http.post(f"/v1/dlq/replay?{query}")]
        problems = [await answer.json() for answer in answers]
    assert [problem["status"] for problem in problems] == [400, 400]
    assert {problem["field"] for problem in problems} == {query.partition("=")[0]}


@pytest.mark.parametrize(
    "query", [*BAD_REPLAYS, *(f"after={base64.urlsafe_b64encode(each).decode()}" for each in BAD_PLACES)]
)
async def test_a_bad_parameter_of_a_replay_is_named(tmp_path: Path, query: str) -> None:
    async with serving(tmp_path) as site:
        answer = await site.http.post(f"/v1/dlq/replay?{query}")
        problem = await answer.json()
    assert (answer.status, problem["field"]) == (400, query.partition("=")[0])


async def test_without_postgres_askers_are_told_to_come_again(tmp_path: Path) -> None:
    away = await PostgresStore.open("postgresql://nobody@127.0.0.1:1/nothing")
    async with serving(tmp_path, pool=away.pool) as site:
        paths = ["/v1/dlq", "/v1/dlq/llm.calls/0/0"]
        answers = [*[await site.http.get(path) for path in paths], await site.http.post("/v1/dlq/replay")]
        texts = [await answer.text() for answer in answers]
    await away.close()
    assert [(answer.status, answer.headers["Retry-After"]) for answer in answers] == [(503, "2")] * 3
    assert not [text for text in texts if "127.0.0.1" in text]


TENANTS = [
    (b'{"tenant_id":"acme","request_id":5}', "acme"),
    (b'{"tenant_id":"\xc3\xbc","latency_ms":"x"}', "\xfc"),
    (b'{"metadata":{"tenant_id":"other"}}', ""),
    (b'{"tenant_id":5}', ""),
    (b'{"tenant_id":["acme"]}', ""),
    (b'{"tenant_id":"a\\u0000b"}', ""),
    (b'{"tenant_id":"\\ud800"}', ""),
    (b'{"tenant_id":"' + b"x" * 257 + b'"}', ""),
    (b'{"tenant_id":"acme"', ""),
    (b'["tenant_id","acme"]', ""),
    (b'{"x":' + b"[" * 100_000, ""),
    (b'"tenant_id"\xff', ""),
    (b"", ""),
]


@pytest.mark.parametrize(("raw", "tenant_id"), TENANTS, ids=[repr(raw[:40]) for raw, _ in TENANTS])
def test_the_tenant_of_a_bad_event(raw: bytes, tenant_id: str) -> None:
    assert tenant_of(raw) == tenant_id


@pytest.mark.parametrize("page", ["api.md", "operations.md"])
def test_the_docs_say_what_each_reason_means(page: str) -> None:
    lines = (Path(__file__).parents[1] / "docs" / page).read_text().splitlines()
    assert {reason for reason in REASONS if any(line.startswith(f"| `{reason}` |") for line in lines)} == set(REASONS)


def test_the_docs_say_what_each_fate_means() -> None:
    lines = (Path(__file__).parents[1] / "docs" / "api.md").read_text().splitlines()
    assert {fate for fate in FATES if any(line.startswith(f"| `{fate}` |") for line in lines)} == set(FATES)
