"""The oracle's rows for a few events, worked out by hand, and the differences that `compare` finds."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streamlens.catalogue import VERSION
from streamlens.cell import Cell
from streamlens.events import Request, Response, decode, time_us
from streamlens.facets import Facets
from streamlens.join import RequestHalf, ResponseHalf
from streamlens.pricing import Prices
from streamlens.quality import usage_of
from streamlens.simulate import synthetic
from streamlens.simulate.oracle import KEY, Oracle, compare, read
from streamlens.simulate.synthetic import Traffic

MINUTE_US = 1_795_262_400_000_000  # 2026-11-21T12:00Z


def asked(number: int, time: str = "12:00:01.000000", **fields: Any) -> bytes:
    event: dict[str, Any] = {"type": "request", "request_id": f"r{number}", "tenant_id": "acme", "route": "chat"}
    event |= {"model": "gpt-4o-mini", "timestamp": f"2026-11-21T{time}+00:00", "prompt_tokens": 100}
    return json.dumps(event | fields).encode()


def answered(number: int, time: str = "12:00:02.500000", **fields: Any) -> bytes:
    event = {"type": "response", "request_id": f"r{number}", "timestamp": f"2026-11-21T{time}+00:00"}
    return json.dumps(event | fields).encode()


ONE_ROW = {
    "tenant_id": "acme",
    "route": "chat",
    "model": "gpt-4o-mini",
    "window_start_us": MINUTE_US,
    "calls": 3,
    "errors": 2,
    "error_types": {"other": 1, "timeout": 1},
    "latency_sum_us": 1_500_000 + 1_024,
    "latency_min_us": 0,
    "latency_max_us": 1_500_000,
    "latency": {"319": 1, "656": 1},  # 32 * log2(1024) - 1, ceil(32 * log2(1500000)) - 1
    "latency_zero": 1,
    "ttft_calls": 2,
    "ttft_sum_us": 1,
    "ttft_min_us": 0,
    "ttft_max_us": 1,
    "ttft": {"-1": 1},
    "ttft_zero": 1,
    "prompt_tokens": 300,
    "completion_tokens": 10,
    "cached_tokens": 40,
    "cache_write_tokens": 5,
    "reasoning_tokens": 3,
    # gpt-4o-mini: 150,000 input, 75,000 cached, 600,000 output; a cache write costs as input
    "cost_pico": 260 * 150_000 + 40 * 75_000 + 10 * 600_000,
    "priced": 3,
    "partly_priced": 1,
    "unpriced": 0,
    "reported": 0,
    "price_versions": {VERSION: 3},
}
ONE_ROW_LINES = [
    asked(1),
    answered(1, completion_tokens=10, reasoning_tokens=3, ttft_ms=0.001, finish_reason="stop"),
    answered(2, latency_ms=1.024, cached_tokens=40, cache_write_tokens=5, ttft_ms=0, error_type="timeout"),
    asked(2, "12:00:59.999999"),
    asked(3, "12:00:00.000000"),
    answered(3, "11:59:59.000000", error="gone"),
]


def rows(*lines: bytes) -> tuple[list[dict[str, Any]], dict[str, int]]:
    oracle = Oracle(Prices())
    oracle.acknowledged(lines)
    return oracle.rows(), oracle.ledger()


def test_a_row_holds_counts_sums_extremes_and_buckets_of_its_calls() -> None:
    assert rows(*ONE_ROW_LINES)[0] == [ONE_ROW]


def test_the_order_of_the_events_does_not_matter() -> None:
    assert rows(*reversed(ONE_ROW_LINES))[0] == [ONE_ROW]


def test_rows_are_apart_by_tenant_route_model_and_the_minute_of_the_request() -> None:
    variants: list[dict[str, str]] = [{}, {"tenant_id": "zeta"}, {"route": "agent"}, {"model": "acme-chat-7b"}]
    lines = [asked(number, **fields) for number, fields in enumerate(variants)]
    lines += [asked(9, "12:01:00.000000"), asked(10, "12:00:59.999999"), answered(10, "12:01:03.000000")]
    lines += [answered(number) for number in (0, 1, 2, 3, 9)]
    found = [
        (row["tenant_id"], row["route"], row["model"], row["window_start_us"] - MINUTE_US, row["calls"], row["priced"])
        for row in rows(*lines)[0]
    ]
    assert found == [
        ("acme", "agent", "gpt-4o-mini", 0, 1, 1),
        ("acme", "chat", "acme-chat-7b", 0, 1, 0),
        ("acme", "chat", "gpt-4o-mini", 0, 2, 2),
        ("acme", "chat", "gpt-4o-mini", 60_000_000, 1, 1),
        ("zeta", "chat", "gpt-4o-mini", 0, 1, 1),
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"finish_reason": "stop", "error": ""}, {}),
        ({"error_type": "rate_limit", "error": "slow down"}, {"rate_limit": 1}),
        ({"error_type": "gpu_on_fire"}, {"other": 1}),
        ({"error": "gone"}, {"other": 1}),
        ({"finish_reason": "error"}, {"other": 1}),
    ],
)
def test_what_counts_as_an_error(fields: dict[str, str], expected: dict[str, int]) -> None:
    (row,), _ = rows(asked(1), answered(1, **fields))
    assert (row["error_types"], row["errors"]) == (expected, sum(expected.values()))


def test_halves_make_no_row_but_are_in_the_ledger() -> None:
    found, ledger = rows(asked(1), asked(2), answered(2), answered(3))
    assert [row["calls"] for row in found] == [1]
    assert ledger == {"sent": 4, "aggregated": 2, "unpaired": 2, "retried": 0, "rejected": 0, "unknown": 0}


def test_the_file_is_json_with_a_row_per_line_and_reads_back(tmp_path: Path) -> None:
    file, oracle = tmp_path / "oracle.json", Oracle(Prices())
    oracle.acknowledged([*ONE_ROW_LINES, asked(7, route="agent"), answered(7)])
    oracle.write(file, oracle.ledger(retried=3))
    assert len([line for line in file.read_text().splitlines() if line.startswith('{"cache')]) == 2
    assert read(file) == (oracle.rows(), oracle.ledger(retried=3))
    assert compare(read(file)[0], oracle.rows()) == []


def test_the_pipelines_own_sums_agree_on_lively_traffic() -> None:
    """Two implementations that share only the bucket index and the prices."""
    prices, oracle = Prices(), Oracle(Prices())
    cells: dict[tuple[str, str, str, int], Cell] = {}
    for call in synthetic.calls(Traffic(rate=50, duration_s=60, anomalies=0.5), MINUTE_US):
        oracle.acknowledged([call.request(), call.response()])
        request, response = decode("request", call.request()), decode("response", call.response())
        assert isinstance(request, Request)
        assert isinstance(response, Response)
        asked, answered = (
            RequestHalf.of(request, time_us(request.timestamp), Facets()),
            ResponseHalf.of(response, time_us(response.timestamp), Facets()),
        )
        used = usage_of(asked, answered)
        key = (asked.tenant_id, asked.route, asked.model, asked.ts_us // 60_000_000 * 60_000_000)
        cells.setdefault(key, Cell()).add(used, *prices.of_call(asked, answered, used))
    actual = [dict(zip(KEY, key, strict=True)) | msgspec.structs.asdict(cell) for key, cell in cells.items()]
    assert compare(oracle.rows(), actual) == []
    assert set(oracle.rows()[0]) | {"cost_carried"} == set(actual[0])


NAME = "acme chat gpt-4o-mini 2026-11-21T12:00Z"


@pytest.mark.parametrize(
    ("actual", "differences"),
    [
        pytest.param([ONE_ROW], [], id="equal"),
        pytest.param(
            [ONE_ROW | {"latency": {319: 1, 656: 1}, "revision": 4}], [], id="buckets as integers, more fields"
        ),
        pytest.param([], [f"{NAME}: missing"], id="missing"),
        pytest.param([ONE_ROW, ONE_ROW], [f"{NAME}: there twice"], id="twice"),
        pytest.param([ONE_ROW | {"calls": 4}], [f"{NAME}: calls is 4, expected 3"], id="a count"),
        pytest.param(
            [ONE_ROW | {"ttft": {"-1": 2}}], [f"{NAME}: ttft is {{'-1': 2}}, expected {{'-1': 1}}"], id="a bucket"
        ),
        pytest.param(
            [ONE_ROW, ONE_ROW | {"tenant_id": "zeta"}],
            ["zeta chat gpt-4o-mini 2026-11-21T12:00Z: not expected"],
            id="a row too many",
        ),
        pytest.param(
            [{key: value for key, value in ONE_ROW.items() if key != "priced"}],
            [f"{NAME}: priced is missing"],
            id="a field is missing",
        ),
    ],
)
def test_compare(actual: list[dict[str, Any]], differences: list[str]) -> None:
    assert compare([ONE_ROW], actual) == differences
