"""Users and sessions through both stages into a real Postgres: rows and answers are those of a brute-force count."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from families_held import held
from families_oracle import Event, Sent, expected
from pipeline import MINUTE, SECOND, START, Pipeline
from streamlens.postgres import visit_queries
from streamlens.postgres.rows import time_of
from streamlens.postgres.store import PostgresStore
from streamlens.simulate.oracle import Call, us
from streamlens.visit import KINDS
from tables import windowed
from visits_oracle import DAY_US, Users, user_of

HOUR = 60 * MINUTE
MIDNIGHT = (START // DAY_US + 1) * DAY_US
ROUTES = ("search", "chat", "buy", "böse\\route")
TENANTS = ("acme", "böse & co")
STEPS = [("search", "chat", "buy"), ("chat",), ("buy", "search", "buy"), ("nowhere", "chat"), ROUTES]


def events(random: Random, at_us: int, number: int) -> Iterator[tuple[str, str, Event]]:
    """Kind, id and content of the halves of a call, in any order, or of a whole one, that began not long before."""
    user = random.randrange(12)
    asked: Event = {
        "timestamp": (at_us - min(int(random.expovariate(1 / (5 * MINUTE))), 45 * MINUTE)) // 1000,
        "tenant_id": random.choice(TENANTS),
        "route": random.choice(ROUTES),
        "model": random.choice(("gpt-4o-mini", "gpt-4o", "acme-chat-7b")),
        "prompt_tokens": random.randrange(100),
    }
    if random.random() < 0.9:
        asked["user_id_hash"] = f"ann-{user}"
    if random.random() < 0.8:
        asked["session_id"] = f"s{user}-{at_us // (7 * HOUR)}"
    answered: Event = {"latency_ms": 5, "completion_tokens": random.randrange(50)}
    answered |= {"error_type": "timeout"} if random.random() < 0.1 else {}
    if random.random() < 0.3:
        yield "call", f"c{number}", asked | answered
    else:
        halves = [("request", asked), ("response", {"timestamp": at_us // 1000} | answered)]
        for kind, half in random.sample(halves, 2):
            yield kind, f"r{number}", half


class Traffic:
    """A pipeline, and what was sent to it."""

    def __init__(self, path: Path, store: PostgresStore, seed: int) -> None:
        self.sent: list[Sent] = []
        self._random = Random(seed)
        self._path = path
        self._pipeline = Pipeline(path)
        self._pipeline.rows = store  # type: ignore[assignment]

    async def run(self, stops_us: Sequence[int], number: int) -> None:
        """`number` calls around each of these times, in any order, some of them twice; late ones too."""
        random = self._random
        await self._pipeline.open()
        for stop, stop_us in enumerate(stops_us):
            await self._pipeline.idle((stop_us - START) / SECOND)
            for made in range(stop * number, stop * number + number):
                for kind, request_id, event in events(random, stop_us, made):
                    await self._send(kind, event | {"request_id": request_id}, again=random.random() < 0.05)
                if random.random() < 0.05:
                    for kind, request_id, event in events(random, stop_us - 3 * HOUR, made):
                        await self._append(kind, orjson.dumps(event | {"request_id": f"late-{request_id}"}), "late")
                if random.random() < 0.01:
                    await self._break()
            await self._pipeline.settle()
        assert {letter["reason"] for letter in self._pipeline.letters()} == {"late"}
        await self._pipeline.close()

    async def _send(self, kind: str, event: Event, again: bool) -> None:
        raw = orjson.dumps(event)
        self.sent.append((kind, event, raw, 0))
        for _ in range(2 if again else 1):
            await self._append(kind, raw, event["request_id"])

    async def _append(self, kind: str, raw: bytes, key: str) -> None:
        await self._pipeline.send_raw(kind, raw, key)

    async def _break(self) -> None:
        """A part of the way, then a kill; now and then the state is lost and comes back from the changelog."""
        await self._pipeline.consume(self._pipeline.join)
        if self._random.random() < 0.5:
            await self._pipeline.join.tick()
        await self._pipeline.close()
        if self._random.random() < 0.3:
            shutil.rmtree(self._path / self._random.choice(("pending", "windows")))
        await self._pipeline.open()

    def calls(self) -> list[Call]:
        """All calls, each once."""
        answers = {event["request_id"]: event for kind, event, _, _ in self.sent if kind == "response"}
        return [
            Call(event, event if kind == "call" else answers[event["request_id"]])
            for kind, event, _, _ in self.sent
            if kind != "response"
        ]


STOPS_US = [
    MIDNIGHT + day * DAY_US + minutes * MINUTE for day, minutes in ((0, -20), (0, 4), (0, 50), (1, 700), (2, 1), (3, 0))
]


@pytest.mark.parametrize("seed", range(2))
async def test_rows_and_answers_are_those_of_a_brute_force_count(
    tmp_path: Path, store: PostgresStore, dsn: str, seed: int
) -> None:
    traffic = Traffic(tmp_path, store, seed)
    await traffic.run(STOPS_US, 300)
    calls = traffic.calls()
    assert (await held(dsn))["llm_visits"] == expected(traffic.sent, 0)["llm_visits"]
    for tenant_id in (None, "acme"):
        users = Users(calls, tenant_id)
        await check_retention(store, users, tenant_id)
        await check_funnels(store, users, tenant_id)
        await check_sessions(store, users, tenant_id)


async def check_retention(store: PostgresStore, users: Users, tenant_id: str | None) -> None:
    first = (MIDNIGHT - 1) // DAY_US
    returned = set()
    for cohort in range(first - 1, first + 5):
        for by in (None, "route", "model"):
            found = await visit_queries.retention(
                store.pool, tenant_id, time_of(cohort * DAY_US).date(), 3, by, (first + 2) * DAY_US
            )
            counts = {
                (group["value"], day): users
                for group in found
                for day, users in [(0, group["size"]), *((each["day"], each["returned"]) for each in group["days"])]
                if users
            }
            assert counts == users.retention(cohort, 3, by)
            returned |= {each["returned"] for group in found for each in group["days"]}
            for group in found:
                assert [each["complete"] for each in group["days"]] == [cohort + n < first + 2 for n in (1, 2, 3)]
    assert len(returned) > 3, "some come back"


async def check_funnels(store: PostgresStore, users: Users, tenant_id: str | None) -> None:
    spans = [(MIDNIGHT - DAY_US, MIDNIGHT + 9 * DAY_US), (MIDNIGHT - 25 * MINUTE, MIDNIGHT + 90 * SECOND)]
    for steps in STEPS:
        for kind in KINDS:
            for from_us, to_us in spans:
                found = await visit_queries.funnel(store.pool, steps, kind, tenant_id, from_us, to_us)
                wanted = users.funnel(steps, kind, from_us, to_us)
                assert [step["reached"] for step in found] == wanted, (steps, kind)


async def check_sessions(store: PostgresStore, users: Users, tenant_id: str | None) -> None:
    async def ask(**asked: Any) -> list[Any]:
        fields = {"tenant_id": tenant_id, "users": None, "from_us": None, "to_us": None, "limit": 1000} | asked
        return await visit_queries.sessions(store.pool, **fields)

    wanted = users.sessions()
    assert len(wanted) > 30
    page = found = await ask(limit=7)
    while page and len(found) <= len(wanted):
        page = await ask(limit=7, after=visit_queries.place_of(page[-1]))
        found += page
    assert told(found) == in_order(wanted)
    user = user_of("acme", "ann-3")
    assert told(await ask(users=["", user])) == in_order(users.sessions(user))
    from_us, to_us = MIDNIGHT, MIDNIGHT + DAY_US
    began = [session for session in wanted if from_us <= session["started_us"] < to_us]
    assert told(await ask(from_us=from_us, to_us=to_us)) == in_order(began)
    one = await visit_queries.session(store.pool, wanted[0]["session_id"], wanted[0]["tenant_id"])
    assert told(one) == wanted[:1]


def told(rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Sessions that were answered, as the oracle has them."""
    return in_order(plain(visit_queries.session_told(row)) for row in rows)


