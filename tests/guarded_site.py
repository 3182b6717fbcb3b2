"""A site with keys, and two tenants who have something in every table. For the tests."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from postgres_rows import MINUTE, NOON, booked, cell, metric
from streamlens.deadletters import Letter, encode_letter
from streamlens.keptcall import SLOW, KeptCall
from streamlens.keys import Key, Keys, new_secret, sha256_of
from streamlens.log import TP, Record, TopicSpec
from streamlens.moments import Moments, Variant
from streamlens.postgres import letters
from streamlens.postgres.calls import CallRow
from streamlens.postgres.connection import reader
from streamlens.postgres.experiments import ExperimentRow
from streamlens.postgres.observed import EvaluationRow, KeptRow, TallyRow
from streamlens.postgres.projects import create_project
from streamlens.postgres.rows import FacetRow
from streamlens.postgres.store import PostgresStore
from streamlens.postgres.visited import VisitRow
from streamlens.scores import Scores
from streamlens.settings import Settings
from streamlens.tally import Tally
from streamlens.topics import CALLS, DEAD_LETTERS
from streamlens.visit import SESSION, USER, Visit
from web_server import PARTITIONS, Site, serving

TENANT, OTHER = "acme", "the-other-one"
SCOPES = ("ingest", "read", "admin")
LETTERS = {TENANT: 0, OTHER: 1}
"""The offsets of the tenants' dead letters, of partition 0 of the calls."""


EXPERIMENTS = {TENANT: "tone", OTHER: "theirs"}


class Guarded:
    """Keys: one of each scope for the tenant and for all, and one that is revoked."""

    def __init__(self) -> None:
        self.secrets: dict[tuple[str | None, str], str] = {}
        self.known: list[Key] = []
        self.version = 0
        for tenant_id in (TENANT, None):
            for scope in SCOPES:
                secret = self.secrets[tenant_id, scope] = new_secret()
                self.known.append(Key(len(self.known) + 1, sha256_of(secret), tenant_id, frozenset([scope])))
        self.revoked = new_secret()
        self.keys = Keys(self.load)
        self.site: Site

    async def load(self, version: int) -> tuple[int, list[Key]]:
        self.version += 1
        return self.version, self.known

    async def ask(self, method: str, path: str, secret: str | None, **options: Any) -> aiohttp.ClientResponse:
        """Ask for a route; what its pattern leaves open is the other tenant's."""
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        letter = f"{CALLS}/0/{LETTERS[OTHER]}"
        path = path.replace("{request_id}", f"r-{OTHER}")
        path = path.replace("{session_id}", f"s-{OTHER}")
        path = path.replace("{id}", OTHER).replace("{topic}/{partition}/{offset}", letter)
        path = path.replace("{experiment}", EXPERIMENTS[OTHER])
        return await self.site.http.request(method, path, headers=headers, **options)


@pytest.fixture
async def guarded(tmp_path: Path, store: PostgresStore) -> AsyncIterator[Guarded]:
    await store.write([row for tenant_id in (TENANT, OTHER) for row in _rows(tenant_id)], [booked(tenant_id="")])
    async with reader(store.pool) as connection:
        for tenant_id in (TENANT, OTHER):
            await create_project(connection, tenant_id, "A shop")
    made = Guarded()
    await made.keys.refresh()
    given = {"settings": Settings(auth="keys"), "clock_us": lambda: NOON + MINUTE}
    async with serving(tmp_path, pool=store.pool, keys=made.keys, **given) as site:
        made.site = site
        await _write_letters(site, store)
        yield made


def _rows(tenant_id: str) -> list[Any]:
    """One of each table."""
    key, scores, version = tenant_id.encode(), Scores(), (1, 1)
    scores.add(0.5, None)
    failed = cell([1000], errors=1, error_types={"timeout": 1})
    return [
        metric(failed, tenant_id=tenant_id, route=f"/{tenant_id}"),
        booked(tenant_id=tenant_id, received=1),
        FacetRow(tenant_id, "region", "eu", NOON, MINUTE, cell([1000]), 1, False, version),
        FacetRow(tenant_id, "provider", tenant_id, NOON, MINUTE, cell([1000]), 1, False, version),
        EvaluationRow(b"e" + key, tenant_id, "/chat", "gpt-5", "truth", NOON, MINUTE, scores, 1, False, version),
        TallyRow(b"s" + key, tenant_id, "log", "api", "INFO", NOON, MINUTE, Tally(1), version),
        KeptRow(
            b"r" + key, tenant_id, "log", "id", NOON, b'{"level":"INFO","service":"api","message":"calm"}', version
        ),
        ExperimentRow(tenant_id, EXPERIMENTS[tenant_id], "A", NOON, MINUTE, Variant(errors=Moments(1)), version),
        CallRow(b"n" + key, tenant_id, NOON, KeptCall(NOON, SLOW, f"r-{tenant_id}"), version),
        VisitRow(b"u" + key, tenant_id, USER, f"u-{tenant_id}", "/chat", Visit(NOON, "gpt-5", {720}), version),
        VisitRow(b"v" + key, tenant_id, SESSION, f"s-{tenant_id}", "/chat", Visit(NOON, "gpt-5", {720}, NOON), version),
    ]


async def _write_letters(site: Site, store: PostgresStore) -> None:
    time = datetime(2026, 7, 1, tzinfo=UTC)
    found = [
        Letter(topic=CALLS, partition=0, offset=at, reason="malformed", time=time, tenant_id=tenant_id, value=b"{")
        for tenant_id, at in LETTERS.items()
    ]
    await site.log.create_topics([TopicSpec(DEAD_LETTERS, PARTITIONS)])
    await site.log.append({TP(DEAD_LETTERS, 0): [Record(None, encode_letter(letter)) for letter in found]})
    await letters.put(store.pool, 0, list(enumerate(found)), len(found))
