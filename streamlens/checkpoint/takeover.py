"""Taking a partition over: a record that begins a generation, and the state as the changelog has it up to there."""

import asyncio
from collections.abc import AsyncIterator, Callable

from streamlens.checkpoint.frames import is_takeover, takeover_record
from streamlens.checkpoint.replay import Replay
from streamlens.checkpoint.snapshot import RESTORING, Found, Restore, SnapshotFinder
from streamlens.checkpoint.store import Store
from streamlens.errors import Damaged, Unavailable
from streamlens.log import TP, UNKNOWN_OFFSET, Log, Record

_RETRY_S = 0.2


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
        if takeover != UNKNOWN_OFFSET and (replay := await _catch_up(log, tp, store, new_replay, takeover)) is not None:
            return takeover, replay
        await asyncio.sleep(_RETRY_S)


async def _catch_up(log: Log, tp: TP, store: Store, new_replay: Callable[[], Replay], takeover: int) -> Replay | None:
    """Bring the store up to date; None when a later owner has the partition."""
    start = await _start(log, tp)
    if start > takeover:
        return None  # Others took over since, wrote a snapshot and cut the head.
    if store.get(RESTORING) is not None:
        store.clear()
    try:
        replay = new_replay()
        if replay.position < start:
            store.clear()
            found = await _find(log, tp, start, takeover)
            if found is None:
                if await _taken_since(log, tp, takeover):
                    return None
                raise Damaged(
                    f"{tp.topic} partition {tp.partition} begins at {start} and holds no usable snapshot: what was"
                    " counted before is lost, and to start empty would miscount"
                )
            restore = Restore(store, found)
            async for offset, record in _records(log, tp, found.first, found.next):
                restore.feed(offset, record)
            replay = new_replay()
        async for offset, record in _records(log, tp, replay.position, takeover):
            replay.feed(offset, record)
    except Damaged:
        if await _start(log, tp) > start:
            return None  # The head was cut under our eyes.
        raise
    return replay


async def _start(log: Log, tp: TP) -> int:
    return (await log.offsets([tp]))[tp][0]


async def _find(log: Log, tp: TP, start: int, takeover: int) -> Found | None:
    finder = SnapshotFinder()
    async for offset, record in _records(log, tp, start, takeover):
        finder.feed(offset, record)
    return finder.best


async def _taken_since(log: Log, tp: TP, takeover: int) -> bool:
    _, end = (await log.offsets([tp]))[tp]
    async for _, record in _records(log, tp, takeover + 1, end):
        if is_takeover(record):
            return True
    return False


async def _records(log: Log, tp: TP, position: int, end: int) -> AsyncIterator[tuple[int, bytes]]:
    """(offset, record) of the offsets [position, end)."""
    while position < end:
        run = await log.read(tp, position)
        for offset, record in enumerate(run.values, run.first):
            if offset < end:
                yield offset, record
        position = run.next
