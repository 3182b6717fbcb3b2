"""Event time: which windows a watermark closes and expires, and what moves it."""

import pytest

from streamlens.watermark import IDLE_AFTER_US, Lines, Watermark

S = 1_000_000
LINES = Lines(window_us=60 * S, join_timeout_us=300 * S, out_of_order_us=30 * S, lateness_us=3600 * S)
NOW = 1_000_000 * S


@pytest.mark.parametrize(
    ("watermark_s", "closed", "expired"),
    [
        (0, -7, -61),
        (389, -1, -55),
        (390, 0, -55),  # 60 + 300 + 30
        (450, 1, -54),
        (3659, 54, -1),
        (3660, 54, 0),  # 60 + 3600
    ],
)
def test_lines(watermark_s: int, closed: int, expired: int) -> None:
    assert (LINES.closed(watermark_s * S), LINES.expired(watermark_s * S)) == (closed, expired)


Step = tuple[int, dict[str, int], dict[str, int], dict[str, int], int]

CASES: list[tuple[str, list[Step]]] = [
    # each step: seconds after NOW, highest event times seen, offsets, end offsets -> the watermark, seconds after NOW
    ("the slowest input counts", [(0, {"q": -5, "r": -8}, {"q": 1, "r": 1}, {"q": 2, "r": 2}, -38)]),
    (
        "it never goes back",
        [(0, {"q": 0}, {"q": 1}, {"q": 2}, -30), (1, {"q": -100}, {"q": 1}, {"q": 2}, -30)],
    ),
    ("an event from the future counts up to the wall clock", [(0, {"q": 50}, {"q": 1}, {"q": 2}, -30)]),
    (
        "an input that is read to its end holds the others up for a while, then not",
        [
            (0, {"q": 0, "r": -100}, {"q": 1, "r": 7}, {"q": 2, "r": 7}, -130),
            (9, {"q": 9, "r": -100}, {"q": 1, "r": 7}, {"q": 2, "r": 7}, -130),
            (10, {"q": 10, "r": -100}, {"q": 1, "r": 7}, {"q": 2, "r": 7}, -20),
        ],
    ),
    (
        "all idle: the wall clock",
        [(0, {"q": -500}, {"q": 7}, {"q": 7}, -530), (10, {"q": -500}, {"q": 7}, {"q": 7}, -20)],
    ),
    (
        "a backlog that was found in between ends the wait",
        [
            (0, {"q": -500}, {"q": 7}, {"q": 7}, -530),
            (9, {"q": -500}, {"q": 7}, {"q": 9}, -530),
            (10, {"q": -500}, {"q": 9}, {"q": 9}, -530),
            (19, {"q": -500}, {"q": 9}, {"q": 9}, -530),
            (20, {"q": -500}, {"q": 9}, {"q": 9}, -10),
        ],
    ),
]


@pytest.mark.parametrize("steps", [case[1] for case in CASES], ids=[case[0] for case in CASES])
def test_watermark(steps: list[Step]) -> None:
    assert IDLE_AFTER_US == 10 * S
    watermark = Watermark(None, 0, LINES.out_of_order_us)
    for seconds, highest, offsets, ends, expected in steps:
        watermark.highest_us.update({topic: NOW + at * S for topic, at in highest.items()})
        watermark.advance(NOW + seconds * S, offsets, ends)
        assert (watermark.value_us - NOW) / S == expected
        watermark.value_us = Watermark.decode(watermark.encode(), LINES.out_of_order_us).value_us


def test_an_input_that_was_never_written_holds_nothing_up_once_it_is_idle() -> None:
    watermark = Watermark(None, 0, LINES.out_of_order_us)
    watermark.highest_us["q"] = NOW
    for seconds in (0, 10):
        watermark.advance(NOW + seconds * S, {"q": 1}, {"q": 5, "calls": 0})
    assert watermark.value_us == NOW - 30 * S
