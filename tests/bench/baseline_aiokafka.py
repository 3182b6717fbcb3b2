"""Baseline: aiokafka reads the topics and msgspec decodes the fields that a join needs. Nothing else.

python -m bench.baseline_aiokafka BROKERS GROUP EVENTS DIRECTORY
"""

import sys
from typing import Any

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener

from bench.halves import RequestHalf, ResponseHalf
from bench.stopwatch import Stopwatch


class Starter(ConsumerRebalanceListener):  # type: ignore[misc]
    """Starts the watch."""

    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch

    def on_partitions_revoked(self, _: Any) -> None:
        pass

    def on_partitions_assigned(self, _: Any) -> None:
        self._watch.start()


async def main(brokers: str, group: str, events: int) -> None:
    watch = Stopwatch(events)
    decode = {
        "llm.requests": msgspec.json.Decoder(RequestHalf).decode,
        "llm.responses": msgspec.json.Decoder(ResponseHalf).decode,
    }
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    consumer.subscribe(list(decode), listener=Starter(watch))
    await consumer.start()
    while True:
        for tp, records in (await consumer.getmany(timeout_ms=500)).items():
            watch.count(len(records))
            decoded = decode[tp.topic]
            for record in records:
                decoded(record.value)
        watch.check()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
