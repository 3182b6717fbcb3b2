"""How many names a tenant may have, and what becomes of the others."""

from streamlens.scores import MAX_LABELS, OTHER_LABEL, Scores
from tables.caps import MAX_VALUES, OTHER, Caps


def test_names_beyond_the_limit_are_one_name_and_those_before_stay() -> None:
    caps = Caps({"route": 2})
    assert [caps.admit(1, "a", "route", name) for name in ("x", "y", "z", "x", "z")] == ["x", "y", OTHER, "x", OTHER]
    assert caps.admit(1, "b", "route", "z") == "z", "each tenant has its own"
    assert caps.admit(1, "a", "model", "z") == "z", "and each label"


def test_a_name_holds_its_place_while_a_window_is_open_that_has_it() -> None:
    caps = Caps({"route": 2})
    caps.admit(1, "a", "route", "x")
    caps.admit(1, "a", "route", "y")
    caps.admit(3, "a", "route", "x")
    caps.rest(2)
    assert [caps.admit(4, "a", "route", name) for name in ("x", "z", "y")] == ["x", "z", OTHER]
    caps.rest(4)
    assert caps._names == {}


def test_a_name_that_has_rows_keeps_them_when_the_limit_is_lower_now() -> None:
    caps = Caps({"route": 1})
    caps.seen(1, "a", "route", "x")
    caps.seen(1, "a", "route", "y")
    assert [caps.admit(1, "a", "route", name) for name in ("x", "y", "z")] == ["x", "y", OTHER]


def test_a_series_counts_by_its_names_as_long_as_there_is_room_for_it() -> None:
    caps = Caps({"route": 2, "model": 2, "series": 3})
    asked = [("r1", "m1"), ("r1", "m2"), ("r2", "m1"), ("r2", "m2"), ("r3", "m1"), ("r1", "m3"), ("r3", "m3")]
    assert [caps.series(1, "a", route, model) for route, model in asked] == [
        ("r1", "m1", ()),
        ("r1", "m2", ()),
        ("r2", "m1", ()),
        (OTHER, OTHER, ("series",)),
        (OTHER, OTHER, ("route", "series")),
        (OTHER, OTHER, ("model", "series")),
        (OTHER, OTHER, ("route", "model")),
    ]
    caps = Caps({"route": 1})
    assert [caps.series(1, "a", route, "m") for route in ("r1", "r2")] == [("r1", "m", ()), (OTHER, "m", ("route",))]


def test_names_too_long_for_an_index_count_as_others() -> None:
    long = chr(0x10000) * 256
    assert Caps({}).series(1, long, long, long) == (OTHER, OTHER, ("series",))
    assert Caps({}).series(1, long, long, "m") == (long, "m", ())


def test_a_name_that_is_the_others_name_takes_no_place() -> None:
    caps = Caps({"route": 1, "model": 1})
    assert caps.series(1, "a", OTHER, OTHER) == (OTHER, OTHER, ())
    assert caps.series(1, "a", "r", "m") == ("r", "m", ())


def test_ten_thousand_names_take_no_more_memory_than_the_limit() -> None:
    caps = Caps({})
    for number in range(10_000):
        caps.admit(1, "a", "region", f"junk {number}")
    assert len(caps._names["a", "region"]) == MAX_VALUES


def test_labels_of_an_evaluation_are_bounded_too() -> None:
    scores = Scores()
    for number in range(10 * MAX_LABELS):
        scores.add(None, f"label {number}")
    scores.add(None, "label 1")
    assert len(scores.labels) == MAX_LABELS + 1
    assert (scores.count, scores.labels["label 1"], scores.labels[OTHER_LABEL]) == (
        10 * MAX_LABELS + 1,
        2,
        9 * MAX_LABELS,
    )
