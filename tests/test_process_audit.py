"""When `audit` says that the ledger closes: what it sees at each look, on a clock of its own."""

import itertools

import pytest

from streamlens.audit import EXACT_WITHIN_S, GIVE_UP_S, Audit, LedgerCount, LogCount, TopicCount, audit

AT_ONCE, AFTER_A_WHILE = 0.0, EXACT_WITHIN_S


def log(read: int, *, appended: int = 1_000, letters: int = 0) -> LogCount:
    return LogCount("log", [TopicCount("llm.calls", appended, appended, read)], letters)


def ledger(received: int, *, not_closing: tuple[str, ...] = (), dead: int = 0) -> LedgerCount:
    return LedgerCount([], list(not_closing), received, dead)


async def look(logs: list[LogCount], ledgers: list[LedgerCount]) -> tuple[Audit, float]:
    """Audit what the looks see one after the other, the last one for ever. The seconds that it took besides."""
    log_looks = itertools.chain(logs, itertools.repeat(logs[-1]))
    ledger_looks = itertools.chain(ledgers, itertools.repeat(ledgers[-1]))
    now_s = 0.0

    async def see_log() -> LogCount:
        return next(log_looks)

    async def see_ledger() -> LedgerCount:
        return next(ledger_looks)

    async def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    return await audit(see_log, see_ledger, clock_s=lambda: now_s, sleep=sleep), now_s


@pytest.mark.parametrize(
    ("logs", "ledgers", "exact", "earliest_s"),
    [
        ([log(0)], [ledger(0)], True, AT_ONCE),
        ([log(10)], [ledger(10)], True, AT_ONCE),
        ([log(10)], [ledger(7), ledger(9), ledger(10)], True, AT_ONCE),
        ([log(10), log(14), log(14)], [ledger(10), ledger(14)], True, AT_ONCE),
        ([log(10)], [ledger(12), ledger(8), ledger(10)], True, AT_ONCE),
        ([log(n) for n in range(10, 900)], [ledger(n) for n in range(9, 900)], False, AFTER_A_WHILE),
        ([log(10, letters=2)], [ledger(10, dead=1)], True, AT_ONCE),
    ],
    ids=[
        "nothing was sent",
        "all is there",
        "rows lag behind",
        "it moved during the first look",
        "a half changed its row between two writes",
        "traffic never pauses",
        "a dead letter that is there twice",
    ],
)
async def test_it_closes(logs: list[LogCount], ledgers: list[LedgerCount], exact: bool, earliest_s: float) -> None:
    result, took_s = await look(logs, ledgers)
    assert result.faults == []
    assert result.exact is exact
    assert earliest_s <= took_s <= earliest_s + 2


@pytest.mark.parametrize(
    ("seen", "books", "fault"),
    [
        (log(10), ledger(9), "1 events were read but are missing in the ledger"),
        (log(10), ledger(11), "the ledger holds 1 events more than were read"),
        (log(10), ledger(10, not_closing=("acme 2026-07-01T10:00Z",)), "do not add up: acme 2026-07-01T10:00Z"),
        (log(10, letters=1), ledger(10, dead=3), "2 late or rejected events have no dead letter"),
        (log(10, appended=8), ledger(10), "llm.calls: 10 read, but only 8 are in the log"),
    ],
    ids=["a lost event", "one counted twice", "a row that does not add up", "a lost dead letter", "a log cut short"],
)
async def test_it_does_not_close_and_says_why(seen: LogCount, books: LedgerCount, fault: str) -> None:
    result, took_s = await look([seen], [books])
    assert len(result.faults) == 1
    assert fault in result.faults[0]
    assert GIVE_UP_S <= took_s <= GIVE_UP_S + 1
