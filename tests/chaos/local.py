"""A cluster of one: `streamlens up` on its local log, which events reach by HTTP alone."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager

import aiohttp
import msgspec

from chaos.cluster import COUNTED, GROUP, SOURCES, Cluster
from streamlens.errors import StreamLensError, Unavailable
from streamlens.locallog.local import LocalLog
from streamlens.log import TP, Record

_ANSWER_S = 8.0
_BODY_EVENTS = 500


class _Id(msgspec.Struct):
    request_id: str


class LocalCluster(Cluster):
    """The log is in the worker's data directory, so that alone is never lost."""

    async def _start_log(self) -> dict[str, str]:
        return {}

    async def _remove_log(self) -> None:
        pass

    async def append(self, batches: Mapping[TP, Sequence[Record]]) -> dict[TP, Sequence[Record]]:
        """Post; a body without an answer, and all after it, is left. Raises `AssertionError` for a refused event."""
        events = [(tp, record) for tp, records in batches.items() for record in records]
        timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for at in range(0, len(events), _BODY_EVENTS):
                if not await self._post(session, [record.value for _, record in events[at : at + _BODY_EVENTS]]):
                    left: dict[TP, Sequence[Record]] = {}
                    for tp, record in events[at:]:
                        left[tp] = [*left.get(tp, ()), record]
                    return left
        return {}

    async def _post(self, session: aiohttp.ClientSession, events: list[bytes]) -> bool:
        """Whether it was answered as accepted."""
        self.sent += len(events)
        try:
            async with session.post(f"{self.workers[0].url}/v1/llm/events", data=b"\n".join(events)) as answer:
                told = await answer.read()
        except aiohttp.ClientConnectorError:  # nothing was sent
            self.sent -= len(events)
            return False
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
        if answer.status >= 500:
            return False
        assert answer.status == 202 and not json.loads(told)["rejected"], f"{answer.status}: {told[:500]!r}"
        return True

    @contextmanager
    def _reading(self) -> Iterator[LocalLog]:
        """The log, beside the process that writes it."""
        try:
            log = LocalLog.open(self.workers[0].directory / "log", read_only=True)
        except StreamLensError as error:  # it may be in the middle of its start
            raise Unavailable(str(error)) from error
        try:
            yield log
        finally:
            log.close()

    async def ends(self) -> int:
        with self._reading() as log:
            return sum(end for _, end in (await log.offsets(SOURCES)).values())

    async def lag(self) -> int:
        with self._reading() as log:
            offsets, committed = await log.offsets(COUNTED), await log.committed(GROUP)
        return sum(end - committed.get(tp, start) for tp, (start, end) in offsets.items())

    async def records(self) -> AsyncIterator[tuple[str, bytes, bytes]]:
        with self._reading() as log:
            for tp, (position, end) in (await log.offsets(SOURCES)).items():
                while position < end:
                    run = await log.read(tp, position)
                    for value in run.values:
                        yield tp.topic, msgspec.json.decode(value, type=_Id).request_id.encode(), value
                    position = run.next
                    await asyncio.sleep(0)
