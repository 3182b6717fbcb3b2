"""The broker that the tests start: what it says where it can't be started."""

import pytest

from kafka_broker import temporary_broker


def test_without_java_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RuntimeError, match="apt-get install default-jdk-headless maven"):
        temporary_broker()
