"""What the join counts: events in, the ledger's and the windows' exact contents out."""

from pathlib import Path
from typing import Any

import pytest

from pipeline import Pipeline

Event = tuple[str, float, str, dict[str, Any]]


def q(at: float, request_id: str = "r1", **fields: Any) -> Event:
    return "request", at, request_id, fields


def r(at: float, request_id: str = "r1", **fields: Any) -> Event:
    return "response", at, request_id, fields


def c(at: float, request_id: str = "r1", **fields: Any) -> Event:
    return "call", at, request_id, fields


ONE_CALL = {("acme", 0): {"received": 2, "aggregated": 2}}

CASES = [
    ("a request and its response are one call", [q(1), r(2)], ONE_CALL, 1),
    ("the order of arrival does not matter", [r(2), q(1)], ONE_CALL, 1),
    (
        "a call belongs to the minute of its request",
        [q(59), r(61)],
        {("acme", 0): {"received": 2, "aggregated": 2}},
        1,
    ),
    (
        "a response that came first moves to its request's tenant and minute",
        [r(61), q(59)],
        {("acme", 0): {"received": 2, "aggregated": 2}},
        1,
    ),
    ("a whole call needs no join", [c(1)], {("acme", 0): {"received": 1, "aggregated": 1}}, 1),
    ("a request alone is pending", [q(1)], {("acme", 0): {"received": 1, "pending": 1}}, 0),
    ("a response alone is pending, of nobody", [r(1)], {("", 0): {"received": 1, "pending": 1}}, 0),
    (
        "a repeated request is a duplicate",
        [q(1), q(1), r(2)],
        {("acme", 0): {"received": 3, "aggregated": 2, "duplicate": 1}},
        1,
    ),
    (
        "a response that repeats after the join is a duplicate, of nobody",
        [q(1), r(2), r(2)],
        {**ONE_CALL, ("", 0): {"received": 1, "duplicate": 1}},
        1,
    ),
    (
        "a repeated pair is two duplicates",
        [q(1), r(2), q(1), r(2)],
        {("acme", 0): {"received": 3, "aggregated": 2, "duplicate": 1}, ("", 0): {"received": 1, "duplicate": 1}},
        1,
    ),
    (
        "a repeated call is a duplicate",
        [c(1), c(1)],
        {("acme", 0): {"received": 2, "aggregated": 1, "duplicate": 1}},
        1,
    ),
    (
        "a request beside its whole call is a duplicate, in whatever order",
        [q(1), c(1)],
        {("acme", 0): {"received": 2, "aggregated": 1, "duplicate": 1}},
        1,
    ),
    (
        "a request after its whole call is a duplicate",
        [c(1), q(1)],
        {("acme", 0): {"received": 2, "aggregated": 1, "duplicate": 1}},
        1,
    ),
    ("a response that names its tenant joins that tenant's request", [q(1), r(2, tenant_id="acme")], ONE_CALL, 1),
    ("and so it does when it came first", [r(2, tenant_id="acme"), q(1)], ONE_CALL, 1),
    (
        "a response that names another tenant does not",
        [q(1), r(2, tenant_id="evil")],
        {("acme", 0): {"received": 1, "pending": 1}, ("", 0): {"received": 1, "pending": 1}},
        0,
    ),
    (
        "nor does it take the place of the right one",
        [r(2, tenant_id="evil"), q(1), r(2)],
        {**ONE_CALL, ("", 0): {"received": 1, "pending": 1}},
        1,
    ),
]


CHECKPOINTS = ["one checkpoint", "a checkpoint after each event", "a kill after each event"]


