"""Users' names: what they depend on, and what they do not."""

import pytest

from streamlens.userhash import UserHash

SECRET = "correct horse battery"


def name(secret: str = "", log_id: str = "log-1", tenant_id: str = "acme", user_id: str = "ann") -> bytes:
    return UserHash(secret, lambda: log_id).of(tenant_id, user_id)


def test_a_user_has_one_name_on_all_workers_and_after_each_restart() -> None:
    assert name().hex() == name().hex() == "681d7a0cf1c570aa24d78078"
    assert name(SECRET, "log-1") == name(SECRET, "log-2")


@pytest.mark.parametrize(
    "other",
    [{"user_id": "bob"}, {"tenant_id": "evil"}, {"log_id": "log-2"}, {"secret": SECRET}, {"secret": "log-1"}],
    ids=["another user", "the same user of another tenant", "another log", "a key", "a key that is the log's id"],
)
def test_another_name(other: dict[str, str]) -> None:
    assert name(**other) != name()


def test_many_users_have_as_many_names() -> None:
    hashes = UserHash(SECRET, lambda: "")
    assert len({hashes.of("acme", str(user)) for user in range(10_000)}) == 10_000


def test_the_log_is_asked_when_the_first_user_comes() -> None:
    def closed() -> str:
        raise AssertionError("the log is not open yet")

    UserHash("", closed)
    assert UserHash(SECRET, closed).of("acme", "ann") == name(SECRET)
