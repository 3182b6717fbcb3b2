"""Exporters against a running StreamLens, old and new, in Python and JavaScript; what watches OpenAI's client;
the snippets of the guide. Rows are right.
"""

import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

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

from exporter_programs import ROOT, node, python
from openai_peer import openai_peer
from otlp_messages import JSON, PROTOBUF, TRACES, encoded, span, traces
from process_server import Server, at_last, environ, free_port, until

GUIDE = (Path(__file__).parents[1] / "docs/send.md").read_text("utf-8")
GRPC_PORT = free_port()
SPANS = 1_500
BAD = 20
SENT = 3 * 512
"""By an exporter, as three batches."""
OFTEN_TOO_MANY = """
from collections import Counter
from streamlens.ratelimit import RateLimit, RateLimited

asked = Counter()

def take(self, events):
    asked.update(events.keys())
    if any(tenant.endswith(" is told to wait") and asked[tenant] in (2, 3, 5) for tenant in events):
        raise RateLimited("too many", retry_after_s=1)

RateLimit.take = take
"""
"""Three times some tenants have to come again, however slow this machine is."""


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Server]:
    """A server that the tests share, each with its own tenants."""
    settings = {"STREAMLENS_OTLP_GRPC_PORT": str(GRPC_PORT), "STREAMLENS_RATE_LIMIT_EPS": "1"}
    with Server(scratch / "otlp", **settings) as server:
        yield server.start(OFTEN_TOO_MANY)


def totals(server: Server, tenant_id: str) -> dict[str, Any]:
    """Sums of a tenant's rows."""
    status, answer = server.get(f"/v1/metrics?tenant_id={quote(tenant_id)}&group_by=none&step=1d")
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


MODULE = "@opentelemetry/exporter-trace-otlp-"
SENDERS = {
    "Python 1.36 over HTTP is told to wait": ("otlp-1.36", "http"),
    "Python 1.44 over HTTP is told to wait": ("otlp-1.44", "http"),
    "the newest Python over HTTP is told to wait": ("", "http"),
    "the newest Python over gRPC is told to wait": ("", "grpc"),
    "JavaScript over HTTP as JSON is told to wait": ("node", f"{MODULE}http"),
    "JavaScript over HTTP as protobuf is told to wait": ("node", f"{MODULE}proto"),
    "JavaScript over gRPC, which would not wait": ("node", f"{MODULE}grpc"),
}
"""The environment that it is in (none: ours), and how it sends."""


@pytest.fixture(scope="module")
def senders(server: Server) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """All of them, sending at once."""
    with ExitStack() as stack:
        started = {}
        for name, (where, how) in SENDERS.items():
            command, cwd, program = [sys.executable, "-"], ROOT, "send.py"
            if where == "node":
                (command, cwd), program = node(), "send.mjs"
            elif where:
                command = [python(where), "-"]
            to = f"http://127.0.0.1:{GRPC_PORT}" if how.endswith("grpc") else f"{server.url}/v1/traces"
            process = subprocess.Popen(
                [*command, how, to, name, str(SENT)],
                stdin=(ROOT / "tests/exporters" / program).open(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=environ(),
                text=True,
            )
            started[name] = stack.enter_context(process)
            stack.callback(process.kill)
        yield started


@pytest.mark.parametrize("name", SENDERS)
def test_nothing_is_lost_but_the_bad_one(server: Server, senders: dict[str, subprocess.Popen[str]], name: str) -> None:
    said, _ = senders[name].communicate(timeout=90)
    assert senders[name].returncode == 0, said
    good = SENT - 1
    wanted = {"requests": good, "errors": 0, "prompt_tokens": 10 * good, "completion_tokens": 2 * good}
    wanted["cached_tokens"] = 0
    assert at_last(lambda: totals(server, name), wanted) == wanted, said


def test_those_that_should_were_told_to_wait(server: Server) -> None:
    waited = [how for name, (_, how) in SENDERS.items() if name.endswith("is told to wait")]
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=20) as answer:
        told = answer.read().decode()
    for counter, count in {
        'streamlens_http_requests_total{route="/v1/traces",status="503"}': len(waited) - 1,
        'streamlens_grpc_requests_total{code="UNAVAILABLE",path="/v1/traces"}': 1,
    }.items():
        assert f"\n{counter} {3 * count}.0\n" in told


