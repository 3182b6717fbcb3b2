"""Taking a partition over, and noticing that another did: what a unit reads of its changelog.

A takeover is a record that begins a generation, and the state as the changelog has it up to there.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from streamlens.checkpoint.frames import is_takeover, takeover_record
from streamlens.checkpoint.replay import Replay
from streamlens.checkpoint.snapshot import RESTORING, Restore
from streamlens.checkpoint.store import Store
from streamlens.checkpoint.unit import Unit
from streamlens.errors import Damaged, Unavailable
from streamlens.log import TP, UNKNOWN_OFFSET, Log, Record

_RETRY_S = 0.2
_READ_BYTES = 4 << 20
"""Of one read: what a broker keeps in one batch is unpacked whole, however little of it is taken."""


async def take_over(
    log: Log, tp: TP, store: Store, new_replay: Callable[[], Replay], worker: str, clock_us: Callable[[], int]
) -> tuple[int, Replay]:
    """Take the changelog partition `tp`: the takeover's offset, and a replay that has been fed up to it.

    Tries again while somebody else takes over meanwhile. Raises `Damaged` when the state can't be had: it never starts
    empty where a changelog has begun.
    """
    while True:
        record = Record(None, takeover_record(worker, clock_us() // 1000))
        try:
            takeover = (await log.append({tp: [record]}))[tp]
        except Unavailable:
            takeover = UNKNOWN_OFFSET
        if takeover != UNKNOWN_OFFSET and (replay := await catch_up(log, tp, store, new_replay, takeover)) is not None:
            return takeover, replay
        await asyncio.sleep(_RETRY_S)


async def catch_up(log: Log, tp: TP, store: Store, new_replay: Callable[[], Replay], takeover: int) -> Replay | None:
    """Bring the store up to date with the takeover record at offset `takeover`; None when a later owner is seen.

    Returns a replay that has been fed up to, without, the takeover. Raises `Damaged` as `take_over` does.
    """
    start = await _start(log, tp)
    if start > takeover:
        return None  # Others took over since, wrote a snapshot and cut the head.
    if store.get(RESTORING) is not None:
        store.clear()
    try:
        replay = new_replay()
        position = replay.position
        if position < start:
            store.clear()
            restore = Restore(store, start)
            await _restore(log, tp, restore, takeover)
            if not restore.done:
                if await _taken_since(log, tp, takeover):
                    return None
                raise Damaged(
                    f"{tp.topic} partition {tp.partition} begins at {start} and holds no usable snapshot: what was"
                    " counted before is lost, and to start empty would miscount"
                )
            replay, position = new_replay(), restore.next
            for offset, record in restore.held:
                replay.feed(offset, record)
        async for offset, record in _records(log, tp, position, takeover):
            replay.feed(offset, record)
    except Damaged:
        if await _start(log, tp) > start:
            return None  # The head was cut under our eyes.
        raise
    return replay


async def _start(log: Log, tp: TP) -> int:
    return (await log.offsets([tp]))[tp][0]


async def _restore(log: Log, tp: TP, restore: Restore, takeover: int) -> None:
    """Feed what is before the takeover, until the store is restored."""
    async for offset, record in _records(log, tp, restore.next, takeover):
        restore.feed(offset, record)
        if restore.done:
            return


async def _taken_since(log: Log, tp: TP, takeover: int) -> bool:
    _, end = (await log.offsets([tp]))[tp]
    records = await read_gap(log, tp, range(takeover + 1, end))
    return records is None or any(map(is_takeover, records))


async def read_gap(log: Log, tp: TP, gap: range) -> list[bytes] | None:
    """The records at these offsets, none of them our own; None when they are deleted: only a later owner does that."""
    try:
        return [record async for _, record in _records(log, tp, gap.start, gap.stop)]
    except Damaged:
        if await _start(log, tp) > gap.start:
            return None
        raise


async def _records(log: Log, tp: TP, position: int, end: int) -> AsyncIterator[tuple[int, bytes]]:
    """(offset, record) of the offsets [position, end)."""
    while position < end:
        run = await log.read(tp, position, _READ_BYTES)
        for offset, record in enumerate(run.values, run.first):
            if offset < end:
                yield offset, record
        position = run.next


async def check_sources(log: Log, tps: Sequence[TP], unit: Unit) -> None:
    """Compare where a recovered unit reads on with what its source partitions hold. Raises `Damaged`."""
    for tp, (start, end) in (await log.offsets(tps)).items():
        if unit.version[1] == 0:
            unit.offsets[tp.topic] = start  # Nothing was ever read here: from the earliest.
        offset = unit.offsets.get(tp.topic, 0)
        if offset < start:
            raise Damaged(
                f"{tp.topic} partition {tp.partition} begins at {start}, but was read to {offset} only: what is between"
                " is lost, and `streamlens skip-lost` goes on without it"
            )
        if offset > end:
            raise Damaged(f"{tp.topic} partition {tp.partition} ends at {end}, but was read to {offset}: another log?")


async def skip_lost(log: Log, tps: Sequence[TP], unit: Unit) -> dict[TP, range]:
    """Let a recovered unit read on where its source partitions begin; the offsets that it was never given."""
    lost = {}
    for tp, (start, _) in (await log.offsets(tps)).items():
        if unit.version[1] > 0 and (offset := unit.offsets.get(tp.topic, 0)) < start:
            lost[tp] = range(offset, start)
            unit.offsets[tp.topic] = start
    return lost
