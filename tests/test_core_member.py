"""The id of a group's member: it stays, and only one live worker has it."""

from pathlib import Path

import pytest

from streamlens.errors import Unavailable
from streamlens.member import hold, member_id


def test_the_id_survives_and_differs_between_directories(tmp_path: Path) -> None:
    first = member_id(tmp_path / "a")
    assert member_id(tmp_path / "a") == first
    assert member_id(tmp_path / "b") != first


def test_a_second_worker_in_one_directory_is_refused(tmp_path: Path) -> None:
    member_id(tmp_path)
    hold(tmp_path)
    with pytest.raises(Unavailable, match="is used by another worker"):
        hold(tmp_path)
