"""Users and sessions by brute force over calls: the rows of `llm_visits`, and the answers to questions about them."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from streamlens.pricing import Prices
from streamlens.simulate.oracle import MINUTE_US, Call, sums, us
from streamlens.userhash import UserHash

SECRET = "a key that the tests know"
DAY_US = 1440 * MINUTE_US
_PRICES = Prices()
_HASH = UserHash(SECRET, str)
Key = tuple[str, str, str, str, int]
"""Tenant, kind, visitor, route, day since the epoch."""


class Seen(NamedTuple):
    """One call as a visitor's row counts it."""

    at_us: int
    model: str
    user: str
    call: Call


def user_of(tenant_id: str, user_id: str) -> str:
    """The name under which a user is kept."""
    return _HASH.of(tenant_id, user_id).hex()


def visits(calls: Iterable[Call]) -> dict[Key, list[Seen]]:
    """The calls of each row."""
    found: dict[Key, list[Seen]] = {}
    for call in calls:
        asked = call.request
        tenant_id, at_us = asked["tenant_id"], us(asked["timestamp"])
        user = user_of(tenant_id, asked["user_id_hash"]) if asked.get("user_id_hash") else ""
        for kind, visitor in (("user", user), ("session", asked.get("session_id"))):
            if visitor:
                key = (tenant_id, kind, visitor, asked["route"], at_us // DAY_US)
                found.setdefault(key, []).append(Seen(at_us, asked["model"], user, call))
    return found


def visit(key: Key, seen: Sequence[Seen]) -> tuple[Any, ...]:
    """What the row of these calls holds, in the order of the columns."""
    first = min((each.at_us, each.model) for each in seen)
    minutes = sorted({each.at_us // MINUTE_US % 1440 for each in seen})
    return (*first, minutes, *(_used(seen) if key[1] == "session" else (None,) * 9))


def _used(seen: Sequence[Seen]) -> Iterator[Any]:
    yield max(each.at_us for each in seen)
    yield min((each.user for each in seen if each.user), default=None)
    row = sums([each.call for each in seen], _PRICES)
    for name in ("calls", "errors", "prompt_tokens", "completion_tokens"):
        yield row[name]
    yield row["cost_pico"] if row["priced"] else None
    yield row["priced"]
    yield row["unpriced"]


# -- questions -------------------------------------------------------------------------------------------------------


class Users:
    """Questions about who came when. `calls` are all of them, each once."""

    def __init__(self, calls: Sequence[Call], tenant_id: str | None) -> None:
        self._calls = sorted(
            (call for call in calls if tenant_id in (None, call.request["tenant_id"])),
            key=lambda call: us(call.request["timestamp"]),
        )

    def retention(self, cohort: int, days: int, by: str | None) -> dict[tuple[str | None, int], int]:
        """(value, n) -> users of the cohort of that day who called n days later; only where there are any."""
        found: dict[tuple[str | None, int], int] = {}
        for _, calls in self._visitors("user"):
            first_us = us(calls[0].request["timestamp"])
            if first_us // DAY_US != cohort:
                continue
            value = None
            if by:
                value = min(call.request[by] for call in calls if us(call.request["timestamp"]) == first_us)
            for day in {us(call.request["timestamp"]) // DAY_US - cohort for call in calls}:
                if day <= days:
                    found[value, day] = found.get((value, day), 0) + 1
        return found

    def funnel(self, steps: Sequence[str], kind: str, from_us: int, to_us: int) -> list[int]:
        """How many visitors reached each step."""
        reached = [0] * len(steps)
        for _, calls in self._visitors(kind):
            seen = [(us(call.request["timestamp"]) // MINUTE_US, call.request["route"]) for call in calls]
            at = -1
            for number, step in enumerate(steps):
                found = [
                    minute
                    for minute, route in seen
                    if route == step and minute >= at and from_us <= minute * MINUTE_US < to_us
                ]
                if not found:
                    break
                at = min(found)
                reached[number] += 1
        return reached

    def sessions(self, user: str | None = None) -> list[dict[str, Any]]:
        """All sessions, or a user's: the last one to start first."""
        found = []
        for (tenant_id, session_id), calls in self._visitors("session"):
            users = {user_of(tenant_id, call.request["user_id_hash"]) for call in calls if _user(call)}
            if user is None or user in users:
                found.append(_session(tenant_id, session_id, calls, min(users, default=None)))
        return sorted(found, key=lambda session: session["started_us"], reverse=True)

    def _visitors(self, kind: str) -> Iterator[tuple[tuple[str, str], list[Call]]]:
        """Each visitor by tenant, and its calls in the order of time."""
        field = "user_id_hash" if kind == "user" else "session_id"

        def who(call: Call) -> tuple[str, str]:
            return call.request["tenant_id"], call.request.get(field) or ""

        for visitor, calls in groupby(sorted(self._calls, key=who), key=who):
            if visitor[1]:
                yield visitor, list(calls)


def _user(call: Call) -> str | None:
    return call.request.get("user_id_hash")


def _session(tenant_id: str, session_id: str, calls: Sequence[Call], user: str | None) -> dict[str, Any]:
    times = [us(call.request["timestamp"]) for call in calls]
    row = sums(calls, _PRICES)
    firsts = {call.request["route"]: at for at, call in reversed(list(zip(times, calls, strict=True)))}
    return {
        "tenant_id": tenant_id,
        "session_id": session_id,
        "user": user,
        "started_us": min(times),
        "last_us": max(times),
        **{name: row[name] for name in ("calls", "errors", "prompt_tokens", "completion_tokens", "unpriced")},
        "cost_pico": row["cost_pico"] if row["priced"] else None,
        "routes": sorted(firsts, key=lambda route: (firsts[route], route)),
    }
