"""Keys without Postgres: secrets, whose event it is, and the copy that stays in force."""

import asyncio
import json
import re
from typing import Any

import pytest
from structlog.testing import capture_logs

from streamlens.errors import BadEvent, Unavailable
from streamlens.events import decode
from streamlens.keys import ANYONE, REFRESH_S, ForeignTenant, Key, Keys, new_secret, sha256_of

ACME = Key(1, b"", "acme", frozenset(["ingest"]))
ALL = Key(2, b"", None, frozenset(["ingest"]))
REST = '"request_id": "r", "timestamp": 1790000000000'


def test_secrets_are_long_and_never_the_same() -> None:
    secrets = {new_secret() for _ in range(1000)}
    assert len(secrets) == 1000
    assert all(re.fullmatch(r"sl_[A-Za-z0-9_-]{43}", secret) for secret in secrets)


STAMPED = [
    ("no tenant", f"{{{REST}}}", "acme"),
    ("white space all around", f" \n{{ {REST} \t}}\r\n", "acme"),
    ("null, as some clients send what is not there", f'{{"tenant_id": null, {REST}}}', "acme"),
    (
        "only in a nested object",
        f'{{{REST}, "metadata": {{"tenant_id": "evil"}}, "x": {{"tenant_id": "evil"}}}}',
        "acme",
    ),
    ("in a text", f'{{{REST}, "error": "\\"tenant_id\\": \\"evil\\"}}"}}', "acme"),
    ("its own", f'{{"tenant_id": "acme", {REST}}}', "acme"),
    ("another's", f'{{"tenant_id": "evil", {REST}}}', ForeignTenant),
    ("another's, escaped", f'{{"tenant\\u005fid": "ev\\u0069l", {REST}}}', ForeignTenant),
    ("its own, then another's", f'{{"tenant_id": "acme", {REST}, "tenant_id": "evil"}}', ForeignTenant),
    ("another's, then null", f'{{"tenant_id": "evil", {REST}, "tenant_id": null}}', "acme"),
    ("in capitals", f'{{"tenant_id": "ACME", {REST}}}', ForeignTenant),
    ("an empty one", f'{{"tenant_id": "", {REST}}}', BadEvent),
    ("a number", f'{{"tenant_id": 1, {REST}}}', BadEvent),
    ("no object", f"[{{{REST}}}]", BadEvent),
    ("an empty object", "{}", BadEvent),
    ("half an object", f"{{{REST}", BadEvent),
    ("an object and a half", f"{{{REST}}}}}", BadEvent),
    ("nothing", "", BadEvent),
]


@pytest.mark.parametrize(("raw", "outcome"), [row[1:] for row in STAMPED], ids=[row[0] for row in STAMPED])
def test_an_event_gets_the_tenant_of_its_key(raw: str, outcome: Any) -> None:
    def sent() -> str | None:
        event = decode("response", ACME.stamped(raw.encode()))
        ACME.must_own(event.tenant_id)
        return event.tenant_id

    if isinstance(outcome, str):
        assert sent() == outcome
        assert json.loads(ACME.stamped(raw.encode()))["tenant_id"] == outcome  # whoever reads it, the last one counts
    else:
        with pytest.raises(outcome):
            sent()


@pytest.mark.parametrize("key", [ANYONE, ALL])
def test_a_key_for_all_stamps_nothing(key: Key) -> None:
    for raw in (f"{{{REST}}}".encode(), b"", b"{"):
        assert key.stamped(raw) is raw
    key.must_own("anybody")


def test_what_names_no_tenant_needs_a_key_of_one() -> None:
    ANYONE.must_own(None)
    with pytest.raises(BadEvent, match="tenant_id: required"):
        ALL.must_own(None)


async def copy_of(*keys: Key) -> Keys:
    async def load(version: int) -> tuple[int, list[Key]]:
        return version + 1, list(keys)

    copy = Keys(load)
    await copy.refresh()
    return copy


async def test_a_key_is_found_by_its_whole_secret() -> None:
    secret, other = new_secret(), new_secret()
    key = Key(1, sha256_of(secret), "acme", frozenset(["read"]))
    copy = await copy_of(key, Key(2, sha256_of(other), None, frozenset(["read"])))
    assert copy.find(secret) is key
    for wrong in (new_secret(), secret[:-1], secret + "x", secret.swapcase(), "", "sl_", "é" * 46, "\udc80" * 46):
        assert copy.find(wrong) is None


class Source:
    """What Postgres would say, one look after the other; the test waits for each look."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[Any] = asyncio.Queue()
        self.slept: asyncio.Queue[float] = asyncio.Queue()
        self.asked: list[int] = []

    async def load(self, version: int) -> Any:
        self.asked.append(version)
        said = await self.says.get()
        if isinstance(said, Exception):
            raise said
        return said

    async def sleep(self, seconds: float) -> None:
        await self.slept.put(seconds)

    async def look(self, said: Any) -> None:
        await self.says.put(said)
        assert await self.slept.get() == REFRESH_S


async def test_the_copy_follows_and_stays_in_force_while_postgres_is_away() -> None:
    source, fatal = Source(), list[BaseException]()
    keys = Keys(source.load)
    secret = new_secret()
    key = Key(1, sha256_of(secret), "acme", frozenset(["read"]))
    away = Unavailable("Postgres: no answer")
    with pytest.raises(Unavailable, match="not known yet"):
        keys.find(secret)
    with capture_logs() as logged:
        running = asyncio.create_task(keys.run(fatal.append, source.sleep))
        await source.look(away)
        with pytest.raises(Unavailable, match="not known yet"):
            keys.find(secret)
        await source.look((7, [key]))
        assert keys.find(secret) is key
        await source.look(away)
        await source.look(away)
        assert keys.find(secret) is key
        await source.look(None)
        assert keys.find(secret) is key
        await source.look((8, []))
        assert keys.find(secret) is None
        running.cancel()
    assert source.asked[:7] == [-1, -1, 7, 7, 7, 7, 8]
    assert [entry["log_level"] for entry in logged] == ["warning", "info", "warning", "info"]
    assert fatal == []


async def test_what_no_retry_heals_ends_the_process() -> None:
    source, fatal = Source(), list[BaseException]()
    error = RuntimeError("a defect")
    source.says.put_nowait(error)
    with pytest.raises(RuntimeError):
        await Keys(source.load).run(fatal.append, source.sleep)
    assert fatal == [error]
