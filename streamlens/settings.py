"""All settings, read once from the environment, validated whole, frozen. Nothing else reads the environment.

Faust's own settings keep the prefix `FAUST_`. `.env.example` lists every name with unit, default and meaning of zero.
"""

import difflib
import re
import ssl
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import msgspec

from streamlens.errors import BadSetting
from streamlens.facets import FACETS
from streamlens.redact import PATTERNS
from streamlens.watermark import Lines

PREFIX = "STREAMLENS_"
_SECRET_CHARACTERS = 16
_MEMBER = r"[a-z0-9]([a-z0-9.-]{0,98}[a-z0-9])?"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One process' settings. Field names are the names of the environment in lower case, without `STREAMLENS_`."""

    kafka_brokers: str = ""
    """Comma separated; empty: the local log in the data directory."""
    postgres_dsn: str = ""
    """Empty: an embedded PostgreSQL in the data directory."""
    http_port: int = 8080
    consumer_group: str = "metrics-processor-group"
    """Also the Faust app id, from which the changelog topics have their names."""

    data_dir: Path = Path(".streamlens")
    http_host: str = "127.0.0.1"
    otlp_grpc_port: int = 0
    """0: no OTLP over gRPC."""
    partitions: int = 4
    """Of each topic; 8 on Kafka."""
    checkpoint_interval_s: float = 0.5
    window_s: int = 60
    join_timeout_s: int = 300
    out_of_order_s: int = 30
    allowed_lateness_s: int = 3600
    max_future_s: int = 60
    log_sync: Literal["always", "os"] = "always"
    log_retention_h: float = 24.0
    """0 keeps everything."""
    max_body_mib: int = 16
    """For bulk bodies, after decompression."""
    auth: Literal["off", "keys"] = "off"
    """keys: each request needs an API key, and ids are unique within a tenant."""
    api_key: str = ""
    """What commands of this program send that talk to a running one."""
    rate_limit_eps: float = 0.0
    """Events per second of one tenant that one process takes; 0: any number."""
    prices_file: Path | None = None
    hash_key: str = ""
    """Of the names under which users are kept; empty: it follows from the log's id."""
    capture_content: Literal["off", "on"] = "off"
    """on: calls that are kept have their prompt and response."""
    redact: str = "all"
    """Comma separated: the built-in patterns whose matches are taken out of texts that are kept."""
    redact_file: Path | None = None
    """Further patterns, one expression a line."""
    facets: str = "all"
    """Comma separated; "none": calls are counted by route and model alone."""
    max_routes: int = 200
    max_models: int = 200
    max_series: int = 5000
    """Of a tenant in a partition; what is beyond counts as `__other__`."""
    max_visitors: int = 100_000
    """Rows of users, and of sessions, by route, of a tenant's day in a partition; what is beyond is not kept."""
    retention_days: float = 7.0
    """Of minutes (those of calls and facets once they are part of an hour) and sessions; 0 keeps everything."""
    hourly_retention_days: float = 400.0
    """Of rows of hours; 0 keeps everything."""
    user_retention_days: float = 400.0
    """Of users, of whom a cohort needs history; 0 keeps everything."""
    recent_days: float = 1.0
    """Of single records, such as lines of logs; 0 keeps everything."""
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    kafka_username: str = ""
    kafka_password: str = ""
    kafka_ca_file: Path | None = None
    """Empty: the system's certificate authorities."""
    kafka_session_s: int = 10
    """How long a worker may be silent before the group gives its partitions to others."""
    member_id: str = ""
    """Of this worker alone in its group, and for ever; empty: one is made and kept in the data directory."""
    log_format: Literal["auto", "text", "json"] = "auto"
    """auto: people's lines on a terminal, JSON otherwise."""

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> "Settings":
        """Read and validate. Raises `BadSetting` that names the variable as the user wrote it."""
        names = {_variable(field): field for field in cls.__struct_fields__}
        for name in environ:
            if name.startswith(PREFIX) and name not in names:
                near = difflib.get_close_matches(name, names, 1)
                raise BadSetting(f"unknown setting {name}" + (f"; did you mean {near[0]}?" if near else ""))
        given = {field: environ[name] for name, field in names.items() if environ.get(name, "") != ""}
        try:
            settings = msgspec.convert(given, cls, strict=False, dec_hook=lambda kind, value: kind(value))
        except msgspec.ValidationError as error:
            message, _, path = str(error).partition(" - at `$.")
            raise BadSetting(f"{_variable(path.rstrip('`'))}: {message}") from None
        if settings.kafka_brokers and "partitions" not in given:
            settings = msgspec.structs.replace(settings, partitions=8)
        settings._check()
        return settings

    def _check(self) -> None:
        for field, low, high in (
            ("http_port", 1, 65535),
            ("otlp_grpc_port", 0, 65535),
            ("partitions", 1, 256),
            ("checkpoint_interval_s", 0.01, 60),
            ("window_s", 1, 86_400),
            ("join_timeout_s", 0, 86_400),
            ("out_of_order_s", 0, 86_400),
            ("allowed_lateness_s", 1, 30 * 86_400),
            ("max_future_s", 0, 86_400),
            ("log_retention_h", 0, 10_000),
            ("max_body_mib", 1, 1024),
            ("rate_limit_eps", 0, 10_000_000),
            ("max_routes", 1, 100_000),
            ("max_models", 1, 100_000),
            ("max_series", 1, 1_000_000),
            ("max_visitors", 0, 10_000_000),
            ("retention_days", 0, 36_500),
            ("user_retention_days", 0, 36_500),
            ("hourly_retention_days", 0, 36_500),
            ("recent_days", 0, 36_500),
            ("kafka_session_s", 6, 300),
        ):
            if not low <= getattr(self, field) <= high:
                raise BadSetting(f"{_variable(field)} must be between {low} and {high}, not {getattr(self, field)}")
        if not self.join_timeout_s + self.out_of_order_s < self.allowed_lateness_s:
            raise BadSetting(
                f"{PREFIX}JOIN_TIMEOUT_S + {PREFIX}OUT_OF_ORDER_S must be below {PREFIX}ALLOWED_LATENESS_S"
                f" ({self.join_timeout_s} + {self.out_of_order_s} against {self.allowed_lateness_s})"
            )
        if 0 < len(self.hash_key) < _SECRET_CHARACTERS:
            raise BadSetting(f"{PREFIX}HASH_KEY must have {_SECRET_CHARACTERS} characters or more, or none")
        self._check_grpc()
        self._check_choices()
        self._check_kafka()

    def _check_grpc(self) -> None:
        if self.otlp_grpc_port == self.http_port:
            raise BadSetting(f"{PREFIX}OTLP_GRPC_PORT: {self.http_port} is HTTP_PORT too")
        if self.otlp_grpc_port and find_spec("grpc") is None:
            raise BadSetting(f"{PREFIX}OTLP_GRPC_PORT needs grpcio: install the extra `grpc`, or set it to 0")

    def _check_choices(self) -> None:
        for field, word, chosen, known in (
            ("FACETS", "facet", self.kept_facets, FACETS),
            ("REDACT", "pattern", self.redacted, tuple(PATTERNS)),
        ):
            if unknown := set(chosen) - set(known):
                raise BadSetting(
                    f"{PREFIX}{field}: there is no {word} {min(unknown)}; all, none, or of {', '.join(known)}"
                )

    def _check_kafka(self) -> None:
        with_sasl = self.kafka_security.startswith("SASL")
        for field in ("kafka_username", "kafka_password"):
            if bool(getattr(self, field)) != with_sasl:
                state = "is not set" if with_sasl else "is set"
                raise BadSetting(f"{_variable(field)} {state}, and {PREFIX}KAFKA_SECURITY is {self.kafka_security}")
        if self.kafka_ca_file:
            try:
                ssl.create_default_context(cafile=self.kafka_ca_file)
            except OSError as error:
                raise BadSetting(f"{PREFIX}KAFKA_CA_FILE: {self.kafka_ca_file}: {error.strerror or error}") from None
        if self.member_id and not re.fullmatch(_MEMBER, self.member_id):
            raise BadSetting(
                f"{PREFIX}MEMBER_ID must be lower-case letters, digits, and between them . and -, 100 at most"
            )

    @property
    def kept_facets(self) -> tuple[str, ...]:
        """The facets by which calls are counted too."""
        return _chosen(self.facets, FACETS)

    @property
    def redacted(self) -> tuple[str, ...]:
        """The built-in patterns that are taken out."""
        return _chosen(self.redact, tuple(PATTERNS))

    @property
    def window_us(self) -> int:
        return self.window_s * 1_000_000

    @property
    def lines(self) -> Lines:
        return Lines(
            self.window_us,
            self.join_timeout_s * 1_000_000,
            self.out_of_order_s * 1_000_000,
            self.allowed_lateness_s * 1_000_000,
        )

    @property
    def host_in_urls(self) -> str:
        """The address to serve on, as it stands before a port."""
        return f"[{self.http_host}]" if ":" in self.http_host else self.http_host

    @property
    def url(self) -> str:
        """Where this process serves."""
        return f"http://{self.host_in_urls}:{self.http_port}"


def _chosen(value: str, every: tuple[str, ...]) -> tuple[str, ...]:
    """What a comma separated choice, "all" or "none" names."""
    if value in ("all", "none"):
        return every if value == "all" else ()
    return tuple(name.strip() for name in value.split(",") if name.strip())


_BARE = ("kafka_brokers", "postgres_dsn", "http_port", "consumer_group")


def _variable(field: str) -> str:
    """The environment's name of a field; the four of the original service have no prefix."""
    return field.upper() if field in _BARE else PREFIX + field.upper()
