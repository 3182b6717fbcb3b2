"""The changelog of `checkpoint_world.py` as one of its workers reads it: every request to the broker is a step."""

import types
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

from checkpoint_truth import MemoryStore
from streamlens.errors import Damaged
from streamlens.log import TP, Run

if TYPE_CHECKING:
    from checkpoint_world import World

CHANGELOG = TP("changelog", 0)


@types.coroutine
def _step(label: str) -> Generator[str, None, None]:
    yield label


class Changelog:
    """What `checkpoint/takeover.py` needs of a `Log`. The step before a request is called "replay" after a write."""

    def __init__(self, world: "World", store: MemoryStore) -> None:
        self._world = world
        self._store = store
        self._writes = store.writes

    async def offsets(self, tps: Sequence[TP]) -> dict[TP, tuple[int, int]]:
        await self.written()
        await _step("look")
        return dict.fromkeys(tps, (self.start(), len(self._world.log)))

    async def read(self, tp: TP, offset: int, max_bytes: int) -> Run:
        if not await self.written():
            await _step("read")
        first = self.readable(offset)
        values = self._world.log[first : first + self._world.run_records]
        return Run(first, first + len(values), values)

    async def written(self) -> bool:
        """A step of its own if the store was written since the last one; so a kill can come after each write."""
        if self._store.writes == self._writes:
            return False
        self._writes = self._store.writes
        await _step("replay")
        return True

    def start(self) -> int:
        return self._world.head

    def readable(self, offset: int) -> int:
        """From where a read at `offset` begins: there, or not at all."""
        if offset < self._world.head:
            raise Damaged(f"the changelog begins at {self._world.head}, but {offset} was asked for")
        return offset
