"""How an epoch's partials travel: many share a record, in order, and what closes windows comes last."""

from streamlens.facets import variant_value
from streamlens.fields import Experiment
from streamlens.partitioner import partition_of
from streamlens.topics import CLOSED_KEY, PARTIALS, decode_partials, packed
from tables.experiments import Experiments

PARTITIONS = 3
ROWS = [(b"w\0\0\0\1acme\0route/%d\0m" % n, b"%d" % n * 50) for n in range(3_000)]


def test_partials_share_records_in_order_and_closing_comes_last_everywhere() -> None:
    found: dict[int, list[tuple[bytes, bytes]]] = {q: [] for q in range(PARTITIONS)}
    records = list(packed([*ROWS, (CLOSED_KEY, b"closed")], 7, (5, 9), 1_234, PARTITIONS))
    for tp, record in records:
        assert (tp.topic, record.key) == (PARTIALS, None)
        assert len(record.value) < 70_000, "a broker takes it, and a run of a few does not hold the event loop"
        sent = decode_partials(record.value)
        assert (sent.partition, sent.generation, sent.epoch, sent.appended_ms) == (7, 5, 9, 1_234)
        found[tp.partition] += sent.rows
    for q in range(PARTITIONS):
        rows = [(key, content) for key, content in ROWS if partition_of(key[5:], PARTITIONS) == q]
        assert found[q] == [*rows, (CLOSED_KEY, b"closed")]
    assert PARTITIONS < len(records) < len(ROWS) / 100


def test_nothing_to_say_is_no_record() -> None:
    assert list(packed([], 0, (1, 1), 0, PARTITIONS)) == []


def test_the_variants_of_an_experiment_go_to_one_partition_and_experiments_to_many() -> None:
    places = set()
    for number in range(50):
        name = f"to/n\\e {number}"
        values = [variant_value(Experiment(name, variant)) for variant in ("A", "B", "a/b", "\\/", "日本\n")]
        rows = [(Experiments.key(number, "acme", value), b"") for value in (*values, "__other__")]
        (place,) = {tp.partition for tp, _ in packed(rows[:-1], 0, (1, 1), 0, 64)}
        places.add(place)
        assert (
            len([row for _, record in packed(rows, 0, (1, 1), 0, 64) for row in decode_partials(record.value).rows])
            == 6
        )
    assert len(places) > 20
