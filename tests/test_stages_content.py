"""Where prompts and responses get: nowhere behind the input topics unless they are captured, and then redacted."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import asyncpg
import pytest

from pipeline import Pipeline
from streamlens import outbox
from streamlens.checkpoint.pace import MAX_PENDING_BYTES
from streamlens.details import Details
from streamlens.errors import Unavailable
from streamlens.log import TP, Run
from streamlens.options import JoinOptions
from streamlens.postgres.store import PostgresStore
from streamlens.redact import PATTERNS, Redaction
from streamlens.runtime import Runtime
from streamlens.settings import Settings
from streamlens.topics import INPUTS, METRICS, PARTIALS

NEEDLES = (b"Unfathomable", b"ann@example.org")
TEXTS = ("Unfathomable prompt", {"text": "Unfathomable", "to": "ann@example.org"})
PLACES = {"state", "changelogs", PARTIALS, "llm_calls"}


async def found_in(pipeline: Pipeline, dsn: str, needle: bytes) -> set[str]:
    """Where bytes are, but for the input topics, in which everything is as it was sent."""
    places = {place for place, content in _held(pipeline) if needle in content}
    connection = await asyncpg.connect(dsn)
    try:
        names = [
            row["tablename"] for row in await connection.fetch("select * from pg_tables where schemaname = 'public'")
        ]
        assert "llm_calls" in names
        for name in names:
            rows = await connection.fetch(f"select t::text as row from {name} t")
            places |= {name for row in rows if needle in row["row"].encode()}
    finally:
        await connection.close()
    return places


def _held(pipeline: Pipeline) -> Iterator[tuple[str, bytes]]:
    for stage in (pipeline.join, pipeline.windows):
        for unit in stage.units.values():
            yield from (("state", key + value) for key, value in unit.state.store.scan(b"", b"\xff"))
    for topic in pipeline.log.topics():
        for p in range(pipeline.partitions):
            if topic not in INPUTS:
                tp = TP(topic, p)
                offset = pipeline.log.start_offset(tp)
                while offset < pipeline.log.end_offset(tp):
                    run = pipeline.log.read_now(tp, offset)
                    yield from (("changelogs" if "changelog" in topic else topic, value) for value in run.values)
                    offset = run.next


@pytest.mark.parametrize("captures", [False, True])
async def test_content_is_kept_only_where_it_is_captured(
    tmp_path: Path, store: PostgresStore, dsn: str, captures: bool
) -> None:
    pipeline = Pipeline(tmp_path, 2, details=Details(Redaction(PATTERNS), captures=captures))
    pipeline.rows = store  # type: ignore[assignment]
    await pipeline.open()
    pipeline.clock.at(10)
    for n, text in enumerate(TEXTS):
        await pipeline.send("call", 1, f"whole{n}", prompt=text, response=text, error="no")
        await pipeline.send("request", 1, f"both{n}", prompt=text)
        await pipeline.send("request", 1, f"waits{n}", prompt=text)
        await pipeline.settle()  # halves are in the state now
        await pipeline.send("response", 3, f"both{n}", response=text)
        await pipeline.send("response", 3, f"early{n}", response=text)
        await pipeline.settle()
    assert await found_in(pipeline, dsn, b"acme") >= {*PLACES, METRICS}, "what is there is found"
    assert await found_in(pipeline, dsn, NEEDLES[0]) == (PLACES if captures else set())
    assert await found_in(pipeline, dsn, NEEDLES[1]) == set()
    assert await found_in(pipeline, dsn, b"[email]") == (PLACES if captures else set())
    await pipeline.close()


@pytest.mark.parametrize(
    ("environ", "captures", "told"),
    [
        ({}, False, "write to [email], [key]"),
        ({"STREAMLENS_CAPTURE_CONTENT": "on"}, True, "write to [email], [key]"),
        ({"STREAMLENS_REDACT": "key"}, False, "write to ann@example.org, [key]"),
        ({"STREAMLENS_REDACT": "none"}, False, "write to ann@example.org, sk-0123456789abcdefghij"),
    ],
)
def test_the_settings_say_so(environ: dict[str, str], captures: bool, told: str) -> None:
    details = JoinOptions.of(Settings.load(environ), lambda: 0, str).details
    assert details.captures is captures
    assert details._redaction.of(b"write to ann@example.org, sk-0123456789abcdefghij").decode() == told


async def test_texts_reach_postgres_some_mebibytes_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hours without Postgres must not come back as one transaction in memory."""
    monkeypatch.setattr(outbox, "_BYTES_PER_WRITE", 50_000)
    pipeline = await Pipeline(tmp_path, 2, details=Details(captures=True)).open()
    pipeline.clock.at(100)
    for n in range(10):
        await pipeline.send("call", 10 * n, f"c{n}", prompt="x" * 15_000, response="y" * 15_000)
    pipeline.rows.error = Unavailable("away")
    await pipeline.settle()
    assert (len(pipeline.rows.recent), pipeline.outbox.backlog > 10) == (0, True)
    pipeline.rows.error = None
    await pipeline.outbox.drain()
    assert (len(pipeline.rows.recent), pipeline.outbox.backlog) == (10, 0)
    assert 5 <= pipeline.rows.writes <= 7, "two calls of 30 kB, and the rest"
    await pipeline.close()


class Counts:
    """A unit that takes whatever comes."""

    offsets: ClassVar[dict[str, int]] = {}

    def apply(self, topic: str, run: Run) -> bool:
        return True


@pytest.mark.parametrize("content", ["off", "on"])
async def test_an_epoch_of_captured_texts_is_full_by_their_bytes(tmp_path: Path, content: Literal["off", "on"]) -> None:
    """So that not 100,000 of them are in memory at once."""
    runtime = Runtime(Settings(capture_content=content, data_dir=tmp_path))
    stage = runtime.add_stage("pending", ["llm.calls"], "changelog", lambda p: None, rows=False)  # type: ignore[arg-type, return-value]
    stage.units[0] = Counts()  # type: ignore[assignment]
    many = MAX_PENDING_BYTES // 100_000 + 1
    texts = Run(0, many, [b"x" * 100_000] * many)
    await stage.process(TP("llm.calls", 0), texts)
    waits = asyncio.create_task(stage.process(TP("llm.calls", 0), texts))
    for _ in range(3):
        await asyncio.sleep(0)
    assert waits.done() == (content == "off")
    waits.cancel()
