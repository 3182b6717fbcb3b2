"""A cluster of one: `streamlens up` on its local log, which events reach by HTTP alone."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager

import aiohttp

from chaos.cluster import COUNTED, GROUP, SOURCES, Cluster
from streamlens.errors import StreamLensError, Unavailable
from streamlens.locallog.local import LocalLog
from streamlens.log import TP, Record
from streamlens.topics import APP_LOGS, EVALUATIONS, INPUTS, SYSTEM_METRICS

_ANSWER_S = 8.0
_BODY_EVENTS = 500
_PATHS = dict.fromkeys(INPUTS, "/v1/llm/events") | {
    EVALUATIONS: "/v1/evaluations",
    APP_LOGS: "/api/v1/ingest/app",
    SYSTEM_METRICS: "/api/v1/ingest/metrics",
}
"""Where the events of a topic are taken."""


class LocalCluster(Cluster):
    """The log is in the worker's data directory, so that alone is never lost."""

    async def _start_log(self) -> dict[str, str]:
        return {}

    async def _remove_log(self) -> None:
        pass

    async def append(self, batches: Mapping[TP, Sequence[Record]]) -> dict[TP, Sequence[Record]]:
        """Post; a body without an answer, and all after it, is left. Raises `AssertionError` for a refused event."""
        by_path: dict[str, list[tuple[TP, Record]]] = {}
        for tp, records in batches.items():
            by_path.setdefault(_PATHS[tp.topic], []).extend((tp, record) for record in records)
        left: dict[TP, list[Record]] = {}
        timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
        # Without a User-Agent, which the API would put in, so that what is in the log is what was sent.
        async with aiohttp.ClientSession(timeout=timeout, skip_auto_headers=["User-Agent"]) as session:
            for path, events in by_path.items():
                for at in range(0, len(events), _BODY_EVENTS):
                    body = events[at : at + _BODY_EVENTS]
                    if left or not await self._post(session, path, [record.value for _, record in body]):
                        for tp, record in body:
                            left.setdefault(tp, []).append(record)
        return dict(left)

    async def _post(self, session: aiohttp.ClientSession, path: str, events: list[bytes]) -> bool:
        """Whether it was answered as accepted."""
        self.sent += len(events)
        try:
            async with session.post(f"{self.workers[0].url}{path}", data=b"\n".join(events)) as answer:
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
                        yield tp.topic, b"", value
                    position = run.next
                    await asyncio.sleep(0)
