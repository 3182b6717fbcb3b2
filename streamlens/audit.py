"""Proves the ledger: what the log holds, how far it was read, and what the rows in Postgres say became of each event.

It may run beside the pipeline, whose rows follow its reading within a second: so it looks until it sees both agree.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from streamlens.errors import BadSetting
from streamlens.locallog.local import LocalLog
from streamlens.log import TP, Log
from streamlens.postgres.connection import connect, transaction, unavailable
from streamlens.postgres.lost import count_lost
from streamlens.topics import DEAD_LETTERS, SOURCES

COLUMNS = ("received", "aggregated", "pending", "orphaned", "duplicate", "late", "rejected")
EXACT_WITHIN_S = 5.0
"""So long it waits for a moment in which nothing moves; under steady traffic there may be none."""
GIVE_UP_S = 30.0
"""So long the rows may lag behind, while StreamLens runs."""
_EVERY_S = 0.3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_SELECTED = """($1::text is null or tenant_id = $1)
    and ($2::timestamptz is null or minute >= $2) and ($3::timestamptz is null or minute < $3)"""
_TENANTS = f"""
    select tenant_id, {", ".join(f"sum({name})::bigint as {name}" for name in COLUMNS)}
    from llm_ledger where {_SELECTED} group by tenant_id order by tenant_id"""
_OPEN = f"""
    select tenant_id, minute from llm_ledger where {_SELECTED} and (
        received <> aggregated + pending + orphaned + duplicate + late + rejected
        or least({", ".join(COLUMNS)}) < 0
    ) order by minute, tenant_id limit 5"""
_WHOLE = "select coalesce(sum(received), 0)::bigint, coalesce(sum(late + rejected), 0)::bigint from llm_ledger"


class Selection(msgspec.Struct, frozen=True):
    """Which rows the table shows and the check by row looks at: minutes in [from, to), None where it is open."""

    tenant_id: str | None = None
    from_us: int | None = None
    to_us: int | None = None


class TopicCount(msgspec.Struct, frozen=True):
    """A topic over all its partitions, in records: ever appended, still kept, counted by the pipeline."""

    topic: str
    appended: int
    kept: int
    read: int

    @property
    def unread(self) -> int:
        return self.appended - self.read


class LogCount(msgspec.Struct, frozen=True):
    """What the log says at one moment."""

    log_id: str
    topics: list[TopicCount]
    letters: int
    """Dead letters ever appended; one may be there twice after a kill."""

    @property
    def read(self) -> int:
        return sum(each.read for each in self.topics)


class LedgerCount(msgspec.Struct, frozen=True):
    """What the ledger says at one moment: the selected tenants' sums, rows that do not close, and the whole."""

    tenants: list[dict[str, int | str]]
    not_closing: list[str]
    received: int
    dead: int
    """Events that are late or rejected, so each has a dead letter."""
    lost: int = 0
    """Events that the log deleted before they were counted, as `streamlens skip-lost` has written them down."""

    @property
    def accounted(self) -> int:
        """Events that were read, as far as the ledger and what stands beside it tell."""
        return self.received + self.lost


class Audit(msgspec.Struct, frozen=True):
    """The outcome. `faults` is empty when the ledger closes; `exact` when nothing moved while it was looked at."""

    log: LogCount
    ledger: LedgerCount
    faults: list[str]
    exact: bool


