"""`/health`, `/ready` and `/metrics`: what supervisors and Prometheus ask."""

from pathlib import Path

import msgspec
import pytest
from prometheus_client import openmetrics
from prometheus_client.openmetrics import parser as open_parser
from prometheus_client.parser import text_string_to_metric_families

from web.health import Part
from web_server import WELL, serving

PROMISED = {
    "streamlens_events_total",
    "streamlens_http_requests_total",
    "streamlens_http_request_seconds",
    "streamlens_ingest_bytes_total",
    "streamlens_consumer_lag_records",
    "streamlens_watermark_lag_seconds",
    "streamlens_checkpoint_seconds",
    "streamlens_checkpoint_age_seconds",
    "streamlens_recovery_seconds",
    "streamlens_postgres_write_seconds",
    "streamlens_dlq_total",
    "streamlens_ledger_imbalance",
    "streamlens_freshness_seconds",
    "streamlens_series_overflow_total",
}


async def test_the_process_is_healthy_before_anything_else_is(tmp_path: Path) -> None:
    async with serving(tmp_path, services=None) as site:
        answer = await site.http.get("/health")
        assert (answer.status, await answer.json()) == (200, {"status": "healthy"})
        assert (await site.http.get("/ready")).status == 503


async def test_ready_when_all_parts_are(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        answer = await site.http.get("/ready")
        body = await answer.json()
    assert (answer.status, body["status"]) == (200, "ready")
    assert all(part["ok"] for part in body["parts"].values())


@pytest.mark.parametrize("name", ["log", "postgres", "partitions", "lag"])
async def test_not_ready_when_a_part_is_not_and_why(tmp_path: Path, name: str) -> None:
    report = msgspec.structs.replace(WELL, **{name: Part(False, "the reason")})
    async with serving(tmp_path, health=lambda: report) as site:
        answer = await site.http.get("/ready")
        body = await answer.json()
    assert (answer.status, body["status"], answer.headers["Retry-After"]) == (503, "not ready", "1")
    assert {part: why["detail"] for part, why in body["parts"].items() if not why["ok"]} == {name: "the reason"}


async def test_metrics_as_prometheus_text(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        answer = await site.http.get("/metrics")
        families = list(text_string_to_metric_families(await answer.text()))
    assert answer.content_type == "text/plain"
    assert all(family.documentation for family in families)
    names = {family.name + ("_total" if family.type == "counter" else "") for family in families}
    assert names >= PROMISED
    assert not [name for name in names if name.endswith("_created")]


async def test_metrics_as_open_metrics(tmp_path: Path) -> None:
    accept = openmetrics.exposition.CONTENT_TYPE_LATEST
    async with serving(tmp_path) as site:
        answer = await site.http.get("/metrics", headers={"Accept": accept})
        text = await answer.text()
    assert answer.content_type == "application/openmetrics-text"
    assert list(open_parser.text_string_to_metric_families(text))
