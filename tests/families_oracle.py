"""What the rows of all families must hold for given events, worked out by brute force over their JSON."""

import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any

from recent_oracle import kept_calls
from streamlens.histogram import index
from streamlens.pricing import Prices
from streamlens.simulate.oracle import MINUTE_US, Call, error_type, sums, us, usage
from visits_oracle import Key, Seen, visit, visits

Rows = dict[tuple[Any, ...], Any]
Event = dict[str, Any]
Sent = tuple[str, Event, bytes, int]
"""Kind, event, its bytes, its partition; in the order in which they were appended."""
MILLION = 1_000_000
LONGEST_US = 120 * MILLION
LOUD = ("WARNING", "ERROR", "CRITICAL")
_PRICES = Prices()


def expected(sent: Iterable[Sent], kept: int) -> dict[str, Rows]:
    """All rows by table, of traffic of which nothing is late and no name too many. `kept`: how many lines of a class,
    tenant and minute a partition keeps, the first ones."""
    counted = list(_counted(sent))
    calls = list(_calls(counted))
    return {
        "llm_metrics": {key: sums(each, _PRICES) for key, each in _grouped(_by_series(calls)).items()},
        "llm_facets": {key: sums(each, _PRICES) for key, each in _grouped(_by_facet(calls)).items()},
        "llm_evaluations": {key: _scores(each) for key, each in _grouped(_evaluations(counted)).items()},
        "llm_tallies": {
            key: (len(each), sum(each), min(each), max(each))
            for key, each in _grouped((*_warnings(calls), *_tallies(counted))).items()
        },
        "app_logs": dict(_lines(counted, kept)),
        "llm_experiments": {
            key: _variant(each) for key, each in _grouped((*_varied(calls), *_scored(counted))).items()
        },
        "llm_calls": kept_calls(_placed(counted, calls), _PRICES),
        "llm_visits": {key: visit(key, seen) for key, seen in visits(calls).items()},
    }


def visited(sent: Iterable[Sent]) -> dict[Key, list[Seen]]:
    """The calls of each row of `llm_visits`, which may have others in other minutes."""
    return visits(_calls(list(_counted(sent))))


def _grouped(pairs: Iterable[tuple[tuple[Any, ...], Any]]) -> dict[tuple[Any, ...], list[Any]]:
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def _counted(sent: Iterable[Sent]) -> Iterator[Sent]:
    """Each event once: the first one of its identity."""
    seen: set[Any] = set()
    for each in sent:
        kind, event, raw, _ = each
        identity: Any = raw
        if kind in ("request", "response", "call"):
            identity = event["request_id"]
        if kind == "evaluation":
            identity = (event["tenant_id"], event["request_id"], event["name"], event.get("evaluator"))
        if (kind, identity) not in seen:
            seen.add((kind, identity))
            yield each


def _minute(event: Mapping[str, Any]) -> int:
    return us(event["timestamp"]) // MINUTE_US


# -- calls -----------------------------------------------------------------------------------------------------------


def _calls(counted: list[Sent]) -> Iterator[Call]:
    answers = {event["request_id"]: event for kind, event, _, _ in counted if kind == "response"}
    for kind, event, _, _ in counted:
        if kind == "call":
            yield Call(event, event)
        if kind == "request" and event["request_id"] in answers:
            yield Call(event, answers[event["request_id"]])


def _placed(counted: list[Sent], calls: list[Call]) -> Iterator[tuple[int, Call]]:
    """Each call with its partition."""
    partitions = {
        event["request_id"]: partition for kind, event, _, partition in counted if kind in ("request", "call")
    }
    for call in calls:
        yield partitions[call.request["request_id"]], call


def _by_series(calls: list[Call]) -> Iterator[tuple[tuple[Any, ...], Call]]:
    for call in calls:
        asked = call.request
        yield (asked["tenant_id"], asked["route"], asked["model"], _minute(asked)), call


def _by_facet(calls: list[Call]) -> Iterator[tuple[tuple[Any, ...], Call]]:
    for call in calls:
        for facet, value in _facets(*call).items():
            if value:
                yield (call.request["tenant_id"], facet, value, _minute(call.request)), call


def _facets(request: Mapping[str, Any], response: Mapping[str, Any]) -> dict[str, str | None]:
    experiment = request.get("experiment")
    name = experiment and _before_slash(experiment["name"])
    version = request.get("model_version")
    return {
        "provider": request.get("provider"),
        "experiment": experiment and experiment["name"],
        "variant": experiment and f"{name}/{experiment['variant']}",
        "prompt_version": request.get("prompt_version"),
        "model_version": version and f"{_before_slash(request['model'])}/{version}",
        "region": request.get("region"),
        "country": request.get("metadata", {}).get("country"),
        "client_app": request.get("client", {}).get("app"),
        "error_type": error_type(response),
        "finish_reason": response.get("finish_reason"),
        "sender": request.get("sender") or response.get("sender"),
    }


def _before_slash(name: str) -> str:
    return name.replace("\\", "\\\\").replace("/", "\\/")


def _warnings(calls: list[Call]) -> Iterator[tuple[tuple[Any, ...], int]]:
    for call in calls:
        asked, answered = call
        sender = answered.get("sender") or asked.get("sender") or "unknown"
        for rule in _broken(call):
            yield (asked["tenant_id"], "warning", rule, sender, _minute(asked)), 0