SNIPPETS = [
    (title, *block)
    for title, text in re.findall(r"(?ms)^## (OpenTelemetry [^\n]+)\n(.*?)(?=^## |\Z)", GUIDE)
    for block in re.findall(r"(?ms)^```(sh|python|js)\n(.*?)^```$", text)
]
TITLES = ["with curl", "in Python", "in JavaScript", "over gRPC", "of OpenAI's client", "of OpenAI's client"]


def test_the_guide_has_snippets() -> None:
    assert [title for title, _, _ in SNIPPETS] == [f"OpenTelemetry {title}" for title in TITLES]


def tell(server: Server, language: str, code: str, interpreter: str = sys.executable, **more: str) -> None:
    """Run a snippet, with the addresses of this server."""
    assert (":8080" in code) != (":4317" in code)
    code = code.replace(":8080", f":{server.port}").replace(":4317", f":{GRPC_PORT}")
    command, cwd = node() if language == "js" else ([interpreter, "-"], ROOT)
    command = ["bash", "-euo", "pipefail"] if language == "sh" else command
    ended = subprocess.run(
        command, input=code, cwd=cwd, env=environ(**more), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(("title", "language", "code"), SNIPPETS[:4], ids=TITLES[:4])
def test_the_guides_snippets_send_a_call(server: Server, title: str, language: str, code: str) -> None:
    (tenant,) = set(re.findall(r"acme-\w+", code))
    tell(server, language, code)
    wanted = {"requests": 1, "errors": 0, "prompt_tokens": 120, "completion_tokens": 40, "cached_tokens": 0}
    assert at_last(lambda: totals(server, tenant), wanted) == wanted


FAILING = """
import openai
try:
    client.with_options(max_retries=0).chat.completions.create(model="full", messages=[])
except openai.RateLimitError:
    pass
"""


@pytest.mark.parametrize("instrumentation", ["openllmetry", "openinference"])
def test_openais_client_is_watched(server: Server, instrumentation: str) -> None:
    """The snippet of the guide, and one more call that fails."""
    (_, language, code), (_, _, other) = SNIPPETS[4:]
    if instrumentation == "openinference":
        code, count = re.subn(r"(?m)^from opentelemetry.instrumentation.openai .*\n", other, code)
        assert count == 1
    code = code.replace("acme-openai", instrumentation)
    code = code.replace("\nprovider.shutdown()", FAILING + "provider.shutdown()")
    with openai_peer() as found:
        tell(server, language, code, python("openai"), **found)
    wanted = {"requests": 2, "errors": 1, "prompt_tokens": 120, "completion_tokens": 40, "cached_tokens": 64}
    assert at_last(lambda: totals(server, instrumentation), wanted) == wanted
    series = server.get(f"/v1/metrics?tenant_id={instrumentation}&step=1d")[1]["metrics"]
    assert {row["model"]: row["errors"] for row in series} == {"gpt-4o-mini-2024-07-18": 0, "full": 1}

    def values() -> dict[str, set[str]]:
        by = f"/v1/metrics?tenant_id={instrumentation}&step=1d&group_by="
        return {facet: {row["value"] for row in server.get(by + facet)[1]["metrics"]} for facet in told}

    told = {"error_type": {"rate_limit"}, "provider": {"openai"}, "finish_reason": {"stop"}}
    assert at_last(values, told) == told


def test_nothing_was_lost_on_the_way(server: Server) -> None:
    assert server.faults() == []
    assert server.stop() == 0, "gRPC does not hold up the end"
    assert "grpc" not in server.stderr.lower(), "nor has it anything to say"
