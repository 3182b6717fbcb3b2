"""What every `Log` has to do. A test class of a backend inherits `LogContract` and gives the fixtures it uses.

`log` is a started log; `reopen(log)` stops it and returns another one on the same data. Topics get random names,
because a broker outlives a test.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import pytest

from streamlens.errors import BadSetting, Damaged, Unavailable
from streamlens.log import TP, Log, Record, Run, TopicSpec

Reopen = Callable[[Log], Awaitable[Log]]


def records(*values: str) -> list[Record]:
    return [Record(None, value.encode()) for value in values]


def numbered(start: int, stop: int) -> list[Record]:
    return [Record(b"key %d" % (i % 7), b"value %d" % i) for i in range(start, stop)]


async def make_topic(log: Log, partitions: int = 2) -> str:
    name = f"contract.{uuid.uuid4().hex}"
    await log.create_topics([TopicSpec(name, partitions)])
    return name


async def read_all(log: Log, tp: TP, offset: int | None = None, max_bytes: int = 1 << 20) -> list[bytes]:
    """All values from `offset`, or the start, to the end, read run by run; the runs must join without a gap."""
    start, end = (await log.offsets([tp]))[tp]
    position = start if offset is None else offset
    values: list[bytes] = []
    while position < end:
        run = await log.read(tp, position, max_bytes)
        assert run.first == position
        assert run.next > position
        values += run.values
        position = run.next
    return values


class LogContract:
    async def test_a_new_partition_is_empty(self, log: Log) -> None:
        tp = TP(await make_topic(log), 1)
        assert await log.offsets([tp]) == {tp: (0, 0)}
        assert await log.read(tp, 0) == Run(0, 0, [])

    async def test_records_come_back_in_order_and_offsets_have_no_gaps(self, log: Log) -> None:
        tp = TP(await make_topic(log), 0)
        bases = [(await log.append({tp: numbered(i, i + n)}))[tp] for i, n in ((0, 1), (1, 3), (4, 1500), (1504, 2))]
        assert bases == [0, 1, 4, 1504]
        assert await log.offsets([tp]) == {tp: (0, 1506)}
        assert await read_all(log, tp) == [r.value for r in numbered(0, 1506)]

    async def test_an_append_gives_each_partition_its_own_records_and_offsets(self, log: Log) -> None:
        one, two = await make_topic(log, 3), await make_topic(log, 1)
        await log.append({TP(one, 2): records("before")})
        sent = {TP(one, 0): records("a", "b"), TP(one, 2): records("c"), TP(two, 0): records("d", "e", "f")}
        assert await log.append(sent) == {TP(one, 0): 0, TP(one, 2): 1, TP(two, 0): 0}
        assert await read_all(log, TP(one, 0)) == [b"a", b"b"]
        assert await read_all(log, TP(one, 1)) == []
        assert await read_all(log, TP(one, 2)) == [b"before", b"c"]
        assert await read_all(log, TP(two, 0)) == [b"d", b"e", b"f"]

    async def test_concurrent_appenders_never_mix_inside_one_append(self, log: Log) -> None:
        topic = await make_topic(log)
        acknowledged: dict[TP, dict[int, list[bytes]]] = {TP(topic, 0): {}, TP(topic, 1): {}}

        async def appender(name: int) -> None:
            last = dict.fromkeys(acknowledged, -1)
            for turn in range(15):
                sent = {
                    tp: records(*(f"{name} {turn} {i}" for i in range(1 + (name + turn) % 4))) for tp in acknowledged
                }
                for tp, base in (await log.append(sent)).items():
                    assert base > last[tp], "the appends of one task keep their order"
                    last[tp] = base
                    acknowledged[tp][base] = [r.value for r in sent[tp]]

        await asyncio.gather(*(appender(name) for name in range(20)))
        for tp, parts in acknowledged.items():
            assert await read_all(log, tp) == [value for base in sorted(parts) for value in parts[base]]

    async def test_replay_starts_at_any_offset(self, log: Log) -> None:
        tp = TP(await make_topic(log), 0)
        for start, stop in ((0, 2500), (2500, 2501), (2501, 2503), (2503, 3000)):
            await log.append({tp: numbered(start, stop)})
        everything = [r.value for r in numbered(0, 3000)]
        for offset in (0, 1, 999, 1000, 1001, 2499, 2500, 2501, 2502, 2503, 2999, 3000):
            assert await read_all(log, tp, offset) == everything[offset:], offset

    async def test_a_long_append_is_read_in_bounded_runs(self, log: Log) -> None:
        tp = TP(await make_topic(log), 0)
        await log.append({tp: [Record(None, b"%0100d" % i) for i in range(20_000)]})
        run = await log.read(tp, 5_000, max_bytes=64 << 10)
        assert 0 < len(run.values) <= 2_000
        assert await read_all(log, tp, max_bytes=64 << 10) == [b"%0100d" % i for i in range(20_000)]

    async def test_large_records(self, log: Log) -> None:
        tp = TP(await make_topic(log), 0)
        sent = [Record(b"k", bytes([i]) * (512 << 10)) for i in range(5)]
        await log.append({tp: sent[:3]})
        await log.append({tp: sent[3:]})
        assert await read_all(log, tp) == [r.value for r in sent]
        assert await read_all(log, tp, max_bytes=1) == [r.value for r in sent]

    async def test_empty_values_and_keys(self, log: Log) -> None:
        tp = TP(await make_topic(log), 0)
        await log.append({tp: [Record(b"", b""), Record(None, b""), Record(b"k", b"v")]})
        assert await read_all(log, tp) == [b"", b"", b"v"]

    async def test_reading_at_the_end_gives_nothing(self, log: Log) -> None:
        tp = TP(await make_topic(log), 0)
        await log.append({tp: numbered(0, 5)})
        assert await log.read(tp, 5) == Run(5, 5, [])

    @pytest.mark.parametrize("offset", [1, 6], ids=["below the start", "above the end"])
    async def test_reading_outside_is_refused(self, log: Log, offset: int) -> None:
        tp = TP(await make_topic(log), 0)
        await log.append({tp: numbered(0, 5)})
        await log.delete_before(tp, 2)
        with pytest.raises(Damaged):
            await log.read(tp, offset)

    @pytest.mark.parametrize("offset", [1, 4, 5, 11, 12], ids=lambda o: f"before {o}")
    async def test_deleted_records_are_gone_and_the_rest_is_there(self, log: Log, reopen: Reopen, offset: int) -> None:
        tp, other = TP(await make_topic(log), 0), TP(await make_topic(log), 1)
        for start, stop in ((0, 5), (5, 6), (6, 12)):
            await log.append({tp: numbered(start, stop), other: numbered(start, stop)})
        await log.delete_before(tp, offset)
        for _ in range(2):
            assert await log.offsets([tp, other]) == {tp: (offset, 12), other: (0, 12)}
            assert await read_all(log, tp) == [r.value for r in numbered(offset, 12)]
            assert await read_all(log, other) == [r.value for r in numbered(0, 12)]
            await log.delete_before(tp, offset - 1)  # already gone: nothing happens
            log = await reopen(log)
        assert await log.append({tp: numbered(12, 13)}) == {tp: 12}
        assert await read_all(log, tp) == [r.value for r in numbered(offset, 13)]

    async def test_deleting_above_the_end_is_refused(self, log: Log) -> None:
        tp = TP(await make_topic(log), 0)
        await log.append({tp: numbered(0, 5)})
        with pytest.raises(Damaged):
            await log.delete_before(tp, 6)
        assert await log.offsets([tp]) == {tp: (0, 5)}

    async def test_a_flood_is_refused_or_acknowledged_and_never_lost(self, log: Log) -> None:
        tp = TP(await make_topic(log), 0)
        values = [bytes([i]) * (1 << 20) for i in range(48)]
        results = await asyncio.gather(*(log.append({tp: [Record(None, v)]}) for v in values), return_exceptions=True)
        refused = [r for r in results if isinstance(r, BaseException)]
        assert all(isinstance(r, Unavailable) for r in refused)
        accepted = {r[tp]: v for r, v in zip(results, values, strict=True) if not isinstance(r, BaseException)}
        assert await read_all(log, tp) == [accepted[offset] for offset in sorted(accepted)]
        base = await log.append({tp: records("after the flood")})
        assert base == {tp: len(accepted)}

    async def test_a_cancelled_append_does_not_disturb_the_others(self, log: Log) -> None:
        tp = TP(await make_topic(log), 0)
        tasks = [asyncio.create_task(log.append({tp: records(str(i))})) for i in range(10)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[3], asyncio.CancelledError)
        values = await read_all(log, tp)  # with or without the cancelled one
        assert [v for v in values if v != b"3"] == [b"%d" % i for i in range(10) if i != 3]
        for i, result in enumerate(results):
            assert i == 3 or (isinstance(result, dict) and values[result[tp]] == b"%d" % i)
        assert await log.append({tp: records("later")}) == {tp: len(values)}

    async def test_committed_offsets_are_kept_per_group(self, log: Log, reopen: Reopen) -> None:
        topic = await make_topic(log)
        one, two = TP(topic, 0), TP(topic, 1)
        group = f"g{uuid.uuid4().hex}"
        await log.append({one: numbered(0, 9), two: numbered(0, 9)})
        assert await log.committed(group) == {}
        await log.commit(group, {one: 3, two: 4})
        await log.commit(group, {one: 5})
        await log.commit(group + "x", {one: 7})
        for _ in range(2):
            assert await log.committed(group) == {one: 5, two: 4}
            assert await log.committed(group + "x") == {one: 7}
            log = await reopen(log)

    async def test_everything_is_there_after_reopening(self, log: Log, reopen: Reopen) -> None:
        tp, empty = TP(await make_topic(log), 1), TP(await make_topic(log), 0)
        for turn in range(3):
            assert await log.append({tp: numbered(turn * 1200, turn * 1200 + 1200)}) == {tp: turn * 1200}
            log = await reopen(log)
            assert await log.offsets([tp, empty]) == {tp: (0, turn * 1200 + 1200), empty: (0, 0)}
        assert await read_all(log, tp) == [r.value for r in numbered(0, 3600)]

    async def test_creating_a_topic_again_changes_nothing(self, log: Log, reopen: Reopen) -> None:
        topic = await make_topic(log, 2)
        await log.append({TP(topic, 1): numbered(0, 3)})
        for _ in range(2):
            await log.create_topics([TopicSpec(topic, 2), TopicSpec(topic, 2)])
            assert await log.offsets([TP(topic, 1)]) == {TP(topic, 1): (0, 3)}
            log = await reopen(log)

    async def test_a_topic_with_another_number_of_partitions_is_refused(self, log: Log) -> None:
        topic, new = await make_topic(log, 2), f"contract.{uuid.uuid4().hex}"
        with pytest.raises(BadSetting, match=topic):
            await log.create_topics([TopicSpec(new, 1), TopicSpec(topic, 3)])
