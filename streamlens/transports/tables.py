"""Faust's table manager, with our recovery in place of its own: units take their partitions over from the changelog.

Four methods replace Faust's recovery wholly (`on_start`, `_update_channels`, `on_rebalance`, `on_partitions_revoked`).
"""

from contextlib import suppress
from typing import Any

from faust.tables.manager import TableManager as FaustTableManager
from faust.tables.recovery import ServiceStopped

from streamlens.log import TP


class TableManager(FaustTableManager):  # type: ignore[misc]  # faust's classes are untyped
    """Hands partitions to the runtime's stages. Changelogs are not subscribed: stages read and write them."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()

    async def _update_channels(self) -> None:
        self._tables_finalized.set()
        self._tables_registered.set()

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        self._recovery_started.set()
        await self.app.runtime.take_over(assigned)
        self.add_future(self._resume(generation_id))

    async def _resume(self, generation_id: int) -> None:
        with suppress(ServiceStopped):  # SIGTERM while resuming
            await self.recovery._resume_streams(generation_id)
            self.app.runtime.resumed()

    async def on_revoked(self, *_: Any, **__: Any) -> None:
        """Faust's signal: the flow has stopped and the producer lives."""
        await self.app.runtime.revoke()

    def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Nothing: the last checkpoint is made on stop, when the streams are quiet."""

    async def on_stop(self) -> None:
        await self.app._fetcher.stop()
        await self.app.runtime.give_up()
        if self._recovery:
            await self._recovery.stop()

    def persist_offset_on_commit(self, *args: Any) -> None:
        """Nothing: offsets are part of the state."""
