"""What aiokafka logs while a broker is away, event by event on a clock that the test moves."""

import logging

import pytest

import streamlens.kafka
from streamlens.kafka.quiet import OncePerMinute, quieten


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([(0, "ERROR", "away %s"), (1, "ERROR", "away %s"), (59, "ERROR", "away %s")], [0]),
        ([(0, "ERROR", "away %s"), (60, "ERROR", "away %s"), (61, "ERROR", "away %s")], [0, 60]),
        ([(0, "ERROR", "away %s"), (1, "WARNING", "other"), (2, "ERROR", "away %s")], [0, 1]),
        ([(0, "INFO", "told"), (1, "INFO", "told")], [0, 1]),
    ],
    ids=["once", "again after a minute", "each text by itself", "information passes"],
)
def test_a_text_passes_once_a_minute(lines: list[tuple[int, str, str]], expected: list[int]) -> None:
    now = 0
    once = OncePerMinute(lambda: now)
    passed = []
    for now, level, text in lines:  # the clock reads it
        record = logging.LogRecord("aiokafka", getattr(logging, level), "", 0, text, (now,), None)
        if once.filter(record):
            passed.append(now)
    assert passed == expected


def test_the_loggers_of_aiokafka_have_it() -> None:
    assert streamlens.kafka.KafkaLog
    for _ in range(2):
        quieten()
    for name in ("aiokafka", "aiokafka.producer.sender", "aiokafka.consumer.fetcher"):
        assert sum(isinstance(each, OncePerMinute) for each in logging.getLogger(name).filters) == 1
