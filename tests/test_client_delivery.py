"""The client and a server that refuses, breaks off or hangs: what was sent is repeated as it was, the rest is told."""

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from client_peer import Event, Peer, Step
from process_server import free_port, until
from streamlens.client import AsyncClient, Client, Stats, sender

CALL: dict[str, Any] = {"route": "chat", "model": "m", "latency_ms": 5}
NOTHING = {"sent": 0, "rejected": 0, "dropped": 0, "waiting": 0, "retried": 0, "reasons": ()}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-offs of a fiftieth."""
    monkeypatch.setattr(sender, "FIRST_BACKOFF_S", 0.005)
    monkeypatch.setattr(sender, "LONGEST_BACKOFF_S", 0.05)


def stats(**counts: Any) -> Stats:
    return Stats(**(NOTHING | counts))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "streamlens.client"]


@pytest.mark.parametrize(
    ("plan", "retried"),
    [
        pytest.param([], 0, id="answered at once"),
        pytest.param([503, 503, 503], 9, id="starting"),
        pytest.param([(429, "0"), 408, 502, 504], 12, id="a rate limit, and proxies"),
        pytest.param(["close", "close"], 6, id="the connection ends without an answer"),
        pytest.param(["store and close"], 3, id="stored, but the answer is lost"),
        pytest.param(["half an answer", 503, "store and close"], 9, id="an answer that ends early, and more"),
        pytest.param(["hang"], 3, id="silence for longer than the timeout"),
        pytest.param([(503, "tomorrow")], 3, id="a Retry-After that is no number"),
    ],
)
def test_a_body_is_repeated_as_it_was_until_it_is_answered(plan: list[Step], retried: int) -> None:
    with Peer(*plan).running() as peer, Client(peer.url, timeout_s=0.3) as client:
        ids = [client.call(**CALL) for _ in range(3)]
        assert client.flush()
        assert client.stats == stats(sent=3, retried=retried)
    assert [body.raw for body in peer.bodies] == [peer.bodies[0].raw] * (len(plan) + 1)
    assert peer.ids() == ids


def test_a_repetition_waits_as_long_as_the_server_asks(caplog: pytest.LogCaptureFixture) -> None:
    with Peer((503, "1")).running() as peer, Client(peer.url) as client:
        client.call(**CALL)
        assert client.flush()
    first, second = peer.bodies
    assert 1.0 <= second.at_s - first.at_s < 5.0
    assert warnings(caplog) == [f"{peer.url}: 0 events dropped, 0 rejected, 1 waiting: HTTP 503"]


def test_a_server_that_is_not_there_yet_is_waited_for() -> None:
    port, peer = free_port(), Peer()
    with Client(f"http://127.0.0.1:{port}/") as client:
        request_id = client.call(**CALL)
        until(lambda: client.stats.retried > 2, "some attempts")
        with peer.running(port):
            assert client.flush()
    assert (peer.ids(), client.stats.sent, client.stats.rejected) == ([request_id], 1, 0)


@pytest.mark.parametrize("step", [301, 400, 401, 403, 404, 413, 415, 500, "page"])
def test_what_is_refused_for_good_is_not_repeated_and_told(step: Step, caplog: pytest.LogCaptureFixture) -> None:
    with Peer(step).running() as peer, Client(peer.url) as client:
        client.call(**CALL)
        client.call(**CALL)
        assert client.flush()
        client.call(**CALL)
    assert (client.stats.sent, client.stats.rejected, client.stats.retried) == (1, 2, 0)
    status = 200 if step == "page" else step
    (reason,) = client.stats.reasons
    assert reason.startswith(f"HTTP {status}: ") and ("not today" in reason or "hotel" in reason)
    assert len(peer.bodies) == 2 and {body.path for body in peer.bodies} == {"/v1/llm/events"}
    (warning,) = warnings(caplog)
    assert re.search(r": 0 events dropped, 2 rejected, \d waiting: ", warning) and warning.endswith(reason)


def test_the_events_of_a_body_that_are_not_good_are_counted_with_the_reason() -> None:
    with Peer(refuse=lambda event: event["route"] == "bad").running() as peer, Client(peer.url) as client:
        for route in ("bad", "good", "bad"):
            client.call(**CALL | {"route": route})
        assert client.flush()
        client.call(**CALL | {"route": "bad"})
        assert client.flush()
    assert client.stats == stats(sent=1, rejected=3, reasons=("route: refused",))


class Rude:
    def __str__(self) -> str:
        raise RuntimeError("no")


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"metadata": {"x": float("nan")}}, "can't be encoded: ValueError"),
        ({"latency_ms": float("nan")}, "can't be encoded: ValueError"),
        ({"latency_ms": "fast"}, "can't be encoded: TypeError"),
        ({"route": "\ud800"}, "can't be encoded: UnicodeEncodeError"),
        ({"prompt": LOOP}, "can't be encoded: ValueError"),
        ({"prompt": Rude()}, "can't be encoded: RuntimeError"),
        ({"prompt": "x" * 600_000}, "larger than 524,288 bytes"),
    ],
)
def test_what_cannot_be_sent_is_counted_and_raises_nothing(fields: dict[str, Any], reason: str) -> None:
    with Client("http://127.0.0.1:9") as client:
        client.call(**CALL | fields)
        assert client.stats == stats(rejected=1, reasons=(reason,))


@pytest.mark.parametrize(
    ("bounds", "kept"), [({"max_events": 10}, 10), ({"max_bytes": 2_000}, 4)], ids=["of events", "of bytes"]
)
def test_a_full_buffer_drops_the_new_ones_and_says_so_once(
    bounds: dict[str, int], kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    with Peer("hang").running() as peer:
        client = Client(peer.url, **bounds)
        ids = [client.call(**CALL, prompt="x" * 300) for _ in range(500)]
        assert client.stats == stats(waiting=kept, dropped=500 - kept)
        assert warnings(caplog) == [
            f"{peer.url}: 1 events dropped, 0 rejected, {kept} waiting: more events than can be sent"
        ]
        peer.release.set()
        assert client.flush()
        more = client.call(**CALL)
        assert client.close()
    assert peer.ids() == [*ids[:kept], more]
    assert client.stats == stats(sent=kept + 1, dropped=500 - kept, retried=client.stats.retried)
    assert len(warnings(caplog)) == 2, "at the end all are told"
    assert f"{500 - kept} events dropped" in warnings(caplog)[1]


def test_recording_does_not_wait_for_a_server_that_hangs() -> None:
    with Peer(*["hang"] * 3).running() as peer, Client(peer.url, interval_s=0.01) as client:
        client.call(**CALL)
        until(lambda: bool(peer.bodies), "the first body is on its way")
        began = time.perf_counter()
        for _ in range(2_000):
            client.call(**CALL)
        assert time.perf_counter() - began < 2.0, "of the client's 10 s timeout nothing is felt"
        peer.release.set()
        assert client.flush()
    assert len(peer.stored) == client.stats.sent == 2_001


def test_threads_share_a_client() -> None:
    refused = [503, "store and close", "close", "half an answer"]
    with Peer(*refused * 3).running() as peer, Client(peer.url, batch_events=100, interval_s=0.05) as client:
        ids: list[str] = []
        threads = [
            threading.Thread(target=lambda: ids.extend([client.call(**CALL) for _ in range(500)])) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.flush(30)
        assert (client.stats.sent, client.stats.waiting) == (4_000, 0)
    assert sorted(peer.ids()) == sorted(ids)
    assert max(len(body.events) for body in peer.bodies) == 100


def test_close_drops_what_has_no_answer_in_time_and_takes_nothing_more(caplog: pytest.LogCaptureFixture) -> None:
    with Peer(*[(503, "300")] * 9).running() as peer:
        client = Client(peer.url)
        client.call(**CALL)
        client.log("info", "hello")
        until(lambda: bool(peer.bodies), "the first attempt")
        assert client.close(0.2) is False
        client.call(**CALL)
    assert client.stats == stats(dropped=3, retried=client.stats.retried)
    assert warnings(caplog)[-1].startswith(f"{peer.url}: 2 events dropped, 0 rejected, 0 waiting: HTTP 503")
    assert client.close(0.2) is True


def test_an_answer_after_the_end_changes_no_number() -> None:
    with Peer("late").running() as peer:
        client = Client(peer.url)
        client.call(**CALL)
        assert client.close(0.2) is False
        told = client.stats
        peer.release.set()
        thread = client._sender._thread
        assert thread is not None
        thread.join(10)
        assert not thread.is_alive()
    assert client.stats == told == stats(dropped=1)


def test_close_tries_at_once_what_waits_for_its_next_attempt() -> None:
    with Peer((503, "300")).running() as peer:
        client = Client(peer.url)
        request_id = client.call(**CALL)
        until(lambda: bool(peer.bodies), "the first attempt")
        assert client.close() is True
    assert (peer.ids(), client.stats) == ([request_id], stats(sent=1, retried=1))


def test_flush_says_when_the_time_was_too_short() -> None:
    with Peer("hang").running() as peer, Client(peer.url) as client:
        client.call(**CALL)
        assert client.flush(0.05) is False
        peer.release.set()
        assert client.flush() is True


def test_a_logging_handler_that_raises_or_records_breaks_nothing() -> None:
    class Hostile(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            client.log("warning", record.getMessage())
            raise RuntimeError("no")

    handler = Hostile()
    logging.getLogger("streamlens.client").addHandler(handler)
    try:
        with Peer(500).running() as peer, Client(peer.url) as client:
            client.call(**CALL)
            assert client.flush()
            until(lambda: client.stats.sent == 1, "the line about the rejection")
        assert (client.stats.sent, client.stats.rejected) == (1, 1)
    finally:
        logging.getLogger("streamlens.client").removeHandler(handler)


async def test_the_loop_goes_on_while_an_async_client_waits() -> None:
    with Peer("hang").running() as peer:
        async with AsyncClient(peer.url) as client:
            request_id = client.call(**CALL)
            flushing = asyncio.create_task(client.flush())
            await asyncio.to_thread(until, lambda: bool(peer.bodies), "the body is on its way")
            assert not flushing.done()
            peer.release.set()
            assert await asyncio.wait_for(flushing, 10)
            later = client.call(**CALL)
        assert peer.ids() == [request_id, later]
        assert (client.stats.sent, client.stats.retried) == (2, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "localhost:8080"},
        {"url": "ftp://a"},
        {"url": "http://"},
        {"url": "http://a?b=c"},
        {"url": "http://a:port"},
        {"url": "http://user:secret@a"},
        {"key": ""},
        {"key": "sl_a\r\nHost: b"},
        {"max_events": 0},
        {"interval_s": 0},
        {"timeout_s": -1},
    ],
)
def test_wrong_arguments_are_told_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^((?!Host: b|secret).)*$"):
        Client(**{"url": "http://127.0.0.1:8080"} | wrong)


def recorded(record: Callable[[Client], object], **options: Any) -> tuple[str, Event, dict[str, str]]:
    """Route, event and headers of what a client has sent alone."""
    with Peer().running() as peer:
        with Client(peer.url, **options) as client:
            record(client)
        assert client.stats == stats(sent=1)
    (body,) = peer.bodies
    (event,) = body.events
    return body.path, event, body.headers


@pytest.mark.parametrize(
    ("record", "path", "members"),
    [
        (
            lambda client: client.call(route="a", model="b", latency_ms=1.5, request_id="r", error=None),
            "/v1/llm/events",
            {"type": "call", "request_id": "r", "route": "a", "model": "b", "latency_ms": 1.5},
        ),
        (
            lambda client: client.request(route="a", model="b", prompt_tokens=3, request_id="r"),
            "/v1/llm/events",
            {"type": "request", "request_id": "r", "route": "a", "model": "b", "prompt_tokens": 3},
        ),
        (
            lambda client: client.response("r", completion_tokens=3),
            "/v1/llm/events",
            {"type": "response", "request_id": "r", "completion_tokens": 3},
        ),
        (
            lambda client: client.evaluation("r", "polite", score=0.5, label="yes"),
            "/v1/evaluations",
            {"request_id": "r", "name": "polite", "score": 0.5, "label": "yes"},
        ),
        (
            lambda client: client.log("info", "hé\u2028llo\n", event_id="e"),
            "/api/v1/ingest/app",
            {"event_id": "e", "level": "info", "message": "hé\u2028llo\n"},
        ),
        (
            lambda client: client.metric("m", 2, unit="ms", event_id="e"),
            "/api/v1/ingest/metrics",
            {"event_id": "e", "name": "m", "value": 2, "unit": "ms"},
        ),
    ],
    ids=["call", "request", "response", "evaluation", "log", "metric"],
)
def test_each_kind_has_its_route_and_its_time(
    record: Callable[[Client], object], path: str, members: dict[str, Any]
) -> None:
    before = time.time_ns() // 1_000_000
    at, event, headers = recorded(record, key="sl_secret", tenant_id="acme", sender="shop/1.2")
    assert at == path
    assert before - 2 <= event.pop("timestamp") <= time.time_ns() // 1_000_000
    assert event == {"tenant_id": "acme", "sender": "shop/1.2", **members}
    assert (headers["Authorization"], headers["User-Agent"]) == ("Bearer sl_secret", "streamlens-client/1")


def test_a_call_began_before_it_was_over() -> None:
    now = time.time_ns() // 1_000_000
    _, event, _ = recorded(lambda client: client.call(route="a", model="b", latency_ms=60_000.0))
    assert now - 60_000 <= event["timestamp"] <= now - 50_000


def test_what_names_its_own_tenant_and_time_keeps_them() -> None:
    _, event, _ = recorded(lambda client: client.call(**CALL, tenant_id="b", timestamp=17), tenant_id="a")
    assert (event["tenant_id"], event["timestamp"]) == ("b", 17)


def test_two_equal_lines_of_a_moment_are_two() -> None:
    with Peer().running() as peer, Client(peer.url) as client:
        for _ in range(2):
            client.log("info", "hello", timestamp=1_800_000_000_000)
            client.metric("m", 1, timestamp=1_800_000_000_000)
        assert client.flush()
    assert len(peer.stored) == client.stats.sent == 4