def _broken(call: Call) -> list[str]:
    """The rules of `docs/api.md` that a call breaks."""
    asked, answered = call
    used, failed = usage(call), error_type(answered) is not None
    told = [half["prompt_tokens"] for half in (answered, asked) if half.get("prompt_tokens") is not None]
    cached, written, completion, reasoning = (
        answered.get(f"{name}_tokens") or 0 for name in ("cached", "cache_write", "completion", "reasoning")
    )
    rules = {
        "provider_missing": asked.get("provider") is None,
        "prompt_tokens_missing": not told and not failed,
        "completion_tokens_missing": answered.get("completion_tokens") is None and not failed,
        "response_before_request": us(answered["timestamp"]) < us(asked["timestamp"]),
        "latency_long": used.latency_us > LONGEST_US,
        "ttft_after_end": round((answered.get("ttft_ms") or 0) * 1000) > used.latency_us,
        "cache_apart": cached + written > (told[0] if told else 0),
        "reasoning_apart": reasoning > completion,
        "total_tokens_differ": answered.get("total_tokens") not in (None, used.prompt + used.completion),
    }
    return [rule for rule, broken in rules.items() if broken]


def _varied(calls: list[Call]) -> Iterator[tuple[tuple[Any, ...], tuple[str, int]]]:
    """What each call of an experiment measures, metric by metric."""
    for call in calls:
        asked, used, counted = call.request, usage(call), sums((call,), _PRICES)
        if told := asked.get("experiment"):
            key = (asked["tenant_id"], told["name"], told["variant"], _minute(asked))
            yield key, ("error_rate", counted["errors"])
            yield key, ("latency_ms", used.latency_us)
            yield key, ("tokens", used.prompt + used.completion)
            if used.ttft_us is not None:
                yield key, ("ttft_ms", used.ttft_us)
            if counted["priced"]:
                yield key, ("cost_usd", counted["cost_pico"])


def _variant(measured: list[tuple[str, int]]) -> dict[str, Any]:
    """How many values there are of each metric, their sum and that of their squares."""
    values = {metric: [value for name, value in measured if name == metric] for metric, _ in measured}
    moments = {metric: (len(each), sum(each), sum(value**2 for value in each)) for metric, each in values.items()}
    calls = {name: moments.pop(name, None) for name in ("error_rate", "latency_ms", "tokens", "ttft_ms", "cost_usd")}
    return {"calls": len(values.get("error_rate", ())), **calls, "scores": moments}


# -- what is no call -------------------------------------------------------------------------------------------------


def _evaluations(counted: list[Sent]) -> Iterator[tuple[tuple[Any, ...], Event]]:
    for kind, event, _, _ in counted:
        if kind == "evaluation":
            where = event.get("route", "unknown"), event.get("model", "unknown")
            yield (event["tenant_id"], *where, event["name"], _minute(event)), event


def _scores(found: list[Event]) -> tuple[Any, ...]:
    values = [round(event["score"] * MILLION) for event in found if "score" in event]
    labels = [event["label"] for event in found if "label" in event]
    return (
        len(found),
        len(values),
        sum(values),
        min(values, default=None),
        max(values, default=None),
        values.count(0),
        _buckets(value for value in values if value > 0),
        _buckets(-value for value in values if value < 0),
        {label: labels.count(label) for label in set(labels)},
    )


def _scored(counted: list[Sent]) -> Iterator[tuple[tuple[Any, ...], tuple[str, int]]]:
    for kind, event, _, _ in counted:
        if kind == "evaluation" and "score" in event and (told := event.get("experiment")):
            key = (event["tenant_id"], told["name"], told["variant"], _minute(event))
            yield key, (f"score:{event['name']}", round(event["score"] * MILLION))


def _buckets(values: Iterable[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for value in values:
        found[index(value)] = found.get(index(value), 0) + 1
    return found


def _tallies(counted: list[Sent]) -> Iterator[tuple[tuple[Any, ...], int]]:
    for kind, event, _, _ in counted:
        if kind == "metric":
            key = (event["tenant_id"], "metric", event["name"], _detail(event), _minute(event))
            yield key, round(event["value"] * MILLION)
        if kind == "log":
            yield (event["tenant_id"], "log", event["service"], event["level"].upper(), _minute(event)), 0


def _detail(event: Event) -> str:
    tags = dict(event.get("tags", {}))
    if event.get("unit"):
        tags.setdefault("unit", event["unit"])
    return ",".join(f"{_escaped(name)}={_escaped(tags[name])}" for name in sorted(tags))


def _escaped(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def _lines(counted: list[Sent], kept: int) -> Iterator[tuple[tuple[str, str], tuple[str, int, Event]]]:
    """Lines that are kept, by their id and tenant: class, time, and what they say."""
    room: dict[Any, int] = {}
    for kind, event, raw, partition in counted:
        if kind != "log":
            continue
        level = event["level"].upper()
        loud = "log.loud" if level in LOUD else "log"
        place = (event["tenant_id"], loud, _minute(event), partition)
        room[place] = room.get(place, 0) + 1
        if room[place] <= kept:
            names = ("service", "message", "attributes", "request_id", "session_id")
            said = {"level": level} | {name: event[name] for name in names if name in event}
            log_id = blake2b(raw, digest_size=16).hexdigest()
            yield (log_id, event["tenant_id"]), (loud, us(event["timestamp"]), said)
