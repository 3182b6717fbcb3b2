"""The exporters of OpenTelemetry's SDK against a running StreamLens, and the snippets of the guide: rows are right."""

import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import StatusCode

from otlp_messages import JSON, PROTOBUF, TRACES, encoded, span, traces
from process_server import Server, environ, until

GUIDE = (Path(__file__).parents[1] / "docs/send.md").read_text("utf-8")
SPANS = 1_500
BAD = 20


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Server]:
    """A server that the tests share, each with its own tenants."""
    with Server(scratch / "otlp") as server:
        yield server.start()


def totals(server: Server, tenant_id: str) -> dict[str, Any]:
    """Sums of a tenant's rows."""
    status, answer = server.get(f"/v1/metrics?tenant_id={tenant_id}&group_by=none&step=1d")
    assert status == 200
    names = ("requests", "errors", "prompt_tokens", "completion_tokens", "cached_tokens")
    return {name: sum(row[name] for row in answer["metrics"]) for name in names}


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip, Compression.Deflate])
def test_spans_of_the_sdk_are_rows(server: Server, compression: Compression) -> None:
    tenant = f"sdk-{compression.value}"
    provider = TracerProvider(resource=Resource.create({"service.name": "shop", "tenant.id": tenant}))
    exporter = OTLPSpanExporter(f"{server.url}/v1/traces", compression=compression)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=SPANS * 4))
    tracer = provider.get_tracer("test")
    said = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m-1", "gen_ai.usage.output_tokens": 2}
    for number in range(SPANS):
        with tracer.start_as_current_span("invoke_agent", attributes=said | {"gen_ai.operation.name": "invoke_agent"}):
            tokens = -1 if number < BAD else 10
            call = tracer.start_span("chat m-1", attributes=said | {"gen_ai.usage.input_tokens": tokens})
            if number % 10 == 9:
                call.set_status(StatusCode.ERROR, "boom")
            call.end()
    provider.shutdown()

    good = SPANS - BAD
    wanted = {"requests": good, "errors": 148, "prompt_tokens": 10 * good, "completion_tokens": 2 * good}
    wanted["cached_tokens"] = 0
    until(lambda: totals(server, tenant)["requests"] >= good, "all rows are there")
    assert totals(server, tenant) == wanted


def test_a_response_that_two_spans_report_counts_once(server: Server) -> None:
    start_ns = time.time_ns() - 10_000_000_000
    times = {"startTimeUnixNano": str(start_ns), "endTimeUnixNano": str(start_ns + 1_000_000)}
    said = {"gen_ai.response.id": "r-1"}
    for number, form in enumerate((JSON, PROTOBUF, JSON), 1):
        both = traces(span(1, said, **times), span(number, said, **times), resource={"tenant.id": "twice"})
        request = urllib.request.Request(f"{server.url}/v1/traces", encoded(TRACES, form, both), {"Content-Type": form})
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200

    def ledger() -> tuple[int, int]:
        rows = server.get("/v1/ledger?tenant_id=twice")[1]["ledger"]
        return sum(row["aggregated"] for row in rows), sum(row["duplicate"] for row in rows)

    until(lambda: sum(ledger()) == 6, "all are booked")
    assert ledger() == (1, 5)
    assert totals(server, "twice")["requests"] == 1


def test_logs_and_metrics_of_the_sdk_are_there(server: Server) -> None:
    resource = Resource.create({"service.name": "shop", "tenant.id": "observed"})
    lines = LoggerProvider(resource=resource)
    lines.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{server.url}/v1/logs")))
    lines.get_logger("test").emit(
        severity_number=SeverityNumber.ERROR, body={"content": "hello"}, event_name="gen_ai.user.message"
    )
    lines.shutdown()
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{server.url}/v1/metrics"))
    meters = MeterProvider([reader], resource=resource)
    meters.get_meter("test").create_counter("jobs", unit="1").add(7, {"queue": "a"})
    meters.get_meter("test").create_histogram("lag").record(3.0)
    meters.shutdown()

    def found(path: str) -> Any:
        return server.get(path)[1]

    until(lambda: found("/api/v1/analytics/logs/recent?tenant_id=observed")["count"] == 1, "the line is there")
    (line,) = found("/api/v1/analytics/logs/recent?tenant_id=observed")["logs"]
    assert (line["level"], line["message"], line["service"]) == ("ERROR", '{"content":"hello"}', "shop")
    until(lambda: found("/v1/tallies?tenant_id=observed&kind=metric")["count"] == 1, "the measurement is there")
    (tally,) = found("/v1/tallies?tenant_id=observed&kind=metric")["tallies"]
    assert (tally["name"], tally["count"], float(tally["sum"])) == ("jobs", 1, 7.0)


_SECTIONS = re.findall(r"## ([^\n]+)\n(?:(?!\n## )[\s\S])*?```(sh|python)\n(.*?)```", GUIDE, re.DOTALL)
SNIPPETS = [section for section in _SECTIONS if section[0].startswith("OpenTelemetry ")]


@pytest.mark.parametrize(("title", "language", "code"), SNIPPETS, ids=[title for title, _, _ in SNIPPETS])
def test_the_guides_snippets_send_a_call(server: Server, title: str, language: str, code: str) -> None:
    (tenant,) = set(re.findall(r"acme-\w+", code))
    assert ":8080" in code
    run = ["bash", "-euo", "pipefail", "-c"] if language == "sh" else [sys.executable, "-c"]
    code = code.replace(":8080", f":{server.port}")
    ended = subprocess.run([*run, code], env=environ(), capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    until(lambda: totals(server, tenant)["requests"] == 1, f"the call of {title!r} has a row")
    found = totals(server, tenant)
    assert (found["prompt_tokens"], found["completion_tokens"]) == (120, 40)


def test_the_guide_has_snippets() -> None:
    assert [language for _, language, _ in SNIPPETS] == ["sh", "python"]


def test_nothing_was_lost_on_the_way(server: Server) -> None:
    assert server.faults() == []
