"""The snippets of docs/send.md, run as they stand there; only addresses are others. Each must end in a row."""

import asyncio
import importlib.util
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import asyncpg
import pytest
from confluent_kafka import Consumer, TopicPartition

from exporter_programs import ROOT, python
from kafka_broker import KafkaBroker
from openai_peer import openai_peer
from process_server import Server, at_last, environ, until
from streamlens.partitioner import id_partition_of

PAGE = (ROOT / "docs/send.md").read_text("utf-8")
PARTITIONS = 2
STREAMLENS_URL, KAFKA_ADDRESS = "http://127.0.0.1:8080", "127.0.0.1:9094"


def blocks(section: str, language: str) -> list[str]:
    """The code blocks of a section."""
    (text,) = re.findall(rf"(?ms)^## {section}\n(.*?)(?=^## |\Z)", PAGE)
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text)


def run(code: str, *command: str, cwd: Path, **addresses: str) -> str:
    """What a program prints that reads `code`; `addresses` are put in place of the page's."""
    for shown, real in {STREAMLENS_URL: addresses.get("url"), KAFKA_ADDRESS: addresses.get("kafka")}.items():
        assert (shown in code) == (real is not None)
        code = code.replace(shown, real or shown)
    done = subprocess.run(
        command, input=code, cwd=cwd, env=environ(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def server(scratch: Path) -> Iterator[Server]:
    with Server(scratch / "send") as server:
        yield server.start()


def rows(server: Server, tenant: str, route: str) -> dict[str, Any]:
    """The one row of a route in this day; without calls it is empty."""
    found = server.get(f"/v1/metrics?tenant_id={tenant}&route={route}&step=1d")[1]["metrics"]
    # Around midnight there are two; sums are what the tests look at.
    names = ("requests", "errors", "prompt_tokens", "completion_tokens", "cached_tokens")
    return {name: sum(row[name] for row in found) for name in names}


def counts(requests: int, errors: int, prompt: int, completion: int, cached: int = 0) -> dict[str, int]:
    names = ("requests", "errors", "prompt_tokens", "completion_tokens", "cached_tokens")
    return dict(zip(names, (requests, errors, prompt, completion, cached), strict=True))


def become(server: Server, expected: dict[tuple[str, str], dict[str, int]]) -> None:
    """Wait until each (tenant, route) has its counts. What is counted twice never has them."""

    def found() -> dict[tuple[str, str], dict[str, int]]:
        return {series: rows(server, *series) for series in expected}

    try:
        until(lambda: found() == expected, "the counts")
    except TimeoutError:
        assert found() == expected


def test_curl(server: Server, tmp_path: Path) -> None:
    before = {route: rows(server, "acme", route) for route in ("chat", "search")}
    (code,) = blocks("curl", "sh")
    answers = run(code, "bash", "-euo", "pipefail", cwd=tmp_path, url=server.url)
    one, many = map(json.loads, answers.splitlines())
    assert (one, many["accepted"], many["rejected"]) == ({"status": "accepted"}, 3, 0)
    become(
        server,
        {
            ("acme", "chat"): plus(before["chat"], counts(2, 0, 1290, 395)),
            ("acme", "search"): plus(before["search"], counts(1, 1, 0, 0)),
        },
    )


def plus(left: dict[str, int], right: dict[str, int]) -> dict[str, int]:
    return {name: left[name] + right[name] for name in left}


def test_python(server: Server, tmp_path: Path) -> None:
    before = {route: rows(server, "acme", route) for route in ("chat", "search")}
    code, _ = blocks("Python", "python")
    told = run(code, sys.executable, "-", cwd=tmp_path, url=server.url)
    assert re.fullmatch(r"Stats\(sent=7, rejected=0, dropped=0, waiting=0, retried=0, reasons=\(\)\)\n", told)
    become(
        server,
        {
            ("acme", "chat"): plus(before["chat"], counts(2, 0, 2100, 430)),
            ("acme", "search"): plus(before["search"], counts(1, 0, 400, 85)),
        },
    )

    def evaluations() -> list[tuple[str, float]]:
        found = server.get("/v1/evaluations?tenant_id=acme&step=1d")[1]["evaluations"]
        return [(row["name"], row["avg_score"]) for row in found]

    def tallies() -> list[tuple[str, int]]:
        found = server.get("/v1/tallies?tenant_id=acme&kind=log,metric&step=1d")[1]["tallies"]
        return sorted((row["kind"], row["count"]) for row in found)

    expected = [("faithfulness", 0.92)]
    assert at_last(evaluations, expected) == expected  # of other partitions than the calls
    expected_tallies = [("log", 1), ("metric", 1)]
    assert at_last(tallies, expected_tallies) == expected_tallies


def test_python_with_asyncio(server: Server, tmp_path: Path) -> None:
    _, code = blocks("Python", "python")
    assert run(code, sys.executable, "-", cwd=tmp_path, url=server.url) == ""
    become(server, {("acme", "async"): counts(1, 0, 700, 60)})


class RateLimitError(Exception):
    status_code = 429


def litellm_kwargs(call_id: str, **more: Any) -> dict[str, Any]:
    """What LiteLLM hands to callbacks, as far as its specification of `standard_logging_object` goes."""
    now = time.time()
    told = {
        "id": call_id,
        "model": "gpt-4o-mini",
        "custom_llm_provider": "openai",
        "startTime": now - 1.5,
        "completionStartTime": now - 1.0,
        "endTime": now,
        "prompt_tokens": 900,
        "completion_tokens": 50,
        "stream": True,
        "metadata": {"user_api_key_team_id": None},
    }
    return {"standard_logging_object": told | more}


def module(code: str, tmp_path: Path) -> ModuleType:
    path = tmp_path / "streamlens_litellm.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


async def test_litellm(server: Server, tmp_path: Path) -> None:
    (code,) = blocks("LiteLLM", "python")
    assert STREAMLENS_URL in code
    logger = module(code.replace(STREAMLENS_URL, server.url), tmp_path).logger
    usage = SimpleNamespace(prompt_tokens_details=SimpleNamespace(cached_tokens=300))
    answer = SimpleNamespace(usage=usage)
    logger.log_success_event(litellm_kwargs("chatcmpl-1"), answer, None, None)
    await logger.async_log_success_event(litellm_kwargs("chatcmpl-1"), answer, None, None)  # both may be called
    team = litellm_kwargs("r" * 500, metadata={"user_api_key_team_id": "team-7"})
    await logger.async_log_success_event(team, SimpleNamespace(), None, None)
    failed = litellm_kwargs("call-2", prompt_tokens=0, completion_tokens=0)
    logger.log_failure_event(failed | {"exception": RateLimitError("slow down")}, None, None, None)
    await logger.async_log_failure_event(failed | {"exception": RateLimitError("slow down")}, None, None, None)
    assert await asyncio.to_thread(logger.client.close)
    assert (logger.client.stats.sent, logger.client.stats.reasons) == (5, ())
    await asyncio.to_thread(
        become,
        server,
        {("default", "chat"): counts(2, 1, 900, 50, 300), ("team-7", "chat"): counts(1, 0, 900, 50)},
    )
    (row,) = server.get("/v1/metrics?tenant_id=team-7")[1]["metrics"]
    assert abs(row["max_latency_ms"] - 1500) < 2 and abs(row["p95_ttft_ms"] - 500) < 500 * 0.02

    def kinds() -> list[str]:
        found = server.get("/v1/metrics?tenant_id=default&group_by=error_type&step=1d")[1]["metrics"]
        return [kind["value"] for kind in found]

    assert await asyncio.to_thread(at_last, kinds, ["rate_limit"]) == ["rate_limit"]


WITH_LITELLM = """
import asyncio
import time

import litellm
from streamlens_litellm import logger

litellm.callbacks = [logger]
usual = {"messages": [{"role": "user", "content": "Hello"}], "max_retries": 0}

async def main():
    await litellm.acompletion(model="openai/gpt-4o-mini", **usual)
    answer = await litellm.acompletion(
        model="openai/gpt-4o-mini", stream=True, stream_options={"include_usage": True}, **usual
    )
    async for chunk in answer:
        pass
    try:
        await litellm.acompletion(model="openai/full", **usual)
    except litellm.RateLimitError:
        pass
    while logger.client.stats.sent + logger.client.stats.waiting < 4 and time.monotonic() < deadline:
        await asyncio.sleep(0.05)  # LiteLLM calls its callbacks when it has time

deadline = time.monotonic() + 30
litellm.completion(model="openai/gpt-4o-mini", **usual)
asyncio.run(main())
assert logger.client.close() and logger.client.stats.sent == 4, logger.client.stats
"""


def test_litellm_itself(server: Server, tmp_path: Path) -> None:
    """Three calls, one of them streamed, and one that fails."""
    (code,) = blocks("LiteLLM", "python")
    code = code.replace(STREAMLENS_URL, server.url).replace('route="chat"', 'route="litellm"')
    (tmp_path / "streamlens_litellm.py").write_text(code)
    with openai_peer() as found:
        # Without the setting it would ask the network for a list of prices.
        env = environ(**found, LITELLM_LOCAL_MODEL_COST_MAP="True", PYTHONPATH=f"{tmp_path}:{ROOT}")
        done = subprocess.run(
            [python("litellm"), "-"], input=WITH_LITELLM, env=env, capture_output=True, text=True, timeout=90
        )
    assert done.returncode == 0, done.stderr
    become(server, {("default", "litellm"): counts(4, 1, 360, 120, 192)})
    kinds = server.get("/v1/metrics?tenant_id=default&route=litellm&step=1d")[1]["metrics"]
    assert {row["model"]: row["errors"] for row in kinds} == {"gpt-4o-mini": 0, "full": 1}
    assert [row["model"] for row in kinds if row["p95_ttft_ms"] is not None] == ["gpt-4o-mini"], "the streamed one"


@pytest.fixture(scope="module")
def on_kafka(scratch: Path, postgres: str) -> Iterator[tuple[Server, str]]:
    """A StreamLens with a broker and a database of its own, and the broker's address."""
    broker = KafkaBroker(scratch / "send-broker")
    try:
        broker.start()
        dsn = asyncio.run(new_database(postgres))
        settings = {"KAFKA_BROKERS": broker.brokers, "STREAMLENS_PARTITIONS": str(PARTITIONS)}
        with Server(scratch / "send-kafka", dsn=dsn, **settings) as server:
            yield server.start(), broker.brokers
    finally:
        broker.remove()


async def new_database(server: str) -> str:
    connection = await asyncpg.connect(server)
    await connection.execute("create database send")
    await connection.close()
    return server.replace("/postgres?", "/send?")


def test_kafka(on_kafka: tuple[Server, str], tmp_path: Path) -> None:
    server, brokers = on_kafka
    (code,) = blocks("Kafka", "python")
    assert run(code, sys.executable, "-", cwd=tmp_path, kafka=brokers) == ""
    become(server, {("acme", "kafka"): counts(1, 0, 1200, 310)})
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "reader"})
    try:
        consumer.assign([TopicPartition("llm.calls", partition, 0) for partition in range(PARTITIONS)])
        (record,) = consumer.consume(1, 20)
    finally:
        consumer.close()
    key = json.loads(record.value())["request_id"].encode()
    assert (record.key(), record.partition()) == (key, id_partition_of(key, PARTITIONS))
