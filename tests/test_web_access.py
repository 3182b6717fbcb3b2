"""Keys over HTTP: every registered route with no, a wrong, a revoked, a narrow and a foreign key, and what it shows."""

import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from guarded_site import LETTERS, OTHER, SCOPES, TENANT, Guarded, guarded
from otlp_messages import GOOD
from postgres_rows import metric
from streamlens.app import app
from streamlens.keys import ForeignTenant, new_secret, sha256_of
from streamlens.otlp.messages import SIGNALS
from streamlens.postgres.store import PostgresStore
from streamlens.ratelimit import RateLimit
from web.access import OPEN, ROUTES
from web_server import NOW_US, counted, serving

__all__ = ["guarded"]

NOW_MS = NOW_US // 1000
CALL = {"request_id": "r-1", "route": "chat", "model": "m-1", "timestamp": NOW_MS, "latency_ms": 12}
EVENTS = {
    "/v1/llm/request": {name: value for name, value in CALL.items() if name != "latency_ms"},
    "/v1/llm/response": {"request_id": "r-1", "timestamp": NOW_MS},
    "/v1/llm/call": CALL,
}
LLM_LOG = {"timestamp": NOW_MS, "model": "m-1", "latency_ms": 12}
MANY = {
    "/v1/llm/events": {**CALL, "type": "call"},
    "/api/v1/ingest/llm": LLM_LOG,
    "/api/v1/ingest/llm/bulk": LLM_LOG,
    "/v1/events": {"ts": NOW_MS, "model_id": "m-1", "latency_ms": 12},
    "/v1/services/events": {"timestamp": NOW_MS, "service": "pay", "status_code": 200, "latency_ms": 12},
    "/v1/evaluations": {"timestamp": NOW_MS, "request_id": "r-1", "name": "truth", "score": 1},
    "/api/v1/ingest/app": {"timestamp": NOW_MS, "level": "INFO", "message": "calm"},
    "/api/v1/ingest/metrics": {"timestamp": NOW_MS, "name": "cpu", "value": 1},
}
"""An event for each route that takes many: another tenant's is an error of that item, not of the request."""
CLOSED = sorted(route for route, need in ROUTES.items() if need is not OPEN)
FOREIGN_BODIES = {
    **{path: {**event, "tenant_id": OTHER} for path, event in (EVENTS | MANY).items()},
    **{signal.path: GOOD[signal.path](OTHER) for signal in SIGNALS},
    "/api/v1/projects": {"id": OTHER, "name": "x"},
}

STREAMS = ("/v1/live",)
"""Answers without an end; `test_web_live.py` has whose rows are in them."""


NAMELESS = (
    "/v1/retention",
    "/v1/retention/d1",
    "/v1/funnel",
    "/api/v1/analytics/dashboard",
    "/api/v1/analytics/requests/timeseries",
)
"""Answers with numbers alone; below, and in `test_web_analytics.py`, is whose they are."""


def test_the_table_has_every_route_and_no_other() -> None:
    registered = {(m, path) for path, view in app.web.views.items() for m in view.get_methods() - {"HEAD"}}
    assert set(ROUTES) == registered


@pytest.mark.parametrize(("method", "path"), sorted(ROUTES.keys() - set(CLOSED)))
async def test_what_tells_nothing_is_open(guarded: Guarded, method: str, path: str) -> None:
    assert (await guarded.ask(method, path.replace("{name}", "page.js"), None)).status == 200


@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_each_other_route_needs_a_key_with_its_scope(guarded: Guarded, method: str, path: str) -> None:
    scope = ROUTES[method, path].scope
    assert scope is not None
    for secret in (None, "", "x", new_secret(), guarded.revoked):
        answer = await guarded.ask(method, path, secret)
        assert (answer.status, answer.headers.get("WWW-Authenticate")) == (401, "Bearer")
        assert answer.content_type == "application/problem+json"
        assert not secret or secret not in (await answer.json())["detail"]
    for tenant_id in (TENANT, None):
        for other in set(SCOPES) - {scope}:
            answer = await guarded.ask(method, path, guarded.secrets[tenant_id, other])
            assert answer.status == 403
            assert scope in (await answer.json())["detail"]
    right = await guarded.ask(method, path, guarded.secrets[None, scope])
    assert right.status not in (401, 403), await right.text()
    if method == "GET":
        assert (await guarded.ask("HEAD", path, None)).status == 401


