"""The id of a group's member: it stays, and only one live worker has it."""

from pathlib import Path

import pytest

from streamlens.errors import Unavailable
from streamlens.member import hold, member_id


def test_the_id_survives_and_differs_between_directories(tmp_path: Path) -> None:
    first = member_id(tmp_path / "a")
    assert member_id(tmp_path / "a") == first
    assert member_id(tmp_path / "b") != first


def test_a_name_that_is_given_is_the_id_also_when_the_directory_is_new(tmp_path: Path) -> None:
    made = member_id(tmp_path / "a")
    assert member_id(tmp_path / "a", "pod-0") == "pod-0" != made
    assert member_id(tmp_path / "a") == "pod-0"
    assert member_id(tmp_path / "new", "pod-0") == "pod-0"


def test_an_id_that_a_kill_left_empty_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "member").touch()
    assert len(made := member_id(tmp_path)) == 32
    assert member_id(tmp_path) == made


def test_a_name_that_is_given_keeps_the_lock(tmp_path: Path) -> None:
    member_id(tmp_path)
    hold(tmp_path)
    member_id(tmp_path, "pod-0")
    with pytest.raises(Unavailable, match="is used by another worker"):
        hold(tmp_path)


def test_a_second_worker_in_one_directory_is_refused(tmp_path: Path) -> None:
    member_id(tmp_path)
    hold(tmp_path)
    with pytest.raises(Unavailable, match="is used by another worker"):
        hold(tmp_path)
