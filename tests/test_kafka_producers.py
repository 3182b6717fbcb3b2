"""Events that others write straight to the input topics, in C, Java and Go, counted by `streamlens up`."""

import asyncio
import base64
import json
import shutil
import struct
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from kafka_broker import KafkaBroker, jars
from process_server import Server, until
from streamlens.log import TP
from streamlens.pricing import Prices
from streamlens.simulate.oracle import Oracle, Row, compare

PARTITIONS = 4
CALLS = 300
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
"""By their number in a batch's attributes."""
MURMUR2 = {"partitioner": "murmur2_random"}
"""What a librdkafka client has to set; its default is CRC32."""
PRODUCERS = Path(__file__).parent / "kafka"


class Sent(NamedTuple):
    """A record to send."""

    topic: str
    key: str
    value: bytes | None


class Place(NamedTuple):
    """Where a record was written."""

    topic: str
    partition: int
    offset: int


class OnKafka(Server):
    """`streamlens up` with a broker and a database of its own."""

    def __init__(self, data_dir: Path, dsn: str, brokers: str) -> None:
        super().__init__(data_dir, dsn=dsn)
        self._environ |= {
            "KAFKA_BROKERS": brokers,
            "CONSUMER_GROUP": "foreign-producers",
            "STREAMLENS_PARTITIONS": str(PARTITIONS),
        }

    def rows_of(self, tenant: str) -> list[Row]:
        return [row for row in self.rows() if row["tenant_id"] == tenant]

    def misplaced(self) -> dict[str, float]:
        """The counter of misplaced keys, by topic."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=20) as answer:
            lines = answer.read().decode().splitlines()
        counts = [line.split() for line in lines if line.startswith("streamlens_misplaced_keys_total{")]
        return {labels.split('"')[1]: float(count) for labels, count in counts}

    def warnings(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.stderr.splitlines()]
        return [line for line in lines if line["event"] == event and line["level"] == "warning"]


@pytest.fixture(scope="module")
def broker_dir(scratch: Path) -> Path:
    return scratch / "producers-kafka"


@pytest.fixture(scope="module")
def brokers(broker_dir: Path) -> Iterator[str]:
    """A broker of our own: the names of the input topics are fixed, and what other tests write is not counted here."""
    broker = KafkaBroker(broker_dir)
    try:
        broker.start()
        yield broker.brokers
    finally:
        broker.remove()


@pytest.fixture(scope="module")
def server(brokers: str, postgres: str, scratch: Path) -> Iterator[OnKafka]:
    dsn = asyncio.run(new_database(postgres, "producers"))
    with OnKafka(scratch / "producers", dsn, brokers) as server:
        server.start()
        yield server
        assert server.stop() == 0


async def new_database(server: str, name: str) -> str:
    connection = await asyncpg.connect(server)
    await connection.execute(f"create database {name}")
    await connection.close()
    return server.replace("/postgres?", f"/{name}?")


# -- what is sent ----------------------------------------------------------------------------------------------------


def traffic(tenant: str) -> tuple[list[Sent], list[Row]]:
    """Two thirds of the calls in halves, one third whole, all of this minute; and the rows that they must give."""
    now = datetime.now(UTC).replace(second=0, microsecond=0).isoformat()
    oracle, sent = Oracle(Prices(None)), []
    for i in range(CALLS):
        request: dict[str, Any] = {"request_id": f"{tenant}-{i}", "tenant_id": tenant, "timestamp": now}
        request |= {"route": ("chat", "search")[i % 2], "model": "gpt-4o-mini", "prompt_tokens": 100 + i}
        response: dict[str, Any] = {"request_id": f"{tenant}-{i}", "timestamp": now}
        response |= {"latency_ms": 10 + i * 7 % 400, "completion_tokens": 5 * i}
        if i % 10 == 0:
            response["error_type"] = "timeout"
        halves = {"llm.requests": request, "llm.responses": response}
        events = halves if i % 3 else {"llm.calls": request | response}
        sent += [Sent(topic, event["request_id"], json.dumps(event).encode()) for topic, event in events.items()]
        oracle.acknowledged(json.dumps(half | {"type": topic[4:-1]}).encode() for topic, half in halves.items())
    return sent, oracle.rows()


def by_librdkafka(brokers: str, records: Sequence[Sent], **settings: Any) -> list[Place]:
    """Send, and where each record was written."""
    places: dict[int, Place] = {}
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 50, **settings})
    for i, (topic, key, value) in enumerate(records):

        def delivered(error: Any, message: Any, i: int = i) -> None:
            assert error is None, error
            places[i] = Place(message.topic(), message.partition(), message.offset())

        producer.produce(topic, value, key, on_delivery=delivered)
    assert producer.flush(30) == 0
    return [places[i] for i in range(len(records))]


def java() -> list[str]:
    """Kafka's own client."""
    program = shutil.which("java")
    assert program and shutil.which("javac"), "running a Java source needs a JDK: apt-get install default-jdk-headless"
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    return [program, quiet, "-cp", f"{jars()}/*", str(PRODUCERS / "Produce.java")]


