"""What surrounds the units of `checkpoint_world.py`: stores, sinks, and the truth that all of them are held against."""

from collections.abc import Iterator, Mapping

import msgspec

from checkpoint_counting import CLOSED, ROWS, window_key
from streamlens.checkpoint.frames import Version


class Wrong(AssertionError):
    """The system did what must never happen."""


class MemoryStore:
    """A `Store` that outlives its worker: `write` is one step, so no crash falls into the middle of it."""

    def __init__(self, entries: Mapping[bytes, bytes] | None = None) -> None:
        self.entries: dict[bytes, bytes] = dict(entries or {})
        self.writes = 0

    def get(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def scan(self, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted((key, value) for key, value in self.entries.items() if low <= key < high))

    def write(self, changes: Mapping[bytes, bytes | None]) -> None:
        self.writes += 1
        self.entries = {k: v for k, v in {**self.entries, **changes}.items() if v is not None}

    def snapshot(self) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(self.entries.items()))

    def clear(self) -> None:
        self.entries = {}

    def close(self) -> None: ...


class Truth:
    """The one lineage in the changelog, read as plain msgpack and by none of the engine's code.

    `state` and `epoch` are as of the end, `at` as of each takeover; `outputs` holds what each version of a row says.
    Below `replaced`, all is in a complete snapshot of the lineage.
    """

    def __init__(self) -> None:
        self.generation = -1
        self.epoch = 0
        self.state: dict[bytes, bytes] = {}
        self.at: dict[int, tuple[int, dict[bytes, bytes], dict[str, int]]] = {}
        self.outputs: dict[tuple[bytes, Version], bytes] = {}
        self.rows: dict[bytes, tuple[Version, bytes]] = {}
        self._offsets: dict[str, int] = {}
        self._parts: list[bytes] = []
        self.replaced = 0
        self._ends: dict[int, int] = {}
        self._snapshot = (0, 0)

    def feed(self, offset: int, record: bytes) -> None:
        tag, *fields = msgspec.msgpack.decode(record)
        if tag == "T":
            self.at[offset] = (self.epoch, dict(self.state), self._offsets)
            self.generation, self._parts = offset, []
            return
        generation, epoch, number, parts, payload = fields
        if generation != self.generation:
            return
        if tag == "S":
            self._snapshot_part(epoch, number, last=parts)
            return
        if (epoch, number) != (self.epoch + 1, len(self._parts) + 1):
            raise Wrong(f"part {number} of epoch {epoch} follows part {len(self._parts)} of epoch {self.epoch + 1}")
        self._parts.append(payload)
        if number == parts:
            self._apply((generation, epoch), *msgspec.msgpack.decode(b"".join(self._parts)))
            self._parts = []
            self._ends[epoch] = offset + 1

    def _snapshot_part(self, epoch: int, number: int, last: bool) -> None:
        if number > 1 and self._snapshot != (epoch, number - 1):
            raise Wrong(f"part {number} of a snapshot of epoch {epoch} follows {self._snapshot}")
        self._snapshot = (epoch, number)
        if last:
            self.replaced = self._ends[epoch]

    def _apply(self, version: Version, header: list[dict[str, int]], changes: list[tuple[bytes, bytes | None]]) -> None:
        self.epoch, self._offsets = version[1], header[0]
        for key, value in changes:
            if value is None:
                self.state.pop(key, None)
                continue
            self.state[key] = value
            if key[0] in ROWS:
                self.outputs[key, version] = value
                self.rows[key] = (version, value)


class Sink:
    """Rows by key, guarded by version: Postgres, or whoever reads the partials and keeps the highest version.

    `ordered`: rows come in the order of the epoch's outputs, so an announced window must be complete.
    """

    def __init__(self, truth: Truth, ordered: bool) -> None:
        self.up = True
        self.versions: dict[bytes, Version] = {}
        self.rows: dict[bytes, bytes] = {}
        self._truth = truth
        self._ordered = ordered

    def take(self, key: bytes, version: Version, value: bytes | None) -> None:
        if value is None:
            raise Wrong(f"{key!r} {version} is to be published, but the state has no such row")
        self.check(key, version, value)
        if self.refuses(key, version):
            return
        if version < self.versions.get(key, version):
            raise Wrong(f"{key!r} goes back from {self.versions[key]} to {version}")
        self.versions[key] = version
        self.rows[key] = self.merged(key, value)
        if key == CLOSED and self._ordered:
            self._check_closed(version, value)

    def check(self, key: bytes, version: Version, value: bytes) -> None:
        """Whatever becomes visible is in the lineage, under this version and with this content."""
        true = self._truth.outputs.get((key, version))
        if value != true:
            raise Wrong(f"{key!r} {version} is published as {value!r}, the lineage has {true!r}")

    def refuses(self, key: bytes, version: Version) -> bool:
        return key in self.versions and version <= self.versions[key]

    def merged(self, key: bytes, value: bytes) -> bytes:
        return value

    def _check_closed(self, announced: Version, value: bytes) -> None:
        last = window_key(msgspec.json.decode(value)[0])
        for key, version in self._truth.outputs:
            if b"W" <= key <= last and version <= announced and self.versions.get(key, (-1, 0)) < version:
                raise Wrong(f"announced as closed up to {last!r}, but {key!r} {version} is not published")
