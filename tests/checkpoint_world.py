"""A deterministic world around `Unit`: one partition, its sources and changelog, and workers that go step by step.

A step is one thing that others can tell apart: one record appended, one batch written, one row published. Between any
two steps a worker may be killed, lose the partition without knowing, or wait. What must never happen raises `Wrong`.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence

from checkpoint_counting import CLEAR, CLOSED, Counting, Event, encode, ids, oracle
from checkpoint_truth import MemoryStore, Sink, Truth, Wrong
from streamlens.checkpoint.frames import Version, takeover_record
from streamlens.checkpoint.replay import Replay
from streamlens.checkpoint.unit import Frame, Unit
from streamlens.log import UNKNOWN_OFFSET, Run

Steps = Generator[str, None, None]
_LIMIT = 400


class Worker:
    """One process that has, or believes to have, the partition. What it does next is what `step` does."""

    def __init__(self, world: "World", name: str, store: MemoryStore) -> None:
        self.world = world
        self.name = name
        self.store = store
        self.unit: Unit | None = None
        self.sent: dict[bytes, Version] = {}
        self.unsent: list[bytes] = []
        self.told = True
        self._steps = self._live()

    def step(self) -> str:
        """Do the next step; returns its name, "off" when there is none."""
        return next(self._steps, "off")

    def _live(self) -> Steps:
        while self.unit or self.world.owner == self.name:
            yield from self._checkpoint(self.unit) if self.unit else self._take_over()

    def _take_over(self) -> Steps:
        takeover = yield from self._append([takeover_record(self.name, 0)], "ask")
        if takeover == UNKNOWN_OFFSET:
            return
        logic = Counting(tuple(self.world.sources), self.world.lateness)
        unit = Unit(self.store, logic, lagging_sink=self.world.lagging, part_bytes=self.world.part_bytes)
        replay = Replay(self.store, logic.is_output, lagging_sink=self.world.lagging)
        writes = self.store.writes
        for offset in range(replay.position, takeover):
            replay.feed(offset, self.world.log[offset])
            if self.store.writes != writes:
                writes = self.store.writes
                yield "replay"
        unit.recover(takeover, replay)
        self.world.check_recovered(takeover, unit)
        yield "recover"
        outputs = [(key, version, self.store.get(key)) for key, version in unit.unpublished().items()]
        yield from self.publish(unit, outputs)
        unit.published()
        self.unit = unit
        yield "run"

    def _checkpoint(self, unit: Unit) -> Steps:
        frame = unit.freeze()
        if frame is None:
            yield "idle"
            return
        base = yield from self._append(frame.records, "freeze")
        if self.is_fenced(unit, frame, base):
            self.drop(unit, frame, base)
            yield "fenced"
            return
        unit.write(frame)
        yield "write"
        yield from self.publish(unit, [(key, frame.version, frame.changes[key]) for key in frame.outputs])
        unit.published()
        self.world.committed = frame.header.offsets
        yield "commit"

    def _append(self, records: Sequence[bytes], label: str) -> Generator[str, None, int]:
        """Send these records, which arrive one by one. Returns the offset of the first.

        Told nothing, or that others' records came between them, the caller knows nothing: `UNKNOWN_OFFSET`.
        """
        self.unsent, self.told, offsets = list(records), True, list[int]()
        yield label
        while self.unsent:
            offsets.append(self.world.append(self.unsent.pop(0)))
            yield "append"
        return self.acknowledged(offsets) if self.told else UNKNOWN_OFFSET

    def acknowledged(self, offsets: Sequence[int]) -> int:
        return offsets[0] if offsets[-1] - offsets[0] + 1 == len(offsets) else UNKNOWN_OFFSET

    def is_fenced(self, unit: Unit, frame: Frame, base: int) -> bool:
        return unit.fenced(frame, base, [self.world.log[offset] for offset in unit.gap(base)])

    def drop(self, unit: Unit, frame: Frame, base: int) -> None:
        """The epoch is lost or its fate unknown: forget all that is in memory, its durable part is in the log."""
        self.unit = None

    def publish(self, unit: Unit, outputs: Iterable[tuple[bytes, Version, bytes | None]]) -> Steps:
        for key, version, value in outputs:
            self.world.partials.take(key, version, value)
            yield f"publish {key.decode()}"


class World:
    """One partition of a stage. `lagging`: outputs also go to Postgres, which may be down. Steps are by worker name."""

    def __init__(
        self,
        sources: Mapping[str, Sequence[Event]],
        *,
        lateness: int = CLEAR,
        lagging: bool = False,
        part_bytes: int = 1_000_000,
    ) -> None:
        self.sources = sources
        self.lateness = lateness
        self.lagging = lagging
        self.part_bytes = part_bytes
        self.log: list[bytes] = []
        self.truth = Truth()
        self.partials = Sink(self.truth, ordered=True)
        self.postgres = Sink(self.truth, ordered=False)
        self.committed: dict[str, int] = {}
        self.late: list[bytes] = []
        self.owner = ""
        self.workers: dict[str, Worker] = {}
        self._copies: dict[str, dict[bytes, bytes]] = {}
        self._values = {topic: [encode(event) for event in events] for topic, events in sources.items()}

    def append(self, record: bytes) -> int:
        self.log.append(record)
        self.truth.feed(len(self.log) - 1, record)
        return len(self.log) - 1

    # -- what happens to workers ---------------------------------------------------------------------------------

    def assign(self, name: str) -> None:
        """The group gives the partition to this worker. Who had it before is not told, and goes on."""
        self.owner = name
        worker = self.workers.get(name)
        if worker is None or worker.unit is None:
            self.crash(name)

    def crash(self, name: str, disk: str = "kept") -> None:
        """Kill and start again. Its disk is "kept", "wiped", or "stale": as it was at the last `copy`."""
        kept = self.workers[name].store.entries if name in self.workers else {}
        entries = {"kept": kept, "wiped": {}, "stale": self._copies.get(name, {})}[disk]
        self.workers[name] = Worker(self, name, MemoryStore(entries))

    def copy(self, name: str) -> None:
        self._copies[name] = dict(self.workers[name].store.entries)

    def step(self, name: str, times: int = 1) -> str:
        label = ""
        for _ in range(times):
            label = self.workers[name].step()
        return label

    def run(self, name: str, *labels: str) -> None:
        """Step this worker until these steps are done, one after the other."""
        for label in labels:
            if not any(self.step(name) == label for _ in range(_LIMIT)):
                raise Wrong(f"{name} never comes to {label!r}")

    def read(self, name: str, topic: str, count: int, again: int = 0) -> bool:
        """Count up to `count` more events, delivered together with the last `again` that were counted already."""
        unit = self.workers[name].unit
        if unit is None:
            return False
        offset = unit.offsets.get(topic, 0)
        first = max(0, offset - again)
        values = self._values[topic][first : offset + count]
        return unit.apply(topic, Run(first, first + len(values), values))

    def idle(self, name: str) -> None:
        unit = self.workers[name].unit
        if unit is not None and isinstance(unit.logic, Counting):
            unit.logic.idle()

    def lose_answer(self, name: str) -> None:
        """The append under way times out: what did not arrive yet may do so late (`land`), or never."""
        worker = self.workers[name]
        self.late += worker.unsent
        worker.unsent, worker.told = [], False

    def land(self) -> None:
        if self.late:
            self.append(self.late.pop(0))

    def send(self, name: str, limit: int = 2) -> None:
        """Postgres takes some of what waits for it; the worker hears of it with `ack`."""
        worker = self.workers[name]
        if worker.unit is not None and self.postgres.up:
            for key, version in worker.unit.waiting(limit).items():
                self.postgres.take(key, version, worker.store.get(key))
                worker.sent[key] = version

    def ack(self, name: str) -> None:
        worker = self.workers[name]
        if worker.unit is not None:
            worker.unit.acked(worker.sent)
        worker.sent = {}

    # -- how it ends ---------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """The faults end: the owner alone goes on, until all is read, durable and published. Then all must be right."""
        self.postgres.up = True
        self.workers = {self.owner: self.workers[self.owner]}
        if self.workers[self.owner].step() == "off":
            self.crash(self.owner)
        for _ in range(_LIMIT):
            idle = self.step(self.owner) == "idle"
            unit = self.workers[self.owner].unit
            if idle and unit and unit.version[0] != self.truth.generation:
                self.crash(self.owner)  # A takeover that nobody leads: the next epoch would find it.
            elif idle and unit and self._all_read(unit) and not unit.backlog:
                return self.check()
            for topic in self.sources:
                self.read(self.owner, topic, len(self.sources[topic]))
            if self.lagging:
                self.send(self.owner, 1_000)
                self.ack(self.owner)
        raise Wrong("does not come to rest")

    def _all_read(self, unit: Unit) -> bool:
        return all(unit.offsets.get(topic, 0) == len(events) for topic, events in self.sources.items())

    def rows(self) -> dict[bytes, bytes]:
        """What a user sees: rows that are not empty, without the announcements."""
        rows = (self.postgres if self.lagging else self.partials).rows
        return {key: value for key, value in rows.items() if key != CLOSED and value != b"[]"}

    def check(self) -> None:
        for sink in (self.partials, self.postgres) if self.lagging else (self.partials,):
            true = {key: value for key, (_, value) in self.truth.rows.items()}
            if sink.rows != true:
                raise Wrong(f"the rows are {sink.rows}, the lineage has {true}")
        events = sorted(event.uid for events in self.sources.values() for event in events)
        if ids(self.rows()) != events:
            raise Wrong(f"not every event exactly once: {self.rows()}")
        if self.lateness == CLEAR and self.rows() != oracle(self.sources):
            raise Wrong(f"the rows are {self.rows()}, the oracle has {oracle(self.sources)}")

    def check_recovered(self, takeover: int, unit: Unit) -> None:
        """What a worker recovers is what the lineage holds as of its takeover, whatever its disk was."""
        recovered = dict(unit.state.store.scan(b"\x01", b"\xff"))
        if (unit.version[1], recovered, unit.offsets) != self.truth.at[takeover]:
            raise Wrong(f"recovered {unit.version[1], recovered, unit.offsets}, the lineage: {self.truth.at[takeover]}")
