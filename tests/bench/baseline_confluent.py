"""Baseline: confluent-kafka reads the topics in batches and msgspec decodes the fields that a join needs.

python -m bench.baseline_confluent BROKERS GROUP EVENTS DIRECTORY
"""

import sys

import msgspec
from confluent_kafka import Consumer

from bench.halves import RequestHalf, ResponseHalf
from bench.stopwatch import Stopwatch


def main(brokers: str, group: str, events: int) -> None:
    watch = Stopwatch(events)
    decode = {
        "llm.requests": msgspec.json.Decoder(RequestHalf).decode,
        "llm.responses": msgspec.json.Decoder(ResponseHalf).decode,
    }
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe(list(decode), on_assign=lambda *_: watch.start())
    while True:
        messages = consumer.consume(5000, timeout=0.5)
        if messages:
            watch.count(len(messages))
        for message in messages:
            if message.error():
                raise RuntimeError(message.error())
            decode[message.topic()](message.value())
        watch.check()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
