"""The simulated calls: a trace keeps its spacing and tokens, synthetic traffic its rate, both repeat with the seed."""

import itertools
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from streamlens.errors import BadSetting
from streamlens.events import Request, Response, decode
from streamlens.facets import Facets
from streamlens.join import RequestHalf, ResponseHalf
from streamlens.pricing import Prices
from streamlens.quality import usage_of
from streamlens.simulate import mix, synthetic, trace
from streamlens.simulate.call import SimulatedCall, timeline
from streamlens.simulate.synthetic import Traffic
from streamlens.statistics.means import ALPHA, Sample, compare
from streamlens.statistics.shares import sample_ratio

NOW_US = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()) * 1_000_000

CSV = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:46.6805919,10,400
2023-11-16 18:15:50.9951690,396,109
"""


@pytest.fixture
def rows(tmp_path: Path) -> list[trace.Row]:
    file = tmp_path / "trace.csv"
    file.write_text(CSV)
    return trace.read(file)


def test_timestamps_with_seven_decimals_are_cut_to_microseconds(rows: list[trace.Row]) -> None:
    begin = int(datetime(2023, 11, 16, 18, 15, 46, tzinfo=UTC).timestamp()) * 1_000_000
    assert rows == [
        (begin + 680_590, 374, 44),
        (begin + 680_591, 10, 400),
        (begin + 4_995_169, 396, 109),
    ]


@pytest.mark.parametrize(
    ("speed", "first_us"),
    [
        pytest.param(60, NOW_US - 10_200_001, id="fast: the longest one, 400 tokens at 25 ms + 200 ms, ends now"),
        pytest.param(1, NOW_US, id="real time: starts now"),
        pytest.param(0.5, NOW_US, id="slow: starts now"),
    ],
)
def test_a_trace_is_shifted_in_whole(rows: list[trace.Row], speed: float, first_us: int) -> None:
    calls = trace.calls(rows, NOW_US, speed=speed, seed=1)
    assert [call.started_us - first_us for call in calls] == [0, 1, 4_314_579]
    assert [call.latency_us for call in calls] == [1_300_000, 10_200_000, 2_925_000]
    assert [(call.prompt_tokens, call.completion_tokens) for call in calls] == [(374, 44), (10, 400), (396, 109)]


def test_rows_out_of_order_are_sorted(tmp_path: Path) -> None:
    head, *body = CSV.splitlines()
    file = tmp_path / "trace.csv"
    file.write_text("\n".join([head, *reversed(body)]))
    assert [row.prompt_tokens for row in trace.read(file)] == [374, 10, 396]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column TIMESTAMP, ContextTokens, GeneratedTokens"),
        ("TIMESTAMP,ContextTokens\n", "no column GeneratedTokens"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "no rows"),
        (CSV + "yesterday,1,1\n", "line 5"),
        (CSV + "2023-11-16 18:15:50,1.5,1\n", "line 5"),
        (CSV + "2023-11-16 18:15:50,-1,1\n", "line 5: a negative count"),
        (CSV + "2023-11-16 18:15:50,1\n", "line 5"),
    ],
)
def test_a_bad_trace_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(text)
    with pytest.raises(BadSetting, match=message):
        trace.read(file)


def _without_ids(calls: list[SimulatedCall]) -> list[bytes]:
    return [call.request().replace(call.request_id.encode(), b"") + call.response()[-80:] for call in calls]


def test_the_same_seed_makes_the_same_calls_but_another_run_other_ids() -> None:
    rows = [trace.Row(NOW_US + number, 1_000, 100) for number in range(50)]
    first, again = (trace.calls(rows, NOW_US, speed=60, seed=1) for _ in range(2))
    later, other = trace.calls(rows, NOW_US + 1, speed=60, seed=1), trace.calls(rows, NOW_US, speed=60, seed=2)
    assert first == again
    assert _without_ids(first) != _without_ids(other)
    assert {call.request_id for call in first}.isdisjoint(call.request_id for call in later)
    assert list(synthetic.calls(Traffic(), NOW_US)) == list(synthetic.calls(Traffic(), NOW_US))


@pytest.mark.parametrize(
    "calls",
    [
        trace.calls([trace.Row(NOW_US + number, 1_000, 100) for number in range(3_000)], NOW_US, speed=60, seed=1),
        list(synthetic.calls(Traffic(rate=200, duration_s=60, tenants=4), NOW_US)),
    ],
    ids=["trace", "synthetic"],
)
def test_traffic_has_everything_that_a_row_counts(calls: list[SimulatedCall]) -> None:
    prices = Prices()
    assert len({call.tenant_id for call in calls}) == 4
    assert {call.route for call in calls} == set(mix.ROUTES)
    priced = {call.model: prices.rates(call.provider, call.model) is not None for call in calls}
    assert priced == {model: model != "acme-chat-7b" for _, model, _ in mix.MODELS}
    failures = {(call.error_type, call.error) for call in calls} - {(None, None)}
    assert len(failures) == len(mix.FAILURES)
    assert 0.005 < sum(call.error is not None or call.error_type is not None for call in calls) / len(calls) < 0.06
    for field in ("cached_tokens", "cache_write_tokens", "reasoning_tokens", "ttft_us", "tells_latency"):
        assert len({bool(getattr(call, field)) for call in calls}) == 2, field
    for call in calls:
        assert call.cached_tokens + call.cache_write_tokens <= call.prompt_tokens
        assert call.reasoning_tokens <= call.completion_tokens
        assert 0 <= (call.ttft_us or 0) <= call.latency_us


def test_usage_is_told_as_providers_do_and_means_the_same() -> None:
    calls = list(synthetic.calls(Traffic(rate=20, duration_s=60), NOW_US))
    spelt = {call.provider for call in calls if b"cache_read_input_tokens" in call.response()}
    assert spelt == {"anthropic"}
    for call in calls:
        request, response = decode("request", call.request()), decode("response", call.response())
        assert isinstance(request, Request)
        assert isinstance(response, Response)
        halves = (
            RequestHalf.of(request, call.started_us, Facets()),
            ResponseHalf.of(response, call.started_us + call.latency_us, Facets()),
        )
        used = usage_of(*halves)
        assert used.warnings == (() if call.provider else ("provider_missing",))
        tokens = ("prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
        assert [getattr(used, name) for name in tokens] == [getattr(call, name) for name in tokens]


@pytest.mark.parametrize("duration_s", [60.0, 900.0])
def test_the_rate_is_the_average_and_comes_in_waves(duration_s: float) -> None:
    calls = list(synthetic.calls(Traffic(rate=20, duration_s=duration_s), NOW_US))
    starts = [call.started_us for call in calls]
    assert starts == sorted(starts)
    assert len(calls) == pytest.approx(20 * duration_s, rel=0.1)
    wave_us = (60 if duration_s == 60 else 450) * 1_000_000
    crest = sum((start - NOW_US) % wave_us < wave_us / 2 for start in starts)
    assert crest / len(calls) > 0.58


def test_users_come_back_on_some_days_and_sessions_get_to_some_routes() -> None:
    random, day_us = Random(1), 86_400_000_000
    days: list[set[int]] = []
    routes: dict[str, tuple[str, ...]] = {}
    searches = [0, 0]
    for day in range(3):
        visits = [mix.draw_visitor(random, "acme", 300, NOW_US + day * day_us + n * 10**6) for n in range(3_000)]
        days.append({visit.user for visit in visits})
        for visit in visits:
            assert routes.setdefault(visit.session_id, visit.routes) == visit.routes
            searches[visit.user % 2] += mix.RERANKED_ROUTE in visit.routes
    for one, other in itertools.pairwise(days):
        assert 0.5 < len(one & other) / len(one) < 0.9
    reached = [sum(route in found for found in routes.values()) / len(routes) for route in mix.ROUTES]
    assert reached[0] == 1
    assert searches[0] == pytest.approx(searches[1], rel=0.06), "variants get as many calls"
    assert all(0.6 < later / before < 0.9 for before, later in itertools.pairwise(reached))


def test_an_endless_run_goes_on() -> None:
    calls = synthetic.calls(Traffic(rate=20, duration_s=None), NOW_US)
    last = next(itertools.islice(calls, 20_000, None))
    assert last.started_us - NOW_US == pytest.approx(1_000_000_000, rel=0.2)


def test_anomalies_happen_in_the_share_of_stretches_asked_for() -> None:
    def failing(anomalies: float) -> float:
        traffic = Traffic(rate=20, duration_s=1_200, tenants=1, anomalies=anomalies)
        calls = list(synthetic.calls(traffic, NOW_US))
        return sum(call.error is not None or call.error_type is not None for call in calls) / len(calls)

    assert failing(0) < 0.04
    assert failing(1) > 0.08


def test_events_come_in_order_of_time_each_once() -> None:
    calls = list(synthetic.calls(Traffic(rate=50, duration_s=20), NOW_US))
    lines = list(timeline(calls))
    assert [line.at_us for line in lines] == sorted(line.at_us for line in lines)
    assert sorted(line.raw for line in lines) == sorted(
        raw for call in calls for raw in (call.request(), call.response())
    )
    assert sum(line.begins for line in lines) == len(calls)


def test_the_experiment_makes_searches_slower_and_prompts_shorter() -> None:
    calls = [call for call in synthetic.calls(Traffic(rate=20, duration_s=600, tenants=1), NOW_US) if call.experiment]
    assert {(call.route, call.experiment.name) for call in calls if call.experiment} == {("search", "rerank")}
    by_user = {(call.user_id_hash, call.experiment) for call in calls}
    assert len(by_user) == len({user for user, _ in by_user}), "a user has one variant"
    for field, sign in (("latency_us", 1), ("prompt_tokens", -1)):
        values = {name: [getattr(c, field) for c in calls if c.experiment.variant == name] for name in ("off", "on")}
        samples = {name: Sample(len(each), sum(each), sum(v * v for v in each)) for name, each in values.items()}
        _, on = compare(samples, "off")
        assert on.p_value is not None and on.p_value < ALPHA
        assert on.difference is not None and on.difference * sign > 0
        assert sample_ratio({name: len(each) for name, each in values.items()}).ok