def plain(session: dict[str, Any]) -> dict[str, Any]:
    """A session of an answer, in the oracle's units."""
    found = dict(session)
    for name in ("started", "last"):
        found[f"{name}_us"] = us(found.pop(f"{name}_at"))
    cost = found.pop("estimated_cost_usd")
    found["cost_pico"] = None if cost is None else round(cost * 1e12)
    return found


def in_order(sessions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sessions of one start in one order."""
    return sorted(sessions, key=lambda each: (-each["started_us"], each["tenant_id"], each["session_id"]))


CALL = {"user_id_hash": "ann", "session_id": "s1"}


async def test_what_has_no_room_is_counted_and_stays_outside_after_a_kill(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1, max_visitors=2).open()
    for number, user in enumerate(("ann", "bob", "cid", "ann", "cid")):
        await pipeline.send("call", number, f"r{number}", user_id_hash=user, session_id=f"s{number}")
        await pipeline.consume(pipeline.join)
        await pipeline.join.tick()
        await pipeline.close()
        await pipeline.open()
    await pipeline.send("call", 9, "r9", tenant_id="globex", **CALL)
    await pipeline.settle()
    kept = sorted(key[:3] for key in pipeline.rows.visits if key[0] == "acme")
    users = sorted(user_of("acme", user) for user in ("ann", "bob"))
    assert kept == [("acme", "session", "s0"), ("acme", "session", "s1"), *(("acme", "user", user) for user in users)]
    warned = {key[3]: row.tally.count for key, row in pipeline.rows.tallies.items() if key[2] == "cardinality"}
    assert warned == {"user": 2, "session": 3}
    assert pipeline.calls() == {("acme", 0): 5, ("globex", 0): 1}
    assert len([key for key in pipeline.rows.visits if key[0] == "globex"]) == 2
    await pipeline.close()


async def test_none_is_kept_where_none_is_wanted(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, max_visitors=0).open()
    await pipeline.send("call", 1, **CALL)
    await pipeline.settle()
    assert (pipeline.rows.visits, pipeline.rows.tallies.keys() & {"cardinality"}) == ({}, set())
    await pipeline.close()


async def test_a_user_that_says_nothing_new_changes_no_row(tmp_path: Path) -> None:
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    pipeline.clock.at(70)
    versions = []
    for number, at in enumerate((30, 31, 59, 29, 61)):
        await pipeline.send("call", at, f"r{number}", user_id_hash="ann")
        await pipeline.settle()
        (row,) = pipeline.rows.visits.values()
        versions.append(row.version)
    assert len(set(versions[:3])) == 1, "three calls of one minute"
    assert len(set(versions)) == 3, "an earlier first call, and another minute"
    assert (row.visit.first_us, len(row.visit.minutes)) == (START + 29 * SECOND, 2)
    await pipeline.close()


async def test_rows_are_open_for_their_day_and_leave_the_state_after_it_a_few_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windowed, "_EXPIRED_ROWS", 3)
    pipeline = await Pipeline(tmp_path, partitions=1).open()
    seconds = (MIDNIGHT - START) / SECOND
    await pipeline.send("call", 0, "r0", session_id="s0")
    await pipeline.settle()
    await pipeline.idle(seconds - 120)
    for number in range(1, 9):
        await pipeline.send("call", seconds - 120, f"r{number}", session_id=f"s{number % 8}")
    await pipeline.settle()
    await pipeline.idle(seconds + 3600 + 29)
    await pipeline.send("call", seconds - 1, "r9", session_id="s1")
    await pipeline.settle()
    calls = {visitor: row.visit.calls for (_, _, visitor, _, _), row in pipeline.rows.visits.items()}
    assert calls == {"s0": 2, "s1": 2} | dict.fromkeys(("s2", "s3", "s4", "s5", "s6", "s7"), 1)
    pipeline.clock.at(seconds + 3600 + 31)
    left: list[list[int]] = []
    for _ in range(4):
        await pipeline.settle()
        states = (pipeline.join.units[0].state, pipeline.windows.units[0].state)
        left.append([sum(1 for _ in state.scan(b"v", b"w")) for state in states])
    assert [stage_one for stage_one, _ in left] == [5, 2, 0, 0]
    assert left[-1] == [0, 0]
    assert not list(pipeline.join.units[0].state.scan(b"V", b"W"))
    await pipeline.close()
