"""Which calls are kept whole: whatever the order, whatever is killed, those that sorting all of them gives."""

import shutil
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import pytest

from pipeline import MINUTE, START, Pipeline
from streamlens.details import Answered, Asked, Details
from streamlens.keptcall import ERROR, SAMPLE, SLOW, WHY
from streamlens.userhash import UserHash
from tables import recent

Event = tuple[str, float, str, dict[str, Any]]


def c(at: float, request_id: str, **fields: Any) -> Event:
    return "call", at, request_id, fields


def held(pipeline: Pipeline) -> dict[str, set[str]]:
    """Why each call is kept, by request id."""
    rows = [row for row in pipeline.rows.recent.values() if row.call.why]
    found = {row.call.request_id: {name for bit, name in enumerate(WHY) if row.call.why >> bit & 1} for row in rows}
    assert len(found) == len(rows), "a call is kept twice"
    return found


def only(reason: str, kept: dict[str, set[str]]) -> list[str]:
    return sorted(name for name, why in kept.items() if reason in why)


async def counted(path: Path, events: list[Event], **options: Any) -> Pipeline:
    """One partition, after these events."""
    pipeline = Pipeline(path, 1, **options)
    await pipeline.open()
    pipeline.clock.at(120)
    for kind, at, request_id, fields in events:
        await pipeline.send(kind, at, request_id, **fields)
    await pipeline.settle()
    return pipeline


@pytest.fixture(autouse=True)
def bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, bound in (("ERRORS", 2), ("SLOWEST", 2), ("SAMPLED", 1)):
        monkeypatch.setattr(recent, name, bound)


SLOWER = [c(n, f"c{n}", latency_ms=100 + n) for n in range(9)]
CASES = [
    ("few calls are all kept, once", [c(1, "a"), c(2, "b")], "slow", ["a", "b"]),
    ("the slowest, when each is slower than those before", SLOWER, "slow", ["c7", "c8"]),
    ("and when each is faster", SLOWER[::-1], "slow", ["c7", "c8"]),
    ("of the equally slow those with the lower ids", [c(n, f"c{n}") for n in (3, 1, 2)], "slow", ["c1", "c2"]),
    (
        "the first errors of each class by their time, and not those that came first",
        [c(9 - n, f"c{n}", error_type=("timeout", "rate_limit")[n % 2]) for n in range(8)],
        "error",
        ["c4", "c5", "c6", "c7"],
    ),
    (
        "a type that is no class is of the class other, as is a text alone",
        [c(1, "a", error_type="quota"), c(2, "b", error="no"), c(3, "c", finish_reason="error")],
        "error",
        ["a", "b"],
    ),
    (
        "each minute and each tenant has its own",
        [*SLOWER, c(61, "late"), c(1, "theirs", tenant_id="other")],
        "slow",
        ["c7", "c8", "late", "theirs"],
    ),
    (
        "halves, in whatever order",
        [
            ("request", 1, "a", {}),
            ("response", 3, "a", {"error": "no"}),
            ("response", 3, "b", {"error": "no"}),
            ("request", 1, "b", {}),
            ("request", 1, "alone", {}),
        ],
        "error",
        ["a", "b"],
    ),
    ("a repeated call is kept once", [c(1, "a", error="no"), c(1, "a", error="no")], "error", ["a"]),
]


