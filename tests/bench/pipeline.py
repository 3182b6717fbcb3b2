"""How fast a backlog drains: events in the local log, through join and windows, until the last row is in Postgres.

    .venv/bin/python tests/bench/pipeline.py [--events 1000000] [--series 100] [--runs 3] [--json FILE]

Fills a fresh log, starts `streamlens up` on it as its own process, and watches the ledger in Postgres. CPU and memory
are that process' own, as the kernel counts them. The machine matters: compare figures of one run only.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import psutil

from streamlens.locallog.local import LocalLog
from streamlens.log import TP, Record, TopicSpec
from streamlens.partitioner import partition_of
from streamlens.postgres.embedded import EmbeddedPostgres
from streamlens.topics import REQUESTS, RESPONSES

PARTITIONS = 4
BATCH = 2_000
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.0-flash", "in-house-7b")


async def fill(path: Path, events: int, series: int, seed: int) -> None:
    """Requests and responses of `events / 2` calls over the last ten minutes, each response behind its request."""
    log, rng = LocalLog.open(path, sync=False), random.Random(seed)
    await log.create_topics([TopicSpec(topic, PARTITIONS) for topic in (REQUESTS, RESPONSES)])
    calls, start_ms = events // 2, int(time.time() * 1000) - 600_000
    waiting: dict[TP, list[Record]] = {}
    for n in range(calls):
        request_id, at_ms, which = (
            f"{rng.getrandbits(128):032x}",
            start_ms + n * 590_000 // calls,
            rng.randrange(series),
        )
        latency_ms, tokens = rng.randrange(200, 4_000), rng.randrange(10, 1_500)
        request = (
            f'{{"request_id":"{request_id}","tenant_id":"tenant-{which % 10}","route":"route-{which // 10}",'
            f'"model":"{MODELS[which % len(MODELS)]}","timestamp":{at_ms},"prompt_tokens":{tokens * 3}}}'
        )
        response = (
            f'{{"request_id":"{request_id}","timestamp":{at_ms + latency_ms},"latency_ms":{latency_ms},'
            f'"completion_tokens":{tokens},"finish_reason":"stop"}}'
        )
        key = request_id.encode()
        partition = partition_of(key, PARTITIONS)
        waiting.setdefault(TP(REQUESTS, partition), []).append(Record(key, request.encode()))
        waiting.setdefault(TP(RESPONSES, partition), []).append(Record(key, response.encode()))
        if n % BATCH == BATCH - 1:
            await log.append(waiting)
            waiting = {}
    if waiting:
        await log.append(waiting)
    await log.stop()


async def until_counted(dsn: str, events: int, process: subprocess.Popen[str]) -> None:
    """Wait until Postgres has all events in its ledger; at most ten minutes."""
    connection = await asyncpg.connect(dsn)
    for _ in range(6_000):
        if process.poll() is not None:
            raise RuntimeError(f"streamlens ended with code {process.returncode}")
        if (await connection.fetchval("select sum(received) from llm_ledger") or 0) >= events:
            break
        await asyncio.sleep(0.1)
    else:
        raise RuntimeError("not drained within ten minutes")
    aggregated = await connection.fetchval("select sum(aggregated) from llm_ledger")
    assert aggregated == events, f"{aggregated} of {events} events are in rows"
    await connection.close()


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def drain(data_dir: Path, events: int) -> dict[str, float]:
    """One run: seconds from ready to the last row, CPU seconds and peak memory of the process."""
    environment = os.environ | {"STREAMLENS_PARTITIONS": str(PARTITIONS), "STREAMLENS_LOG_FORMAT": "json"}
    command = [
        str(Path(sys.executable).parent / "streamlens"),
        "up",
        "--port",
        free_port(),
        "--data-dir",
        str(data_dir),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment) as up:
        assert up.stdout is not None
        assert up.stdout.readline().startswith("ready"), "streamlens did not start"
        began, process = time.monotonic(), psutil.Process(up.pid)
        cpu_began = sum(process.cpu_times()[:2])
        asyncio.run(until_counted(EmbeddedPostgres(data_dir / "postgres").start(), events, up))
        seconds = time.monotonic() - began
        cpu_s = sum(process.cpu_times()[:2]) - cpu_began
        peak = int(Path(f"/proc/{up.pid}/status").read_text().partition("VmHWM:")[2].split()[0])
        up.terminate()
    return {
        "events_per_s": events / seconds,
        "cpu_s_per_million": cpu_s / events * 1e6,
        "peak_rss_mb": peak / 1024,
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--series", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs = []
    for number in range(options.runs):
        data_dir = Path(tempfile.mkdtemp(prefix="streamlens-bench-"))
        try:
            asyncio.run(fill(data_dir / "log", options.events, options.series, number))
            runs.append(drain(data_dir, options.events))
        finally:
            shutil.rmtree(data_dir, ignore_errors=True)
        print(f"run {number + 1}: " + ", ".join(f"{name} {value:,.1f}" for name, value in runs[-1].items()), flush=True)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    print(f"{options.events:,} events, {options.series} series, {PARTITIONS} partitions; {machine}")
    for name in runs[0]:
        values = [run[name] for run in runs]
        print(f"{name:>20}: median {statistics.median(values):>12,.1f}   {min(values):,.1f} to {max(values):,.1f}")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "events": options.events, "runs": runs}, indent=2))


if __name__ == "__main__":
    main()
