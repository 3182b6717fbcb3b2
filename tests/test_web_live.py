"""Rows as they change, over HTTP: whose they are, who comes back, who is slow, who is too many, and the end."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

import streamlens.listener
import streamlens.live
import web.live
from guarded_site import OTHER, TENANT, Guarded, guarded
from live_stream import WITHIN_S, change, listening
from streamlens.errors import Unavailable
from streamlens.keys import sha256_of
from streamlens.live import Live
from streamlens.locallog.local import LocalLog
from streamlens.log import TP, Record, TopicSpec
from streamlens.topics import METRICS
from web.metricsrow import MetricsRow
from web_server import PARTITIONS, Site, serving

__all__ = ["guarded"]


@pytest.fixture(autouse=True)
def soon_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that have gone, and keys that were revoked."""
    monkeypatch.setattr(web.live, "LOOK_S", 0.05)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with serving(tmp_path) as site:
        yield site


async def all_gone() -> None:
    live = web.live.current().live
    await soon(lambda: live._task is None)


async def soon(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110  # of what the server holds
            await asyncio.sleep(0.01)


async def test_a_changed_row_comes_as_it_stands_in_the_topic(site: Site) -> None:
    async with listening(site.http) as stream:
        assert (stream.answer.content_type, stream.answer.charset) == ("text/event-stream", "utf-8")
        assert stream.answer.headers["Cache-Control"] == "no-store"
        assert stream.answer.headers["X-Accel-Buffering"] == "no"
        for partition in range(PARTITIONS):
            await change(site.log, f"/{partition}", partition=partition)
            told = await stream.until("rows")
            (row,) = told.data["metrics"]
            msgspec.convert(row, type=MetricsRow)  # the row of `/v1/metrics`, no field more or less
            assert (row["tenant_id"], row["route"], row["requests"]) == ("acme", f"/{partition}", 1)
            assert (row["window_start"], row["estimated_cost_usd"]) == ("2026-11-18T12:00:00Z", None)


async def test_a_tenant_is_told_its_own_rows(site: Site) -> None:
    async with listening(site.http, tenant_id="acme") as acme, listening(site.http) as everything:
        await change(site.log, "/foreign", tenant_id="other")
        await change(site.log, "/own")
        assert await acme.rows(1) == ["/own"]
        assert await everything.rows(2) == ["/foreign", "/own"]


async def test_bytes_that_are_no_row_of_ours_break_no_stream(site: Site) -> None:
    bad = [b"{", b"[]", b'{"tenant_id": 1}', b'{"tenant_id":\n"acme"}', b'{"tenant_id": "acme"}\r\nevent: x', b"\xff"]
    async with listening(site.http) as stream:
        await site.log.append({TP(METRICS, 0): [Record(None, value) for value in bad]})
        await change(site.log, "/good")
        assert await stream.rows(1) == ["/good"]


# -- coming back -----------------------------------------------------------------------------------------------------


async def test_who_comes_back_has_no_gap_and_nothing_twice(site: Site) -> None:
    async with listening(site.http, tenant_id="acme") as stream:
        await change(site.log, "/1")
        await stream.rows(1)
    await all_gone()
    await change(site.log, "/2", "/3")
    await change(site.log, "/foreign", tenant_id="other", partition=2)
    await change(site.log, "/4", partition=3)
    async with listening(site.http, stream.last_id, tenant_id="acme") as again:
        await change(site.log, "/5")
        assert await again.rows(4) == ["/2", "/3", "/4", "/5"]
    # And while the other one is still there, or somebody else is: whatever was told to it meanwhile.
    async with listening(site.http, again.last_id, tenant_id="acme") as last:
        await change(site.log, "/6")
        await change(site.log, "/7", partition=1)
        assert sorted(await last.rows(2)) == ["/6", "/7"]


async def test_one_who_was_told_nothing_yet_comes_back_without_a_gap(site: Site) -> None:
    async with listening(site.http) as stream:
        pass
    await all_gone()
    await change(site.log, "/1")
    async with listening(site.http, stream.last_id) as again:
        assert await again.rows(1) == ["/1"]


async def test_others_rows_are_none_that_were_missed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.live, "BEAT_S", 0.0)
    async with listening(site.http, tenant_id="acme") as stream:
        begun = stream.last_id
        await change(site.log, "/foreign", tenant_id="other")
        reading = asyncio.create_task(stream.next())
        await soon(lambda: stream.last_id != begun)
        assert stream.beats
        reading.cancel()


def of_nobody(last_id: str) -> str:
    return "00000000" + last_id[8:]


def ahead(last_id: str) -> str:
    return last_id[:-1] + "9"


