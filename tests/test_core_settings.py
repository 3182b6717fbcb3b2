"""Settings: what is refused, in the user's own names."""

import sys
from pathlib import Path

import pytest

from streamlens.errors import BadSetting
from streamlens.settings import Settings


def test_defaults_are_those_of_the_contract() -> None:
    settings = Settings.load({})
    assert (settings.http_port, settings.partitions, settings.join_timeout_s) == (8080, 4, 300)
    assert (settings.out_of_order_s, settings.allowed_lateness_s, settings.max_future_s) == (30, 3600, 60)
    assert settings.data_dir == Path(".streamlens")


def test_names_of_the_environment() -> None:
    settings = Settings.load({"HTTP_PORT": "9", "STREAMLENS_DATA_DIR": "/d", "STREAMLENS_LOG_SYNC": "os", "HOME": "/"})
    assert (settings.http_port, settings.data_dir, settings.log_sync) == (9, Path("/d"), "os")


def test_an_empty_variable_is_not_set() -> None:
    assert Settings.load({"STREAMLENS_PARTITIONS": ""}).partitions == 4


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"STREAMLENS_PARTITION": "2"}, "unknown setting STREAMLENS_PARTITION; did you mean STREAMLENS_PARTITIONS?"),
        ({"STREAMLENS_XYZZY": "2"}, "unknown setting STREAMLENS_XYZZY"),
        ({"HTTP_PORT": "http"}, "HTTP_PORT: "),
        ({"STREAMLENS_OTLP_GRPC_PORT": "8080"}, "STREAMLENS_OTLP_GRPC_PORT: 8080 is HTTP_PORT too"),
        ({"STREAMLENS_LOG_SYNC": "never"}, "STREAMLENS_LOG_SYNC: "),
        ({"STREAMLENS_PARTITIONS": "0"}, "STREAMLENS_PARTITIONS must be between 1 and 256, not 0"),
        ({"STREAMLENS_MEMBER_ID": "Pod_0"}, "STREAMLENS_MEMBER_ID must be lower-case letters"),
        ({"STREAMLENS_FACETS": "region,colour"}, "STREAMLENS_FACETS: there is no facet colour"),
        ({"STREAMLENS_MAX_MODELS": "0"}, "STREAMLENS_MAX_MODELS must be between 1"),
        ({"STREAMLENS_HASH_KEY": "hunter2"}, "STREAMLENS_HASH_KEY must have 16 characters or more, or none"),
        ({"STREAMLENS_JOIN_TIMEOUT_S": "3570"}, "must be below STREAMLENS_ALLOWED_LATENESS_S"),
    ],
)
def test_refused(environ: dict[str, str], message: str) -> None:
    with pytest.raises(BadSetting, match=message.replace("?", r"\?")):
        Settings.load(environ)


@pytest.mark.parametrize(
    ("value", "kept"),
    [("", 11), ("all", 11), ("none", 0), ("region", 1), (" region, sender ,", 2)],
)
def test_facets_that_are_kept(value: str, kept: int) -> None:
    assert len(Settings.load({"STREAMLENS_FACETS": value}).kept_facets) == kept


def test_a_port_for_grpc_needs_grpcio(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load({"STREAMLENS_OTLP_GRPC_PORT": "4317"}).otlp_grpc_port == 4317
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(BadSetting, match="STREAMLENS_OTLP_GRPC_PORT needs grpcio: install the extra `grpc`"):
        Settings.load({"STREAMLENS_OTLP_GRPC_PORT": "4317"})
