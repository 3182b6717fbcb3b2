"""A deterministic world around `Unit`: one partition, its sources and changelog, its sinks, and workers step by step.

Between any two steps a worker may be killed, lose the partition without knowing, or wait. What must never happen
raises `Wrong`, at once where it can be seen at once.
"""

from collections.abc import Mapping, Sequence

from checkpoint_counting import CLEAR, CLOSED, Counting, Event, encode, ids, oracle
from checkpoint_truth import MemoryStore, Sink, Truth, Wrong
from checkpoint_worker import Worker
from streamlens.checkpoint.unit import Unit
from streamlens.log import Run

_LIMIT = 400
"""Steps after which a worker that should be done hangs."""


class World:
    """One partition of a stage. `lagging`: outputs also go to Postgres, which may be down. Steps are by worker name.

    `run_records`: how many records of the changelog a read brings at most. Below `head` there are none any more.
    `published_before`: how many outputs of an epoch are published before its store is written; the others after it.
    """

    def __init__(
        self,
        sources: Mapping[str, Sequence[Event]],
        *,
        lateness: int = CLEAR,
        lagging: bool = False,
        part_bytes: int = 1_000_000,
        snapshot_min_bytes: int = 1 << 40,
        run_records: int = 1,
        published_before: int = 0,
    ) -> None:
        self.sources = sources
        self.lateness = lateness
        self.lagging = lagging
        self.part_bytes = part_bytes
        self.snapshot_min_bytes = snapshot_min_bytes
        self.run_records = run_records
        self.published_before = published_before
        self.log: list[bytes] = []
        self.head = 0
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

    def delete_before(self, offset: int) -> None:
        self.head = max(self.head, offset)

    def retain(self, count: int) -> None:
        """Somebody else's retention deletes this many records, if a snapshot stands for them."""
        self.head = max(self.head, min(self.head + count, self.truth.replaced))

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