@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_a_tenants_key_is_not_for_another_tenant(guarded: Guarded, method: str, path: str) -> None:
    secret = guarded.secrets[TENANT, str(ROUTES[method, path].scope)]
    answers = []
    if method == "POST" and path in FOREIGN_BODIES:
        answers.append(await guarded.ask(method, path, secret, json=FOREIGN_BODIES[path]))
    elif "{id}" in path:
        answers.append(await guarded.ask(method, path, secret))
    else:
        for query in (f"?tenant_id={OTHER}", f"?tenant_id={TENANT}&tenant_id={OTHER}", f"?tenant_id={OTHER}&x=1"):
            answers.append(await guarded.ask(method, path + query, secret))
    for answer in answers:
        problem = await answer.json()
        if method == "POST" and path in GOOD:
            told = problem["partialSuccess"]["errorMessage"]
            assert (answer.status, ForeignTenant().detail in told) == (200, True), problem
        elif method == "POST" and path in MANY:
            assert (answer.status, problem["accepted"]) == (400, 0)
            ((index, detail),) = [(each["index"], each["detail"]) for each in problem["errors"]]
            assert (index, detail) == (0, ForeignTenant().detail)
        else:
            assert (answer.status, answer.content_type) == (403, "application/problem+json"), problem
    assert guarded.site.written() == {}


@pytest.mark.parametrize(("method", "path"), [r for r in CLOSED if r[0] == "GET" and r[1] not in STREAMS])
async def test_a_tenants_key_sees_that_tenant_alone(guarded: Guarded, method: str, path: str) -> None:
    need = ROUTES[method, path]
    for query in ("", "?tenant_id="):
        seen = await guarded.ask(method, path + query, guarded.secrets[TENANT, str(need.scope)])
        if need.all_tenants:
            assert seen.status == 403
        elif seen.status != 400:  # the empty parameter, where there is none
            assert seen.status == (404 if "{" in path else 200)
            assert OTHER not in await seen.text()
    everything = await (await guarded.ask(method, path, guarded.secrets[None, str(need.scope)])).text()
    if path.startswith(("/v1/", "/api/v1/analytics/")) and path not in NAMELESS:
        assert OTHER in everything
        assert TENANT in everything or "{" in path


OWN = {
    "/v1/metrics": True,
    "/v1/metrics?group_by=region": True,
    "/v1/evaluations": True,
    "/v1/tallies": True,
    "/api/v1/analytics/logs/recent": True,
    "/v1/experiments": True,
    "/v1/calls": True,
    f"/v1/calls/r-{TENANT}": True,
    "/v1/sessions": True,
    f"/v1/sessions/s-{TENANT}": True,
    "/v1/tenants": False,
    "/v1/series": True,
    "/v1/ledger": True,
    "/v1/dlq": True,
}
"""Whether the tenant may be named."""


@pytest.mark.parametrize("path", OWN)
async def test_its_own_rows_are_there(guarded: Guarded, path: str) -> None:
    named = f"{path}{'&' if '?' in path else '?'}tenant_id={TENANT}"
    for asked in (path, named) if OWN[path] else (path,):
        body = await (await guarded.ask("GET", asked, guarded.secrets[TENANT, "read"])).json()
        assert [row["tenant_id"] for row in next(iter(body.values()))] == [TENANT], asked


COUNTS = {
    "/v1/retention?days=1": lambda body: body["cohorts"][0]["size"],
    "/v1/retention/d1?cohort_date=2026-11-18": lambda body: body["size"],
    "/v1/funnel?steps=/chat&to=2026-11-19T00:00:00Z": lambda body: body["steps"][0]["reached"],
}


@pytest.mark.parametrize("path", COUNTS)
async def test_nobody_elses_visitors_are_counted(guarded: Guarded, path: str) -> None:
    for tenant_id, count in ((TENANT, 1), (None, 2)):
        body = await (await guarded.ask("GET", path, guarded.secrets[tenant_id, "read"])).json()
        assert COUNTS[path](body) == count


async def test_its_own_letters_are_shown_and_sent_again(guarded: Guarded) -> None:
    shown = await guarded.ask("GET", f"/v1/dlq/llm.calls/0/{LETTERS[TENANT]}", guarded.secrets[TENANT, "read"])
    assert (shown.status, (await shown.json())["value"]) == (200, "{")
    replayed = await guarded.ask("POST", "/v1/dlq/replay", guarded.secrets[TENANT, "admin"])
    assert [letter["offset"] for letter in (await replayed.json())["letters"]] == [LETTERS[TENANT]]