@pytest.mark.parametrize(("events", "ledger", "calls"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
@pytest.mark.parametrize("checkpoints", CHECKPOINTS)
async def test_join(tmp_path: Path, events: list[Event], ledger: dict[Any, Any], calls: int, checkpoints: str) -> None:
    await _joins(Pipeline(tmp_path), events, ledger, calls, checkpoints)


A, B = {"tenant_id": "acme"}, {"tenant_id": "evil"}
EVIL_CALL = {("evil", 0): {"received": 2, "aggregated": 2}}
BY_TENANT = [
    ("a request and its response are one call", [q(1), r(2, **A)], ONE_CALL, 1),
    ("the order of arrival does not matter", [r(2, **A), q(1)], ONE_CALL, 1),
    ("two tenants may use one id", [q(1), q(1, **B), r(2, **B), r(2, **A)], {**ONE_CALL, **EVIL_CALL}, 2),
    (
        "another tenant's response waits alone",
        [q(1), r(2, **B)],
        {("acme", 0): {"received": 1, "pending": 1}, ("", 0): {"received": 1, "pending": 1}},
        0,
    ),
    (
        "another tenant's response, first or last, changes nothing",
        [r(1, **B), q(1), r(2, **A), r(3, **B)],
        {**ONE_CALL, ("", 0): {"received": 2, "pending": 1, "duplicate": 1}},
        1,
    ),
    (
        "another tenant's request makes none a duplicate",
        [q(1, **B), q(1), r(2, **A)],
        {**ONE_CALL, ("evil", 0): {"received": 1, "pending": 1}},
        1,
    ),
    (
        "another tenant's whole call takes no half away",
        [q(1), c(1, **B), r(2, **A)],
        {**ONE_CALL, ("evil", 0): {"received": 1, "aggregated": 1}},
        2,
    ),
    (
        "another tenant's whole call makes none a duplicate",
        [c(1, **B), c(1)],
        {("acme", 0): {"received": 1, "aggregated": 1}, ("evil", 0): {"received": 1, "aggregated": 1}},
        2,
    ),
    (
        "an own repeat is a duplicate",
        [q(1), q(1), r(2, **A), c(1), r(2, **A)],
        {
            ("acme", 0): {"received": 4, "aggregated": 2, "duplicate": 2},
            ("", 0): {"received": 1, "duplicate": 1},
        },
        1,
    ),
    (
        "an own whole call says all that a half could",
        [q(1), r(2), c(1)],
        {
            ("acme", 0): {"received": 2, "aggregated": 1, "duplicate": 1},
            ("", 0): {"received": 1, "pending": 1},
        },
        1,
    ),
    (
        "what names no tenant joins nothing",
        [q(1), r(2)],
        {("acme", 0): {"received": 1, "pending": 1}, ("", 0): {"received": 1, "pending": 1}},
        0,
    ),
]


@pytest.mark.parametrize(
    ("events", "ledger", "calls"), [case[1:] for case in BY_TENANT], ids=[case[0] for case in BY_TENANT]
)
@pytest.mark.parametrize("checkpoints", CHECKPOINTS)
async def test_with_keys_an_id_is_one_tenants_own(
    tmp_path: Path, events: list[Event], ledger: dict[Any, Any], calls: int, checkpoints: str
) -> None:
    await _joins(Pipeline(tmp_path, by_tenant=True), events, ledger, calls, checkpoints)


async def _joins(pipeline: Pipeline, events: list[Event], ledger: dict[Any, Any], calls: int, checkpoints: str) -> None:
    await pipeline.open()
    pipeline.clock.at(65)
    for kind, at, request_id, fields in events:
        await pipeline.send(kind, at, request_id, **fields)
        if checkpoints != "one checkpoint":
            await pipeline.consume(pipeline.join)
            await pipeline.join.tick()
        if checkpoints == "a kill after each event":
            await pipeline.close()
            await pipeline.open()
    await pipeline.settle()
    assert pipeline.ledger() == ledger
    assert sum(pipeline.calls().values()) == calls
    await pipeline.close()


async def test_a_half_is_orphaned_after_the_join_timeout_and_can_still_be_joined(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path).open()
    await pipeline.send("request", 10)
    await pipeline.idle(60 + 300 + 59)
    assert pipeline.ledger() == {("acme", 0): {"received": 1, "pending": 1}}
    await pipeline.idle(60 + 300 + 60)  # window end, join timeout, out-of-orderness twice
    assert pipeline.ledger() == {("acme", 0): {"received": 1, "orphaned": 1}}
    await pipeline.send("response", 400)
    await pipeline.settle()
    assert pipeline.ledger() == ONE_CALL
    assert pipeline.calls() == {("acme", 0): 1}
    await pipeline.close()


async def test_after_the_allowed_lateness_a_half_stays_orphaned_and_its_other_half_waits_alone(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path).open()
    await pipeline.send("request", 10)
    await pipeline.idle(60 + 3600 + 30)
    await pipeline.send("response", 3650)
    await pipeline.settle()
    assert pipeline.ledger() == {("acme", 0): {"received": 1, "orphaned": 1}, ("", 60): {"received": 1, "pending": 1}}
    await pipeline.close()


async def test_late_events_are_booked_when_they_are_read_and_go_to_the_dead_letters(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path).open()
    await pipeline.idle(60 + 3600 + 29)
    await pipeline.send("call", 59, "just in time")
    await pipeline.settle()
    assert pipeline.calls() == {("acme", 0): 1}
    await pipeline.idle(60 + 3600 + 30)
    await pipeline.send("call", 59, "late")
    await pipeline.settle()
    assert pipeline.calls() == {("acme", 0): 1}
    assert pipeline.ledger()["acme", 61] == {"received": 1, "late": 1}
    assert [(x["reason"], x["field"], x["topic"]) for x in pipeline.letters()] == [("late", "timestamp", "llm.calls")]
    await pipeline.close()


async def test_an_id_is_remembered_as_long_as_its_repetition_would_not_be_late(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path).open()
    await pipeline.send("call", 30)
    await pipeline.idle(60 + 3600 + 29)
    await pipeline.close()  # and not in memory only
    await pipeline.open()
    await pipeline.idle(60 + 3600 + 29)
    await pipeline.send("call", 30)
    await pipeline.settle()
    assert pipeline.calls() == {("acme", 0): 1}
    assert pipeline.ledger() == {("acme", 0): {"received": 2, "aggregated": 1, "duplicate": 1}}
    await pipeline.close()


@pytest.mark.parametrize(
    ("raw", "reason", "field"),
    [
        (b"{", "malformed", ""),
        (b'{"request_id":"x"}', "invalid", "tenant_id"),
        (
            b'{"request_id":"x","tenant_id":"a","route":"r","model":"m","timestamp":"2026-01-01T00:00:00"}',
            "invalid",
            "timestamp",
        ),
        (
            b'{"request_id":"x","tenant_id":"a","route":"r","model":"m","timestamp":95617584000000}',
            "future",
            "timestamp",
        ),
        (b"\xff\xfe", "malformed", ""),
    ],
)
async def test_a_bad_record_of_another_producer_is_rejected_and_stops_nothing(
    tmp_path: Path, raw: bytes, reason: str, field: str
) -> None:
    pipeline = await Pipeline(tmp_path).open()
    await pipeline.send_raw("request", raw, "bad")
    await pipeline.send("call", 0, "bad")  # the same partition goes on
    await pipeline.settle()
    assert pipeline.ledger()["", 0] == {"received": 1, "rejected": 1}
    assert pipeline.calls() == {("acme", 0): 1}
    (letter,) = pipeline.letters()
    assert (letter["reason"], letter["field"], letter["offset"]) == (reason, field, 0)
    await pipeline.settle()
    assert len(pipeline.letters()) == 1
    await pipeline.close()