STRANGE: list[Callable[[str], str]] = [of_nobody, ahead, lambda _: "x", lambda i: i + ".0", lambda i: i[:-1] + "-1"]


@pytest.mark.parametrize("strange", STRANGE, ids=range(len(STRANGE)))
async def test_a_position_that_is_not_ours_begins_anew(site: Site, strange: Callable[[str], str]) -> None:
    async with listening(site.http) as stream:
        pass
    async with listening(site.http, strange(stream.last_id)) as again:
        assert (told := await again.next()) is not None
        assert (told.event, again.last_id) == ("resync", stream.last_id)


async def test_who_has_missed_too_much_or_what_is_deleted_begins_anew(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(site.http) as stream:
        pass
    await all_gone()
    await change(site.log, "/1", "/2", "/3")
    monkeypatch.setattr(streamlens.live, "MOST_MISSED", 2)
    async with listening(site.http, stream.last_id) as again:
        await again.until("resync")
        await change(site.log, "/4")
        assert await again.rows(1) == ["/4"]
    monkeypatch.setattr(streamlens.live, "MOST_MISSED", 2_000)
    await all_gone()
    await site.log.delete_before(TP(METRICS, 0), 2)
    async with listening(site.http, stream.last_id) as again:
        await again.until("resync")


# -- bounds ----------------------------------------------------------------------------------------------------------


async def test_who_takes_it_too_slowly_costs_no_memory_and_begins_anew(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamlens.listener, "QUEUE_BYTES", 400_000)
    monkeypatch.setattr(streamlens.live, "EVERY_S", 0.0)
    live = web.live.current().live
    many = [f"/{number:0250}" for number in range(200)]
    async with listening(site.http) as slow, listening(site.http) as quick:
        sent = 0
        while not any(each._overrun for each in live._listeners):
            await change(site.log, *many)
            sent += 1
            assert await quick.rows(len(many)) == many
            assert all(each._bytes <= 400_000 for each in live._listeners)
            assert sent < 1_000, "the sockets' buffers are full by now"
        await change(site.log, "/quick")
        assert await quick.rows(1) == ["/quick"]
        await slow.until("resync")
        await change(site.log, "/after")
        assert "/after" in (await slow.until("rows")).names


async def test_who_takes_nothing_at_all_is_let_go(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.live, "SLOW_S", 0.2)
    live = web.live.current().live
    many = [f"/{number:0250}" for number in range(500)]
    async with listening(site.http):
        async with asyncio.timeout(WITHIN_S):
            while live._listeners:
                await change(site.log, *many)
                await asyncio.sleep(0.05)
    await change(site.log, "/served")


async def test_so_many_may_listen_and_of_one_tenant_fewer(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamlens.live, "MOST_LISTENERS", 3)
    monkeypatch.setattr(streamlens.live, "MOST_OF_TENANT", 1)
    async with listening(site.http, tenant_id="b"), listening(site.http):
        async with listening(site.http, tenant_id="acme"):
            for query in ({"tenant_id": "c"}, {}):
                refused = await site.http.get("/v1/live", params=query)
                assert (refused.status, refused.headers["Retry-After"]) == (503, "10")
                assert refused.content_type == "application/problem+json"
        assert (await site.http.get("/v1/live", params={"tenant_id": "b"})).status == 503
        live = web.live.current().live
        await soon(lambda: len(live._listeners) == 2)
        async with listening(site.http, tenant_id="acme"):
            pass


class Counting:
    """A log whose questions are counted, and which can be away."""

    def __init__(self, log: LocalLog) -> None:
        self.log = log
        self.asked = 0
        self.read_runs = 0
        self.away = False

    async def offsets(self, tps: list[TP]) -> dict[TP, tuple[int, int]]:
        self.asked += 1
        if self.away:
            raise Unavailable("away")
        return await self.log.offsets(tps)

    async def read(self, tp: TP, offset: int, max_bytes: int = 1) -> Any:
        self.read_runs += 1
        return await self.log.read(tp, offset, max_bytes)


@pytest.fixture
async def counting(tmp_path: Path) -> AsyncIterator[Counting]:
    log = LocalLog.open(tmp_path / "counted", sync=False)
    await log.create_topics([TopicSpec(METRICS, PARTITIONS)])
    yield Counting(log)
    await log.stop()


async def test_the_topic_is_read_once_for_all_and_not_at_all_for_nobody(
    tmp_path: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    live: Any = Live(counting, "id", PARTITIONS, lambda: False)  # type: ignore[arg-type]
    async with serving(tmp_path, live=live) as site:
        assert (counting.asked, live._task) == (0, None)
        async with AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(listening(site.http)) for _ in range(20)]
            await change(counting.log, "/1")
            assert [await stream.rows(1) for stream in streams] == [["/1"]] * 20
            assert counting.read_runs == 1
            task = live._task
        await soon(task.done)
        asked = counting.asked
        await change(counting.log, "/2")
        async with listening(site.http):
            await change(counting.log, "/3")
        assert counting.asked > asked


async def test_while_the_log_or_postgres_is_away_the_stream_stays_and_says_so(
    tmp_path: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamlens.live, "_RETRY_S", 0.02)
    postgres_away = False
    live: Any = Live(counting, "id", PARTITIONS, lambda: postgres_away)  # type: ignore[arg-type]
    async with serving(tmp_path, live=live) as site, listening(site.http) as stream:
        counting.away = True
        assert "log" in (await stream.until("stale")).data["reason"]
        await change(counting.log, "/1")
        async with listening(site.http) as later:
            assert (await later.next()).event == "stale"  # type: ignore[union-attr]
        counting.away = False
        assert {(await stream.next()).event, (await stream.next()).event} == {"rows", "fresh"}  # type: ignore[union-attr]
        postgres_away = True
        assert "Postgres" in (await stream.until("stale")).data["reason"]
        await change(counting.log, "/2")
        assert await stream.rows(1) == ["/2"]
        postgres_away = False
        await stream.until("fresh")
    counting.away = True
    async with serving(tmp_path, live=Live(counting, "id", PARTITIONS, lambda: False)) as site:  # type: ignore[arg-type]
        assert (await site.http.get("/v1/live")).status == 503


async def test_far_behind_it_goes_on_at_the_end(
    tmp_path: Path, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamlens.live, "_RETRY_S", 0.02)
    monkeypatch.setattr(streamlens.live, "MOST_BEHIND", 2)
    live: Any = Live(counting, "id", PARTITIONS, lambda: False)  # type: ignore[arg-type]
    async with serving(tmp_path, live=live) as site, listening(site.http) as stream:
        await change(counting.log, "/1", "/2", "/3")
        await stream.until("resync")
        await change(counting.log, "/4")
        assert await stream.rows(1) == ["/4"]


# -- keys ------------------------------------------------------------------------------------------------------------


def with_key(guarded: Guarded, secret: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(f"http://127.0.0.1:{guarded.site.port}", headers={"X-API-Key": secret})


async def test_a_tenants_key_is_told_that_tenants_rows_also_of_what_it_missed(guarded: Guarded) -> None:
    log = guarded.site.log
    async with (
        with_key(guarded, guarded.secrets[TENANT, "read"]) as own,
        with_key(guarded, guarded.secrets[None, "read"]) as every,
    ):
        async with listening(own) as mine, listening(every) as all_rows:
            for tenant_id in (OTHER, TENANT):
                await change(log, "/" + tenant_id, tenant_id=tenant_id)
            assert await mine.rows(1) == ["/" + TENANT]
            assert await all_rows.rows(2) == ["/" + OTHER, "/" + TENANT]
        await all_gone()
        for tenant_id in (OTHER, TENANT):
            await change(log, "/again" + tenant_id, tenant_id=tenant_id)
        async with listening(own, mine.last_id) as mine:
            assert await mine.rows(1) == ["/again" + TENANT]
        assert (await own.get("/v1/live", params={"tenant_id": OTHER})).status == 403


async def test_a_revoked_key_ends_its_stream(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = guarded.secrets[TENANT, "read"]
    async with with_key(guarded, secret) as http, listening(http) as stream:
        await change(guarded.site.log, "/before")
        await stream.rows(1)
        guarded.known = [key for key in guarded.known if key.sha256 != sha256_of(secret)]
        await guarded.keys.refresh()
        assert await stream.next() is None
        assert (await http.get("/v1/live")).status == 401


# -- the end ---------------------------------------------------------------------------------------------------------


async def test_the_end_ends_all_streams_at_once(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        async with serving(tmp_path) as site:
            http = await stack.enter_async_context(aiohttp.ClientSession(f"http://127.0.0.1:{site.port}"))
            streams = [await stack.enter_async_context(listening(http)) for _ in range(5)]
            began = time.monotonic()
        assert time.monotonic() - began < 1.5
        assert [await stream.next() for stream in streams] == [None] * 5


async def test_a_look_at_the_headers_is_no_stream(site: Site) -> None:
    answer = await site.http.head("/v1/live")
    assert (answer.status, answer.content_type) == (200, "text/event-stream")
    assert web.live.current().live._task is None
