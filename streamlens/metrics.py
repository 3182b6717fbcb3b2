"""Every Prometheus metric of StreamLens: name, unit, labels, and what it tells when it moves.

One registry for the process, served at `GET /metrics`. Labels are bounded: never a user, session or request id.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody asks for
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_FRESH = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)

# Receiving

EVENTS = Counter(
    "streamlens_events_total",
    "Events that HTTP took or refused. Rising `rejected`: a client sends what the contract does not allow.",
    ("kind", "outcome"),
    registry=REGISTRY,
)
"""`kind` request, response, call, llm_log, telemetry, service or span (which are written as calls), evaluation, log,
metric, or unknown; `outcome` accepted (durable), rejected, or ignored (spans that are no call of a model)."""

INGEST_BYTES = Counter(
    "streamlens_ingest_bytes_total", "Bytes of the event bodies received, after decompression.", registry=REGISTRY
)
HTTP_REQUESTS = Counter(
    "streamlens_http_requests_total", "HTTP requests answered.", ("route", "status"), registry=REGISTRY
)
"""`route` is the pattern, "other" for paths that do not exist."""

GRPC_REQUESTS = Counter(
    "streamlens_grpc_requests_total",
    "Requests over OTLP/gRPC answered. What is too large has no code here: it is refused before it comes to us.",
    ("path", "code"),
    registry=REGISTRY,
)
"""`path` is that of the same signal over HTTP, `code` the name of gRPC's."""

HTTP_SECONDS = Histogram(
    "streamlens_http_request_seconds",
    "Seconds to answer an HTTP request, reading its body included.",
    ("route",),
    buckets=_FAST,
    registry=REGISTRY,
)

# Processing

CONSUMER_LAG = Gauge(
    "streamlens_consumer_lag_records",
    "Records in the log that were not processed yet. Rising for minutes: add workers or find the slow one.",
    ("topic", "partition"),
    registry=REGISTRY,
)
WATERMARK_LAG = Gauge(
    "streamlens_watermark_lag_seconds",
    "Seconds that the watermark is behind the wall clock. Rows become final only when it has passed them.",
    ("partition",),
    registry=REGISTRY,
)
CHECKPOINT_SECONDS = Histogram(
    "streamlens_checkpoint_seconds", "Seconds that a checkpoint took.", buckets=_FAST, registry=REGISTRY
)
CHECKPOINT_AGE = Gauge(
    "streamlens_checkpoint_age_seconds",
    "Seconds since the last checkpoint that succeeded. Above 10: nothing becomes durable.",
    ("stage", "partition"),
    registry=REGISTRY,
)
RECOVERY_SECONDS = Gauge(
    "streamlens_recovery_seconds", "Seconds that the last takeover of partitions took.", registry=REGISTRY
)
DEAD_LETTERS = Counter(
    "streamlens_dlq_total",
    "Events from the log that could not be used and went to the dead letters.",
    ("reason",),
    registry=REGISTRY,
)
MISPLACED_KEYS = Counter(
    "streamlens_misplaced_keys_total",
    "Sampled events outside of the partition that murmur2 gives their request id. Rising: a producer has another"
    " partitioner, and its requests and responses may never meet.",
    ("topic",),
    registry=REGISTRY,
)
"""One event of each run is looked at."""

SERIES_OVERFLOW = Counter(
    "streamlens_series_overflow_total",
    "Events counted as `__other__` because a tenant has too many routes, models, series, or names of another label.",
    ("tenant", "label"),
    registry=REGISTRY,
)

# Serving

POSTGRES_WRITE_SECONDS = Histogram(
    "streamlens_postgres_write_seconds", "Seconds that a write to Postgres took.", buckets=_FAST, registry=REGISTRY
)
FRESHNESS_SECONDS = Histogram(
    "streamlens_freshness_seconds",
    "Seconds from the append of an event to the commit of its row in Postgres. The promise is 2.",
    buckets=_FRESH,
    registry=REGISTRY,
)
LEDGER_IMBALANCE = Gauge(
    "streamlens_ledger_imbalance",
    "Events by which the ledger does not close. Anything but 0 is a bug.",
    registry=REGISTRY,
)
