"""`streamlens keys` beside a running `up` with its embedded PostgreSQL, beside none, and on an empty database."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from process_server import Server, environ, streamlens, until
from streamlens.errors import BadSetting
from streamlens.process import settings_with

SOON_S = 20.0
"""Long, because tests share the machine; the copy is looked after every two seconds."""


@pytest.fixture(scope="module")
def guarded(scratch: Path) -> Iterator[Server]:
    with Server(scratch / "guarded", STREAMLENS_AUTH="keys", STREAMLENS_RATE_LIMIT_EPS="1") as server:
        yield server.start()


def created(server: Server, *arguments: str) -> tuple[str, str]:
    """The id and the secret of a new key."""
    done = server.command("keys", "create", *arguments)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"sl_[A-Za-z0-9_-]{43}\n", done.stdout), "the secret alone, for $( )"
    told = re.fullmatch(r"key (\d+) for .*; it is shown this once\n", done.stderr)
    assert told, done.stderr
    return told[1], done.stdout.strip()


def works_soon(server: Server, path: str = "/v1/metrics") -> None:
    until(lambda: server.get(path)[0] == 200, "the key works", within_s=SOON_S)


def event(**fields: Any) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {"request_id": "r-1", "route": "chat", "model": "gpt-4o", "timestamp": now, **fields}


def test_a_key_opens_its_tenants_door_until_it_is_revoked(guarded: Server) -> None:
    assert guarded.get("/v1/metrics")[0] == 401
    assert guarded.get("/health")[0] == 200

    acme_id, acme = created(guarded, "--tenant", "acme", "--scope", "read", "--scope", "ingest", "--name", "the shop")
    evil_id, evil = created(guarded, "--tenant", "evil", "--scope", "ingest", "--scope", "read")
    guarded.key = evil
    works_soon(guarded)
    guarded.key = acme
    works_soon(guarded)

    assert guarded.post("/v1/llm/request", event())[0] == 202
    guarded.key = evil
    assert guarded.post("/v1/llm/response", event(latency_ms=1))[0] == 202
    assert guarded.post("/v1/llm/request", event(tenant_id="acme"))[0] == 403
    guarded.key = acme
    assert guarded.post("/v1/llm/response", event(latency_ms=840))[0] == 202
    rows: list[dict[str, Any]] = []
    until(lambda: bool(rows.extend(guarded.get("/v1/metrics")[1]["metrics"]) or rows), "the row of the call")
    assert [(row["tenant_id"], row["requests"], row["max_latency_ms"]) for row in rows] == [("acme", 1, 840.0)]
    guarded.key = evil
    assert guarded.get("/v1/metrics") == (200, {"metrics": [], "count": 0, "next": None})

    listed = guarded.command("keys", "list").stdout
    assert re.search(rf"(?m)^ *{acme_id} +acme +ingest, read +the shop +2\d{{3}}-", listed), listed
    assert acme not in listed and acme not in guarded.stderr

    assert guarded.command("keys", "revoke", evil_id).stdout == f"key {evil_id} is revoked\n"
    until(lambda: guarded.get("/v1/metrics")[0] == 401, "the revocation", within_s=SOON_S)
    guarded.key = acme
    assert guarded.get("/v1/metrics")[0] == 200
    again = guarded.command("keys", "revoke", evil_id)
    assert (again.returncode, again.stderr) == (1, f"Error: there is no key {evil_id}, or it was revoked already\n")
    guarded.key = ""


def test_deleting_a_project_revokes_its_keys_at_once(guarded: Server) -> None:
    _, admin = created(guarded, "--all-tenants", "--scope", "admin")
    _, member = created(guarded, "--tenant", "lab", "--scope", "read")
    guarded.key = admin
    works_soon(guarded, "/api/v1/projects")
    assert guarded.post("/api/v1/projects", {"id": "lab", "name": "The lab"})[0] == 201
    guarded.key = member
    works_soon(guarded)
    guarded.key = admin
    assert guarded.ask("DELETE", "/api/v1/projects/lab") == (200, {"id": "lab", "revoked_keys": 1})
    guarded.key = member
    assert guarded.get("/v1/metrics")[0] == 401
    refused = guarded.command("keys", "create", "--tenant", "lab", "--scope", "read")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "Error: the project lab is deleted\n"
    guarded.key = ""


def test_a_tenant_that_sends_too_much_is_told_to_wait_and_others_are_not(guarded: Server) -> None:
    _, guarded.key = created(guarded, "--all-tenants", "--scope", "ingest")
    busy = [event(type="call", request_id=f"b-{n}", tenant_id="busy", latency_ms=1) for n in range(300)]
    until(lambda: guarded.post("/v1/llm/events", busy)[0] == 202, "the key works", within_s=SOON_S)
    assert guarded.post("/v1/llm/events", busy[:1])[0] == 429, "it is in debt for minutes"
    assert guarded.post("/v1/llm/call", event(tenant_id="calm", latency_ms=1))[0] == 202
    guarded.key = ""


def test_keys_made_while_nothing_runs_work_after_the_next_start(guarded: Server) -> None:
    assert guarded.stop() == 0
    try:
        _, secret = created(guarded, "--all-tenants", "--scope", "read")
        assert "(all tenants)" in guarded.command("keys", "list").stdout
        assert not (guarded.data_dir / "postgres" / "postmaster.pid").exists(), "its PostgreSQL was stopped again"
    finally:
        guarded.start()
    guarded.key = secret
    assert guarded.get("/v1/metrics")[0] == 200, "from the first request on"
    guarded.key = ""


async def test_a_database_that_was_never_used_takes_keys(empty_dsn: str, tmp_path: Path) -> None:
    env = environ(POSTGRES_DSN=empty_dsn, STREAMLENS_DATA_DIR=str(tmp_path / "none"))
    made = streamlens("keys", "create", "--tenant", "acme", "--scope", "admin", env=env)
    assert (made.returncode, made.stdout[:3]) == (0, "sl_")
    assert "acme" in streamlens("keys", "list", env=env).stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "--tenant", "a"], "Missing option '--scope'"),
        (["create", "--scope", "read"], "say either --tenant or --all-tenants"),
        (["create", "--scope", "read", "--tenant", ""], "say either --tenant or --all-tenants"),
        (["create", "--scope", "read", "--tenant", "a", "--all-tenants"], "say either --tenant or --all-tenants"),
        (["create", "--scope", "root", "--tenant", "a"], "'root' is not one of"),
        (["create", "--scope", "read", "--tenant", "a" * 257], "at most 256 characters"),
        (["create", "--scope", "read", "--tenant", "a\x1b[0m"], "control character"),
        (["revoke", "sl_x"], "'sl_x' is not a valid integer"),
        (["revoke", "0"], "0 is not in the range"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_touched(arguments: list[str], words: str) -> None:
    done = streamlens("keys", *arguments, env=environ(POSTGRES_DSN="postgresql://nobody@127.0.0.1:1/nothing"))
    assert done.returncode == 2
    assert words in done.stderr


def test_postgres_that_is_away_is_one_sentence() -> None:
    done = streamlens("keys", "list", env=environ(POSTGRES_DSN="postgresql://nobody@127.0.0.1:1/nothing"))
    assert done.returncode == 1
    assert done.stderr.startswith("Error: Postgres: ") and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("auth", "insecure", "refused"), [("off", False, True), ("off", True, False), ("keys", False, False)]
)
def test_an_address_that_others_can_reach_needs_keys(
    monkeypatch: pytest.MonkeyPatch, auth: str, insecure: bool, refused: bool
) -> None:
    monkeypatch.setenv("STREAMLENS_HTTP_HOST", "0.0.0.0")
    monkeypatch.setenv("STREAMLENS_AUTH", auth)
    if refused:
        with pytest.raises(BadSetting, match=r"set STREAMLENS_AUTH=keys, or add --insecure"):
            settings_with(None, None, None, insecure=insecure)
    else:
        assert settings_with(None, None, None, insecure=insecure).http_host == "0.0.0.0"
