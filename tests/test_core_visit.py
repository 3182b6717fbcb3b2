"""What is kept of a visitor: it adds up in any order, and in which window a day's rows are."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import msgspec
import pytest

from streamlens.checkpoint.state import State
from streamlens.checkpoint.store import RocksStore
from streamlens.join import RequestHalf
from streamlens.usage import Usage
from streamlens.userhash import UserHash
from streamlens.visit import DAY_US, MINUTE_US, Visit, decode_visit, encode_visit
from tables.visits import Visits
from tables.windowed import window_of

USED = Usage(5, None, 10, 20, 0, 0, 0, None)
FAILED = Usage(5, None, 1, 0, 0, 0, 0, "timeout")
DAY = 20_000


def test_calls_add_up_to_the_same_in_any_order_and_over_any_partitions() -> None:
    random = Random(7)
    calls = [
        (
            DAY * DAY_US + random.choice((5, 5, 70, 700)) * MINUTE_US // 2,
            random.choice("xyz"),
            random.choice(("", "ann", "bob")),
            random.choice((USED, FAILED)),
            random.choice((None, 0, 10**18)),
        )
        for _ in range(200)
    ]
    whole = Visit()
    for call in calls:
        whole.add(*call)
    assert (whole.first_us % DAY_US, whole.first_model, whole.user) == (150_000_000, "x", "ann")
    assert (whole.minutes, whole.calls, whole.cost_pico % 10**18) == ({2, 35, 350}, 200, 0)
    assert whole.cost_pico > 2**64
    for _ in range(10):
        random.shuffle(calls)
        parts = [Visit() for _ in range(4)]
        for call in calls:
            random.choice(parts).add(*call)
        total = Visit()
        for part in parts:
            total.merge(decode_visit(encode_visit(part)))
        assert total == whole


def test_a_row_says_whether_a_call_was_news() -> None:
    visit, at_us = Visit(), DAY * DAY_US + 90_000_000
    told = [visit.see(at_us, "b"), visit.see(at_us, "b"), visit.see(at_us, "a"), visit.see(at_us + 1, "0")]
    told += [visit.see(at_us - 1, "z"), visit.see(at_us + MINUTE_US, "z"), visit.see(at_us - MINUTE_US, "z")]
    assert told == [True, False, True, False, True, True, True]
    assert visit == Visit(at_us - MINUTE_US, "z", {0, 1, 2})


def keys(path: Path, window_s: int, times_us: list[int]) -> Iterator[tuple[int, str]]:
    """Window and names of the rows of a user's calls."""
    visits, state = Visits(window_s * 1_000_000, 100, UserHash("", str)), State(RocksStore(path))
    visits.open(state, -1)
    for at_us in times_us:
        half = RequestHalf(at_us, "acme", "chat", "m", None, None, user_id="ann")
        visits.count(at_us // (window_s * 1_000_000), half, ("chat", "m"), USED, None)
    visits.flush(-1)
    for key, _ in state.scan(b"v", b"w"):
        yield window_of(key), key[5:].decode()


@pytest.mark.parametrize("window_s", [1, 7, 60, 3600, 50_000, 86_399, 86_400])
@pytest.mark.parametrize("day", [0, DAY, DAY + 1, 40_000])
def test_a_days_row_is_in_the_last_window_of_the_day(tmp_path: Path, window_s: int, day: int) -> None:
    window_us, begin = window_s * 1_000_000, day * DAY_US
    times = [begin, begin + DAY_US // 3, begin + DAY_US - 1, begin + DAY_US]
    (today, _), (tomorrow, _) = keys(tmp_path, window_s, times)
    assert today == max(at_us // window_us for at_us in times[:3]), "it expires with the last call that can be in it"
    assert tomorrow > today


def test_a_user_is_kept_under_its_hash_alone(tmp_path: Path) -> None:
    ((_, names),) = keys(tmp_path, 60, [DAY * DAY_US])
    assert names == f"acme\0user\0{UserHash('', str).of('acme', 'ann').hex()}\0chat"


def test_rows_of_before_are_read_with_the_defaults_of_new_fields() -> None:
    assert decode_visit(b'[5,"m",[0]]') == Visit(5, "m", {0})
    assert msgspec.json.decode(encode_visit(Visit(5, "m", {7, 3}))) == [5, "m", [3, 7], 0, "", 0, 0, 0, 0, 0, 0, 0]