@pytest.mark.parametrize("path", EVENTS)
async def test_an_event_gets_its_keys_tenant(guarded: Guarded, path: str) -> None:
    for event in (EVENTS[path], {**EVENTS[path], "tenant_id": TENANT}):
        answer = await guarded.ask("POST", path, guarded.secrets[TENANT, "ingest"], json=event)
        assert answer.status == 202, await answer.text()
    ((stamped, named),) = guarded.site.written().values()
    assert json.loads(stamped) == {**EVENTS[path], "tenant_id": TENANT}
    assert named == json.dumps({**EVENTS[path], "tenant_id": TENANT}).encode()


@pytest.mark.parametrize("path", MANY)
async def test_an_event_among_many_gets_its_keys_tenant(guarded: Guarded, path: str) -> None:
    for event in (MANY[path], MANY[path] | {"tenant_id": TENANT}):
        answer = await guarded.ask("POST", path, guarded.secrets[TENANT, "ingest"], json=event)
        assert answer.status == 202, await answer.text()
    values = [json.loads(value) for values in guarded.site.written().values() for value in values]
    assert [value["tenant_id"] for value in values] == [TENANT, TENANT]


async def test_of_many_events_only_anothers_are_refused(guarded: Guarded) -> None:
    events = [{**CALL, "type": "call"}, {**CALL, "type": "call", "tenant_id": OTHER}, {**CALL, "type": "call"}]
    answer = await guarded.ask("POST", "/v1/llm/events", guarded.secrets[TENANT, "ingest"], json=events)
    answered = await answer.json()
    assert (answer.status, answered["accepted"], answered["rejected"]) == (202, 2, 1)
    assert [(error["index"], error["field"]) for error in answered["errors"]] == [(1, "tenant_id")]
    (values,) = guarded.site.written().values()
    assert [json.loads(value)["tenant_id"] for value in values] == [TENANT, TENANT]


async def test_a_key_for_all_stamps_nothing_and_every_event_names_its_tenant(guarded: Guarded) -> None:
    secret = guarded.secrets[None, "ingest"]
    for path, event in EVENTS.items():
        answer = await guarded.ask("POST", path, secret, json=event)
        assert (answer.status, (await answer.json())["field"]) == (400, "tenant_id")
        assert (await guarded.ask("POST", path, secret, json={**event, "tenant_id": OTHER})).status == 202


HEADERS = [
    ({"Authorization": "Bearer {}"}, 200),
    ({"Authorization": "bearer {}"}, 200),
    ({"Authorization": "BEARER   {} "}, 200),
    ({"X-API-Key": "{}"}, 200),
    ({"X-API-Key": " {} "}, 200),
    ({"Authorization": "Basic dXNlcjpwdw==", "X-API-Key": "{}"}, 200),
    ({"Authorization": "{}"}, 401),
    ({"Authorization": "Bearer"}, 401),
    ({"Authorization": "Token {}"}, 401),
    ({"Authorization": "Bearer {}x"}, 401),
    ({"Authorization": "Bearer Bearer {}"}, 401),
    ({"Authorization": "Bearer \xff\xfe"}, 401),
    ({"Cookie": "key={}"}, 401),
]


@pytest.mark.parametrize(("headers", "status"), HEADERS, ids=[str(headers) for headers, _ in HEADERS])
async def test_where_a_key_is_looked_for(guarded: Guarded, headers: dict[str, str], status: int) -> None:
    secret = guarded.secrets[TENANT, "read"]
    sent = {name: value.replace("{}", secret) for name, value in headers.items()}
    assert (await guarded.site.http.get("/v1/metrics", headers=sent)).status == status


async def test_a_key_in_the_query_is_none(guarded: Guarded) -> None:
    secret = guarded.secrets[TENANT, "read"]
    assert (await guarded.site.http.get("/v1/metrics", params={"key": secret, "api_key": secret})).status == 401


async def test_a_revoked_key_opens_nothing_after_the_next_look(guarded: Guarded) -> None:
    secret = guarded.secrets[TENANT, "read"]
    assert (await guarded.ask("GET", "/v1/metrics", secret)).status == 200
    guarded.known = [key for key in guarded.known if key.sha256 != sha256_of(secret)]
    await guarded.keys.refresh()
    assert (await guarded.ask("GET", "/v1/metrics", secret)).status == 401


