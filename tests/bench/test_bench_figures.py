"""The benchmarks' own arithmetic: a row that is not as sent is found, and figures are what they are called."""

from datetime import UTC, datetime

import pytest

from bench.asker import percentile
from bench.backlog import PARTITIONS
from bench.load import single
from bench.profile import shares
from bench.report import Report
from bench.stream import TICK_S, Source
from bench.traffic import MINUTE_US, Names, Sums, Traffic
from streamlens.topics import REQUESTS, RESPONSES

AT_US = 29_750_000 * MINUTE_US
ROW = {"requests": 2, "prompt_tokens": 300, "completion_tokens": 30, "latency_sum_us": 9}


def sums() -> Sums:
    sent = Sums(20)
    for prompt, completion, latency_us in ((100, 10, 4), (200, 20, 5)):
        sent.add(AT_US // MINUTE_US, 13, prompt, completion, latency_us)
    return sent


def row(**changed: object) -> dict[str, object]:
    tenant, route, model = Names(20)[13]
    start = datetime.fromtimestamp(AT_US / 1e6, UTC)
    return ROW | {"tenant_id": tenant, "route": route, "model": model, "window_start": start} | changed


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([row()], 0),
        ([], 1),
        ([row(requests=3)], 2),
        ([row(completion_tokens=31)], 2),
        ([row(latency_sum_us=8)], 2),
        ([row(model="another")], 2),
        ([row(window_start=datetime.fromtimestamp(AT_US / 1e6 + 60, UTC))], 2),
        ([row(), row(route="route-0")], 1),
    ],
    ids=["as sent", "missing", "calls", "tokens", "latency", "model", "another minute", "one too many"],
)
def test_rows_that_are_not_as_sent_are_found(rows: list[dict[str, object]], wrong: int) -> None:
    assert len(sums().wrong(rows)) == wrong


@pytest.mark.parametrize("series", [1, 10, 100, 2_500])
def test_series_have_names_of_their_own(series: int) -> None:
    names = Names(series)
    assert len({names[n] for n in range(series)}) == series
    assert [names.number(*names[n][:2]) for n in range(series)] == list(range(series))
    assert max(int(names[n][1].removeprefix("route-")) for n in range(series)) < 100


def test_traffic_is_the_seeds_and_its_sums_are_what_it_made() -> None:
    one, other = Traffic(10, 7), Traffic(10, 7)
    made = [one.call(AT_US) for _ in range(1000)]
    assert made == [other.call(AT_US) for _ in range(1000)]
    assert one.sent.calls == 1000
    assert all(call.ends_us > AT_US for call in made)


def test_percentiles_are_nearest_rank() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, p) for p in (1, 50, 95, 99, 100)] == [1, 50, 95, 99, 100]
    assert percentile([5.0], 95) == 5


def test_a_sample_belongs_to_the_innermost_file_that_is_known() -> None:
    folded = [
        "main (/x/bin/streamlens:1);apply (/x/agents/join.py:90);decode (/x/streamlens/events.py:1) 3",
        "main (/x/bin/streamlens:1);apply (/x/agents/join.py:90);loads (/usr/lib/json.py:1) 1",
    ]
    assert shares(folded) == {"decode": 75.0, "join": 25.0}


def test_ratios_are_those_of_the_medians() -> None:
    report = Report({})
    for value in (10.0, 30.0, 20.0):
        report.add("part", "ours", {"events/s": value})
        report.add("part", "theirs", {"events/s": value / 4})
    report.compare("part", "ours", ["theirs", "absent"], ["events/s"])
    assert report.parts["part"][0].median == 20
    assert report.parts["part"][0].ratios == {"theirs": 4.0}


def test_open_loop_sends_what_is_due_and_no_id_twice() -> None:
    source = Source(1000, 10, 1, AT_US)
    keys: dict[str, list[bytes | None]] = {REQUESTS: [], RESPONSES: []}
    probes = [0] * PARTITIONS
    for tick in range(1001):
        for tp, records in source.due(tick * TICK_S).items():
            keys[tp.topic] += [record.key for record in records]
            probes[tp.partition] += sum(tp.topic == REQUESTS and b'"probe"' in record.value for record in records)
    assert len(keys[REQUESTS]) == 10_000 + 201 * PARTITIONS
    assert 9_500 < len(keys[RESPONSES]) <= len(keys[REQUESTS])
    assert all(len(set(each)) == len(each) for each in keys.values())
    assert probes == [201] * PARTITIONS
    assert source.events == sum(map(len, keys.values()))


def test_prepared_posts_say_how_long_they_are() -> None:
    for post in single("host", 10, 1):
        head, _, body = post.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