async def audit(
    read_log: Callable[[], Awaitable[LogCount]],
    read_ledger: Callable[[], Awaitable[LedgerCount]],
    *,
    give_up_s: float = GIVE_UP_S,
    clock_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Audit:
    """Look until log and ledger agree, `give_up_s` at most.

    They agree exactly when as many events were read before as after the look at the ledger, and it holds that many.
    When traffic never pauses they agree if the ledger holds all that was read at first, and no more than is read now.
    """
    began, first = clock_s(), await read_log()
    before = first
    while True:
        ledger = await read_ledger()
        after = await read_log()
        faults = _faults(first, ledger, after)
        exact = before.read == ledger.accounted == after.read
        waited_s = clock_s() - began
        if (not faults and (exact or waited_s > EXACT_WITHIN_S)) or waited_s > give_up_s:
            return Audit(after, ledger, faults, exact)
        await sleep(_EVERY_S)
        before = after


async def count_log(log: Log, log_id: str, partitions: int, group: str) -> LogCount:
    """What a log holds now, and how far `group` has counted it. Raises `Unavailable`."""
    committed, topics = await log.committed(group), []
    for topic in SOURCES:
        offsets = await log.offsets([TP(topic, p) for p in range(partitions)])
        ends = sum(end for _, end in offsets.values())
        kept = ends - sum(start for start, _ in offsets.values())
        topics.append(TopicCount(topic, ends, kept, sum(committed.get(tp, 0) for tp in offsets)))
    letters = await log.offsets([TP(DEAD_LETTERS, p) for p in range(partitions)])
    return LogCount(log_id, topics, sum(end for _, end in letters.values()))


async def count_local_log(path: Path, group: str) -> LogCount:
    """`count_log` of the local log in `path`, beside the process that writes it. Raises as `LocalLog.open` does."""
    log = LocalLog.open(path, read_only=True)
    try:
        return await count_log(log, log.log_id, log.topics().get(DEAD_LETTERS, 0), group)
    finally:
        log.close()


async def count_ledger(dsn: str, log_id: str, selection: Selection) -> LedgerCount:
    """What the ledger holds now. Raises `Unavailable`, and `BadSetting` for rows of another log."""
    chosen = (selection.tenant_id, _time(selection.from_us), _time(selection.to_us))
    connection = await connect(dsn, statement_timeout_s=60)
    try:
        with unavailable():
            async with transaction(connection, isolation="repeatable_read", readonly=True):
                if not await connection.fetchval("select to_regclass('streamlens_meta') is not null"):
                    raise BadSetting("the database holds no rows of StreamLens: was `streamlens up` run with it?")
                owner = await connection.fetchval("select value from streamlens_meta where key = 'log_id'")
                tenants = await connection.fetch(_TENANTS, *chosen)
                not_closing = await connection.fetch(_OPEN, *chosen)
                received, dead = await connection.fetchrow(_WHOLE)
                lost = await count_lost(connection, list(SOURCES))
    finally:
        connection.terminate()
    if owner != log_id:
        raise BadSetting(f"the rows in this database come from the log {owner}, not from {log_id}")
    open_rows = [f"{row['tenant_id'] or '(no tenant)'} {row['minute']:%Y-%m-%dT%H:%MZ}" for row in not_closing]
    return LedgerCount([dict(row) for row in tenants], open_rows, received, dead, lost)


def _faults(first: LogCount, ledger: LedgerCount, now: LogCount) -> list[str]:
    """Why the ledger does not close, one sentence each."""
    faults = []
    if ledger.not_closing:
        faults.append(f"these rows do not add up: {', '.join(ledger.not_closing)}")
    if ledger.accounted < first.read:
        faults.append(
            f"{first.read - ledger.accounted:,} events were read but are missing in the ledger;"
            " is Postgres away, or was StreamLens killed? Then start it and audit again"
        )
    if ledger.accounted > now.read:
        faults.append(
            f"the ledger holds {ledger.accounted - now.read:,} events more than were read;"
            " was StreamLens killed just now? Then start it and audit again"
        )
    if ledger.dead > now.letters:
        faults.append(f"{ledger.dead - now.letters:,} late or rejected events have no dead letter")
    faults += [
        f"{each.topic}: {each.read:,} read, but only {each.appended:,} are in the log"
        for each in now.topics
        if each.unread < 0
    ]
    return faults


def _time(us: int | None) -> datetime | None:
    return None if us is None else _EPOCH + timedelta(microseconds=us)