async def test_a_route_that_nobody_has_thought_about_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ROUTES, ("GET", "/v1/metrics"))
    guarded = Guarded()
    await guarded.keys.refresh()
    async with serving(tmp_path, keys=guarded.keys) as guarded.site:
        for secret in (None, *guarded.secrets.values()):
            assert (await guarded.ask("GET", "/v1/metrics", secret)).status == 403


async def test_paths_and_methods_that_do_not_exist_are_as_without_keys(guarded: Guarded) -> None:
    assert (await guarded.ask("GET", "/nothing", None)).status == 404
    assert (await guarded.ask("PUT", "/v1/metrics", None)).status == 405
    assert (await guarded.ask("OPTIONS", "/v1/metrics", None)).status == 204


async def test_before_the_first_copy_nobody_is_let_in(tmp_path: Path) -> None:
    async with serving(tmp_path, keys=Guarded().keys) as site:
        answer = await site.http.get("/v1/metrics", headers={"X-API-Key": new_secret()})
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        assert (await site.http.get("/v1/metrics")).status == 401
        assert (await site.http.get("/health")).status == 200


async def test_without_keys_everybody_may_ask_everything(tmp_path: Path, store: PostgresStore) -> None:
    await store.write([metric(tenant_id=tenant) for tenant in (TENANT, OTHER)], [])
    async with serving(tmp_path, pool=store.pool) as site:
        answer = await site.http.get("/v1/metrics", headers={"Authorization": "Bearer x"})
        assert len((await answer.json())["metrics"]) == 2
        body = {**CALL, "tenant_id": OTHER}
        assert (await site.http.post("/v1/llm/call", json=body)).status == 202
        assert (await site.http.post("/v1/llm/response", json=EVENTS["/v1/llm/response"])).status == 202


async def test_no_secret_is_logged_answered_or_measured(guarded: Guarded) -> None:
    secrets = [*guarded.secrets.values(), guarded.revoked, new_secret()]
    said = []
    with capture_logs() as logged:
        for secret in secrets:
            for method, path in CLOSED:
                answer = await guarded.ask(method, path, secret, data=b"x")
                endless = path in STREAMS and answer.ok
                said.append(("" if endless else await answer.text()) + str(answer.headers))
                answer.close()
    measured = await (await guarded.ask("GET", "/metrics", guarded.secrets[None, "read"])).text()
    everything = "".join(said) + json.dumps(logged, default=repr) + measured + repr(guarded.known)
    assert [secret for secret in secrets if secret in everything] == []


# -- rate limits -----------------------------------------------------------------------------------------------------


async def test_too_many_events_are_refused_whole_and_told_when_to_come_again(tmp_path: Path) -> None:
    now = 0.0
    lines = [json.dumps({**CALL, "type": "call", "tenant_id": TENANT, "request_id": f"r-{n}"}) for n in range(15)]
    rejected = {"kind": "unknown", "outcome": "rejected"}
    before = counted("streamlens_events_total", **rejected)
    async with serving(tmp_path, rate_limit=RateLimit(2.0, lambda: now)) as site:

        async def sent(count: int) -> tuple[int, str | None]:
            answer = await site.http.post("/v1/llm/events", data="\n".join(lines[:count]))
            return answer.status, answer.headers.get("Retry-After")

        assert await sent(15) == (202, None)
        written = site.written()
        assert await sent(10) == (429, "3")
        assert site.written() == written
        assert await sent(5) == (202, None)
        one = await site.http.post("/v1/llm/call", json={**CALL, "tenant_id": TENANT})
        assert (one.status, one.headers["Retry-After"], one.content_type) == (429, "1", "application/problem+json")
        assert (await site.http.post("/v1/llm/call", json={**CALL, "tenant_id": OTHER})).status == 202
        assert (await site.http.get("/health")).status == 200
        now = 10.0
        assert await sent(15) == (202, None)
    assert counted("streamlens_events_total", **rejected) == before


async def test_a_tenants_bad_events_count_too(tmp_path: Path) -> None:
    guarded = Guarded()
    await guarded.keys.refresh()
    body = b"\n".join([json.dumps({**CALL, "type": "call"}).encode(), *[b'{"type": "call", "bad": true}'] * 19])
    async with serving(tmp_path, keys=guarded.keys, rate_limit=RateLimit(2.0, lambda: 0.0)) as guarded.site:
        secret = guarded.secrets[TENANT, "ingest"]
        assert (await guarded.ask("POST", "/v1/llm/events", secret, data=body)).status == 202
        assert (await guarded.ask("POST", "/v1/llm/call", secret, json=CALL)).status == 429
