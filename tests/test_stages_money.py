"""Tokens, prices and warnings of calls through both stages, beside the oracle's own reading of the same events."""

import json
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pipeline import PRICES, Pipeline
from streamlens.catalogue import VERSION
from streamlens.cell import Cell
from streamlens.events import Request, Response, decode, time_us
from streamlens.facets import Facets
from streamlens.join import RequestHalf, ResponseHalf, decode_half, encode_half
from streamlens.quality import usage_of
from streamlens.simulate.oracle import KEY, Oracle, compare


async def test_a_row_tells_how_its_calls_were_priced(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path).open()
    calls: list[dict[str, Any]] = [
        {"provider": "anthropic", "model": "claude-sonnet-4-5", "prompt_tokens": 10, "cache_read_input_tokens": 90},
        {"model": "claude-sonnet-4-5", "cost_usd": 0.25},
        {"model": "claude-sonnet-4-5", "prompt_tokens": 100, "cache_write_tokens": 100},
    ]
    await pipeline.send("call", 1, "r0", **calls[0], completion_tokens=1)
    await pipeline.send("call", 2, "r1", **calls[1])
    await pipeline.send("call", 3, "r2", **calls[2])
    await pipeline.send("call", 4, "r3", model="claude-sonnet-4-5", provider="our-own-gpus")
    await pipeline.send("call", 5, "r4", provider="openai", model="gpt-4o", prompt_tokens=9, cache_write_tokens=9)
    await pipeline.settle()
    rows = {row.model: row.cell for row in pipeline.rows.metrics.values()}
    cell = rows["claude-sonnet-4-5"]
    assert (cell.priced, cell.partly_priced, cell.unpriced, cell.reported) == (3, 0, 1, 1)
    assert cell.price_versions == {VERSION: 2}
    assert cell.cost_pico == 10 * 3_000_000 + 90 * 300_000 + 15_000_000 + 250_000_000_000 + 100 * 3_750_000
    assert (cell.prompt_tokens, cell.cached_tokens, cell.cache_write_tokens) == (200, 90, 100)
    partly = rows["gpt-4o"]  # no price for writing its cache
    assert (partly.priced, partly.partly_priced, partly.cost_pico) == (1, 1, 9 * 2_500_000)
    await pipeline.close()


async def test_a_call_is_warned_of_once_by_tenant_rule_and_sender(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    await pipeline.send("response", 2, "r1", reasoning_tokens=5, completion_tokens=3, sender="sdk/1")
    await pipeline.send("request", 1, "r1", prompt_tokens=5, provider="openai", sender="gateway/2")
    await pipeline.send("request", 1, "r2", prompt_tokens=5, sender="gateway/2")
    await pipeline.send("response", 2, "r2", completion_tokens=3)
    for request_id in ("r3", "r4", "r4"):  # the last one is a duplicate
        await pipeline.send("call", 1, request_id, prompt_tokens=5, completion_tokens=3, tenant_id="zeta")
    await pipeline.send("request", 1, "r5", prompt_tokens=5)  # waits
    await pipeline.settle()
    warned = {
        ("acme", "warning", "reasoning_apart", "sdk/1"): 1,
        ("acme", "warning", "provider_missing", "gateway/2"): 1,
        ("zeta", "warning", "provider_missing", "unknown"): 2,
    }
    assert {key[:4]: row.tally.count for key, row in pipeline.rows.tallies.items()} == warned
    await pipeline.send("call", 1, "r6", prompt_tokens=5, completion_tokens=3, provider="openai")
    await pipeline.settle()
    assert {key[:4]: row.tally.count for key, row in pipeline.rows.tallies.items()} == warned
    (cell,) = [row.cell for row in pipeline.rows.metrics.values() if row.tenant_id == "acme"]
    assert (cell.completion_tokens, cell.reasoning_tokens) == (8 + 3 + 3, 5)
    await pipeline.close()


def test_halves_that_an_earlier_version_stored_are_read() -> None:
    request = msgspec.msgpack.encode(["q", 1, "t", "r", "m", None, 5])
    response = msgspec.msgpack.encode(["r", 2, None, None, 3, None, 4, 1, 0, 0, None, None])
    assert decode_half(request) == RequestHalf(1, "t", "r", "m", None, 5)
    assert decode_half(response) == ResponseHalf(2, None, None, 3, None, 4, 1, 0, 0, None, None)


COUNTS = st.none() | st.integers(0, 50) | st.integers(0, 300_000)
ASKED = {
    "model": st.sampled_from(["gpt-4o", "claude-sonnet-4-5", "gemini-2.5-pro", "sonar-reasoning", "acme-7b"]),
    "provider": st.sampled_from([None, "openai", "anthropic", "gcp.gemini", "nobody"]),
    "prompt_tokens": COUNTS,
    "sender": st.none() | st.just("sdk/1"),
}
ANSWERED = {
    "model": st.sampled_from([None, None, "gpt-4o", "o3"]),
    "latency_ms": st.none() | st.integers(0, 2000),
    "ttft_ms": st.none() | st.integers(0, 2000),
    "cost_usd": st.none() | st.none() | st.integers(0, 10),
    "error": st.sampled_from([None, None, "gone"]),
    "timestamp": st.sampled_from(["2026-11-21T12:00:02+00:00", "2026-11-21T12:00:00.5+00:00"]),
    **dict.fromkeys(
        (
            "prompt_tokens",
            "completion_tokens",
            "cached_tokens",
            "cache_write_tokens",
            "cache_read_input_tokens",
            "cache_creation_input_tokens",
            "reasoning_tokens",
            "total_tokens",
        ),
        COUNTS,
    ),
}


@given(st.lists(st.tuples(st.fixed_dictionaries(ASKED), st.fixed_dictionaries(ANSWERED)), max_size=8))
def test_the_oracle_reads_any_usage_likewise(calls: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    oracle = Oracle(PRICES)
    cells: dict[tuple[str, str, str, int], Cell] = {}
    for number, (asked, answered) in enumerate(calls):
        request = {"type": "request", "request_id": f"r{number}", "tenant_id": "acme", "route": "chat"} | asked
        request["timestamp"] = "2026-11-21T12:00:01+00:00"
        response = {"type": "response", "request_id": f"r{number}"} | answered
        lines = [
            json.dumps({name: value for name, value in event.items() if value is not None}).encode()
            for event in (request, response)
        ]
        oracle.acknowledged(lines)
        one, other = decode("request", lines[0]), decode("response", lines[1])
        assert isinstance(one, Request)
        assert isinstance(other, Response)
        half = RequestHalf.of(one, time_us(one.timestamp), Facets())
        rest = decode_half(encode_half(ResponseHalf.of(other, time_us(other.timestamp), Facets())))
        assert isinstance(rest, ResponseHalf)
        used = usage_of(half, rest)
        key = (half.tenant_id, half.route, half.model, half.ts_us // 60_000_000 * 60_000_000)
        cells.setdefault(key, Cell()).add(used, *PRICES.of_call(half, rest, used))
    actual = [dict(zip(KEY, key, strict=True)) | msgspec.structs.asdict(cell) for key, cell in cells.items()]
    assert compare(oracle.rows(), actual) == []