@pytest.mark.parametrize(("events", "reason", "kept"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
async def test_what_is_kept(tmp_path: Path, events: list[Event], reason: str, kept: list[str]) -> None:
    pipeline = await counted(tmp_path, events)
    assert only(reason, held(pipeline)) == kept
    await pipeline.close()


async def test_the_sample_is_of_whole_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "SAMPLED", 3)
    chosen, *others = sorted((f"s{n}" for n in range(20)), key=lambda name: crc32(name.encode()))
    calls = [c(1 + n, f"c{n}", session_id=others[n % 19]) for n in range(30)]
    calls += [c(20 + n, f"of-{n}", session_id=chosen) for n in range(3)]
    pipeline = await counted(tmp_path, calls)
    assert only("sample", held(pipeline)) == ["of-0", "of-1", "of-2"]
    await pipeline.close()


async def test_a_call_that_is_displaced_leaves_its_place_to_the_next(tmp_path: Path) -> None:
    pipeline = await counted(tmp_path, [])
    for n in range(40):
        await pipeline.send("call", n, f"c{n}", latency_ms=100 + n, error="no" if n % 7 == 0 else None)
        await pipeline.settle()
    rows = pipeline.rows.recent.values()
    assert {row.call.request_id for row in rows if row.call.why & SLOW} == {"c38", "c39"}
    assert {row.call.request_id for row in rows if row.call.why & ERROR} == {"c0", "c7"}
    assert len(rows) <= 2 + 2 + 1 + 1, "no more places than reasons to be kept, and the one that changes hands"
    assert all(row.call.request_id == "" and row.call.asked is None for row in rows if not row.call.why)
    await pipeline.close()


async def test_what_is_kept_for_one_reason_less_says_so(tmp_path: Path) -> None:
    first, *others = sorted((f"c{n}" for n in range(5)), key=lambda name: crc32(name.encode()))
    pipeline = await counted(tmp_path, [c(1, first, region="eu")])
    assert held(pipeline) == {first: {"slow", "sample"}}
    for name in others:
        await pipeline.send("call", 2, name, latency_ms=5_000)
    await pipeline.settle()
    assert held(pipeline)[first] == {"sample"}
    (row,) = (row for row in pipeline.rows.recent.values() if row.call.why & SAMPLE)
    assert row.call.asked is not None
    assert row.call.asked.region == "eu"
    await pipeline.close()


async def test_a_late_call_of_a_closed_window_is_weighed_against_those_that_were_kept(tmp_path: Path) -> None:
    pipeline = await counted(tmp_path, SLOWER)
    await pipeline.idle(600)
    await pipeline.send("call", 30, "slowest", latency_ms=9_000)
    await pipeline.send("call", 31, "fast", latency_ms=1)
    await pipeline.settle()
    assert only("slow", held(pipeline)) == ["c8", "slowest"]
    await pipeline.close()


async def test_nothing_stays_in_the_state_when_the_window_has_expired(tmp_path: Path) -> None:
    pipeline = await counted(tmp_path, SLOWER)
    await pipeline.idle(2 * 3600)
    await pipeline.idle(2 * 3600 + 60)
    for stage in (pipeline.join, pipeline.windows):
        assert list(stage.units[0].state.scan(recent.PREFIX, b"o")) == []
    assert len(pipeline.rows.recent) > 2, "Postgres has them for longer"
    await pipeline.close()


@pytest.mark.parametrize("seed", range(3))
async def test_the_order_and_kills_change_nothing(tmp_path: Path, seed: int) -> None:
    """The same calls, each time in another order and with other kills."""
    random = Random(seed)
    events = [
        c(
            random.choice((1, 2, 3, 61)),
            f"c{n}",
            latency_ms=random.randrange(1, 30),
            error_type=random.choice((None, None, "timeout", "rate_limit")),
            session_id=random.choice((None, "s1", "s2")),
        )
        for n in range(80)
    ]
    wanted = held(await counted(tmp_path / "straight", events))
    assert {reason for why in wanted.values() for reason in why} == set(WHY)
    random.shuffle(events)
    pipeline = await counted(tmp_path / "shuffled", [])
    for kind, at, request_id, fields in events:
        await pipeline.send(kind, at, request_id, **fields)
        match random.randrange(12):
            case 0:
                await pipeline.settle()
            case 1:
                await pipeline.consume(pipeline.join)
                await pipeline.close()
                await pipeline.open()
            case 2:
                await pipeline.settle()
                await pipeline.close()
                shutil.rmtree(tmp_path / "shuffled" / "pending")
                await pipeline.open()
    await pipeline.settle()
    assert held(pipeline) == wanted
    await pipeline.close()


async def test_ids_that_are_a_tenants_own_are_kept_as_they_were_sent(tmp_path: Path) -> None:
    calls = [c(1, "a", tenant_id=name) for name in ("acme", "other")]
    halves: list[Event] = [("request", 1, "b", {}), ("response", 2, "b", {"tenant_id": "acme"})]
    pipeline = await counted(tmp_path, [*calls, *halves], by_tenant=True)
    found = sorted((row.tenant_id, row.call.request_id) for row in pipeline.rows.recent.values())
    assert found == [("acme", "a"), ("acme", "b"), ("other", "a")]
    await pipeline.close()


async def test_what_was_captured_becomes_no_row_where_nothing_is_captured_now(tmp_path: Path) -> None:
    pipeline = await counted(
        tmp_path, [("request", 1, "a", {"prompt": "Hello", "region": "eu"})], details=Details(captures=True)
    )
    await pipeline.send("response", 2, "b", response="Hi!", finish_reason="stop")
    await pipeline.settle()
    await pipeline.close()
    pipeline.options["details"] = Details()
    await pipeline.open()
    await pipeline.send("response", 2, "a", response="Hi!")
    await pipeline.send("request", 1, "b", prompt="Hello")
    await pipeline.settle()
    calls = {row.call.request_id: row.call for row in pipeline.rows.recent.values()}
    assert (calls["a"].asked, calls["a"].answered) == (Asked(region="eu"), None)
    assert (calls["b"].asked, calls["b"].answered) == (None, Answered(finish_reason="stop"))
    await pipeline.close()


async def test_what_a_call_has(tmp_path: Path) -> None:
    told = {"experiment": {"name": "tone", "variant": "A"}, "metadata": {"big": 2**64 - 1}, "client": {"app": "ios"}}
    fields = {"user_id_hash": "ann", "session_id": "s1", "prompt": "Hello", "cost_usd": 0.25, **told}
    answered = {"error_type": "quota", "error": "no\0 sk-0123456789abcdefghij", "response": "Hi!"}
    users = UserHash("0123456789abcdef", str)
    for path, kind in (("whole", "call"), ("halves", "request")):
        details = Details(captures=True)
        events = [(kind, 1.5, "a", fields | answered if kind == "call" else fields)]
        if kind == "request":
            del fields["cost_usd"]
            events.append(("response", 1.6, "a", answered | {"cost_usd": 0.25}))
        pipeline = await counted(tmp_path / path, events, details=details, user_hash=users)
        (row,) = pipeline.rows.recent.values()
        call = row.call
        assert (row.tenant_id, call.request_id, call.at_us) == ("acme", "a", START + 1_500_000)
        assert (call.latency_us, call.cost_pico, call.error_type) == (100_000, "250000000000", "other")
        assert (call.user, call.session_id) == (users.of("acme", "ann"), "s1")
        assert call.asked is not None
        assert call.answered is not None
        assert (call.asked.prompt, call.answered.response) == ("Hello", "Hi!")
        assert (call.asked.experiment, call.asked.metadata) == ("tone", b'{"big":18446744073709551615}')
        assert (call.answered.error_type, call.answered.error) == ("quota", "no\ufffd sk-0123456789abcdefghij")
        assert row.window_start_us == START // MINUTE * MINUTE
        await pipeline.close()