def franz_go() -> list[str]:
    """Go's client that has Kafka's partitioner by default."""
    return ["go", "run", "-C", str(PRODUCERS / "franz"), "."]


CLIENTS = [java, *([franz_go] if shutil.which("go") else [])]
"""How to start a producer. A machine without Go has one less; nothing else needs it."""


def by_program(client: Callable[[], list[str]], brokers: str, records: Sequence[tuple[str, Sent]]) -> list[Place]:
    """Send (codec, record) pairs, and where each record was written."""
    lines = [f"{codec}\t{each.topic}\t{each.key}\t{each.value.decode()}\n" for codec, each in records if each.value]
    done = subprocess.run([*client(), brokers], input="".join(lines), capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr[-2000:]
    places = [map(int, line.split()) for line in done.stdout.splitlines()]
    return [Place(each.topic, *place) for (_, each), place in zip(records, places, strict=True)]


def codec_of(broker_dir: Path, place: Place) -> str:
    """How the batch is compressed that holds a record, as it lies in the broker's log."""
    data = (broker_dir / "data" / f"{place.topic}-{place.partition}" / f"{0:020}.log").read_bytes()
    at = 0
    while True:
        base, length, _, _, _, attributes, last = struct.unpack_from(">qiibIhi", data, at)
        if base <= place.offset <= base + last:
            return CODECS[attributes & 7]
        at += 12 + length


# -- what must come of it --------------------------------------------------------------------------------------------


def is_counted(server: OnKafka, tenant: str, records: int, expected: list[Row]) -> None:
    """Wait until every record is in the ledger, then compare the rows."""

    def received() -> int:
        return sum(row["received"] for row in server.get(f"/v1/ledger?tenant_id={tenant}")[1]["ledger"])

    until(lambda: sum(row["calls"] for row in server.rows_of(tenant)) >= CALLS, f"{tenant}: all calls in rows")
    until(lambda: received() >= records, f"{tenant}: all records in the ledger")
    assert compare(expected, server.rows_of(tenant)) == []
    [entry] = server.get(f"/v1/ledger?tenant_id={tenant}")[1]["ledger"]
    assert (entry["received"], entry["aggregated"], entry["closes"]) == (records, records, True)


@pytest.mark.parametrize("codec", CODECS)
def test_what_librdkafka_sends_is_counted(server: OnKafka, brokers: str, broker_dir: Path, codec: str) -> None:
    before = server.misplaced()
    records, expected = traffic(f"c-{codec}")
    places = by_librdkafka(brokers, records, **MURMUR2, **{"compression.type": codec})
    assert {codec_of(broker_dir, place) for place in places} == {codec}
    is_counted(server, f"c-{codec}", len(records), expected)
    assert server.misplaced() == before


@pytest.mark.parametrize("client", CLIENTS)
def test_what_other_clients_send_is_counted(
    server: OnKafka, brokers: str, broker_dir: Path, client: Callable[[], list[str]]
) -> None:
    before = server.misplaced()
    sent = {codec: traffic(f"{client.__name__}-{codec}") for codec in CODECS}
    records = [(codec, record) for codec, (records, _) in sent.items() for record in records]
    places = by_program(client, brokers, records)
    codecs = {(codec, codec_of(broker_dir, place)) for (codec, _), place in zip(records, places, strict=True)}
    assert codecs == {(codec, codec) for codec in CODECS}
    for codec, (of_codec, expected) in sent.items():
        is_counted(server, f"{client.__name__}-{codec}", len(of_codec), expected)
    assert server.misplaced() == before


TOMORROW = (datetime.now(UTC) + timedelta(days=1)).isoformat()
RESPONSE = {"request_id": "bad", "timestamp": "2026-01-01T00:00:00Z"}
BAD = {
    "nothing": ("llm.requests", b"", ""),
    "a tombstone": ("llm.requests", None, ""),
    "half of a text": ("llm.requests", b'{"request_id": "bad', ""),
    "not UTF-8": ("llm.responses", b'{"request_id": "\xff"}', ""),
    "a lone surrogate": ("llm.responses", json.dumps(RESPONSE | {"request_id": "\ud800"}).encode(), ""),
    "an array": ("llm.calls", b"[]", ""),
    "a deep array": ("llm.calls", b"[" * 100_000, ""),
    "a number as id": ("llm.responses", json.dumps(RESPONSE | {"request_id": 5}).encode(), "request_id"),
    "a text as latency": ("llm.responses", json.dumps(RESPONSE | {"latency_ms": "5"}).encode(), "latency_ms"),
    "no latency": ("llm.calls", json.dumps(RESPONSE).encode(), None),
    "from the future": ("llm.responses", json.dumps(RESPONSE | {"timestamp": TOMORROW}).encode(), "timestamp"),
}
"""Topic, value, and the field that the letter names; None: whichever is missing first."""


def test_bad_records_go_to_the_dead_letters_and_stop_nothing(server: OnKafka, brokers: str) -> None:
    good, expected = traffic("mixed")
    bad = [Sent(topic, f"bad-{i}", value) for i, (topic, value, _) in enumerate(BAD.values())]
    half = len(good) // 2
    places = by_librdkafka(brokers, [*good[:half], *bad, *good[half:]], **MURMUR2)[half : half + len(bad)]
    is_counted(server, "mixed", len(good), expected)
    letters = dead_letters(brokers, len(bad))
    assert letters.keys() == {"/".join(map(str, place)) for place in places}
    for (name, (_, value, field)), place in zip(BAD.items(), places, strict=True):
        letter = letters["/".join(map(str, place))]
        assert Place(letter["topic"], letter["partition"], letter["offset"]) == place, name
        assert letter["reason"] == {"": "malformed", "timestamp": "future"}.get(letter["field"], "invalid"), name
        assert letter["field"] == field or field is None, name
        assert base64.b64decode(letter["value"]) == (value or b""), name
    assert server.get("/ready")[0] == 200


def dead_letters(brokers: str, count: int) -> dict[str, dict[str, Any]]:
    """All of them by key, once there are `count`."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "reader", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(*TP("streamlens.dlq", p), 0) for p in range(PARTITIONS)])
    letters: dict[str, dict[str, Any]] = {}

    def read() -> bool:
        for message in consumer.consume(100, 0.2):
            assert message.error() is None, message.error()
            letters[message.key().decode()] = json.loads(message.value())
        return len(letters) >= count

    until(read, f"{count} dead letters")
    consumer.close()
    return letters


def test_keys_that_another_partitioner_has_placed_are_noticed(server: OnKafka, brokers: str) -> None:
    """As long as all writers of an id have the same one, its halves meet all the same."""
    records, expected = traffic("crc32")
    by_librdkafka(brokers, records)
    is_counted(server, "crc32", len(records), expected)
    topics = ["llm.calls", "llm.requests", "llm.responses"]
    assert sorted(server.misplaced()) == topics
    assert sorted(line["topic"] for line in server.warnings("key not in its murmur2 partition")) == topics


def test_halves_that_two_partitioners_have_placed_wait_for_ever(server: OnKafka, brokers: str) -> None:
    sent, _ = traffic("two")
    requests, responses = (
        [each for each in sent if each.topic == topic] for topic in ("llm.requests", "llm.responses")
    )
    places = zip(by_librdkafka(brokers, requests, **MURMUR2), by_librdkafka(brokers, responses), strict=True)
    met = sum(request.partition == response.partition for request, response in places)
    assert 0 < met < len(requests)

    def ledger() -> list[tuple[int, int, int, bool]]:
        rows = server.get("/v1/ledger?tenant_id=two")[1]["ledger"]
        return [(row["received"], row["aggregated"], row["pending"], row["closes"]) for row in rows]

    expected = [(len(requests) + met, 2 * met, len(requests) - met, True)]
    until(lambda: ledger() == expected, f"{met} of {len(requests)} joined")
