"""Who may ask what: the scope that each route needs, in one table, and `admit`, called once before each view.

A route that is not in the table opens to no key, so a new one is closed until somebody has thought about it.
"""

from collections.abc import Mapping
from typing import NamedTuple

from aiohttp import web

from streamlens.keys import ANYONE, SCOPES, Key
from web.problem import Problem
from web.services import current

INGEST, READ, ADMIN = SCOPES


class Need(NamedTuple):
    """What a key must have for a route. Without a scope the route needs no key at all."""

    scope: str | None
    all_tenants: bool = False


OPEN = Need(None)
ROUTES: dict[tuple[str, str], Need] = {
    ("GET", "/"): OPEN,
    ("GET", "/static/{name}"): OPEN,
    ("GET", "/health"): OPEN,
    ("GET", "/ready"): OPEN,
    ("GET", "/openapi.json"): OPEN,
    ("GET", "/docs"): OPEN,
    ("GET", "/metrics"): Need(READ, all_tenants=True),  # it tells of the whole process
    ("POST", "/v1/llm/request"): Need(INGEST),
    ("POST", "/v1/llm/response"): Need(INGEST),
    ("POST", "/v1/llm/call"): Need(INGEST),
    ("POST", "/v1/llm/events"): Need(INGEST),
    ("POST", "/v1/events"): Need(INGEST),
    ("POST", "/v1/services/events"): Need(INGEST),
    ("POST", "/v1/evaluations"): Need(INGEST),
    ("POST", "/api/v1/ingest/llm"): Need(INGEST),
    ("POST", "/api/v1/ingest/llm/bulk"): Need(INGEST),
    ("POST", "/api/v1/ingest/app"): Need(INGEST),
    ("POST", "/api/v1/ingest/metrics"): Need(INGEST),
    ("POST", "/v1/traces"): Need(INGEST),
    ("POST", "/v1/logs"): Need(INGEST),
    ("POST", "/v1/metrics"): Need(INGEST),
    ("GET", "/v1/metrics"): Need(READ),
    ("GET", "/v1/metrics/minute"): Need(READ),
    ("GET", "/v1/errors/top"): Need(READ),
    ("GET", "/v1/evaluations"): Need(READ),
    ("GET", "/v1/tallies"): Need(READ),
    ("GET", "/api/v1/status"): Need(READ),
    ("GET", "/api/v1/analytics/dashboard"): Need(READ),
    ("GET", "/api/v1/analytics/requests/timeseries"): Need(READ),
    ("GET", "/api/v1/analytics/providers"): Need(READ),
    ("GET", "/api/v1/analytics/errors"): Need(READ),
    ("GET", "/api/v1/analytics/logs/recent"): Need(READ),
    ("GET", "/v1/experiments"): Need(READ),
    ("GET", "/v1/experiments/{experiment}"): Need(READ),
    ("GET", "/v1/ledger"): Need(READ),
    ("GET", "/v1/live"): Need(READ),
    ("GET", "/v1/tenants"): Need(READ),
    ("GET", "/v1/series"): Need(READ),
    ("GET", "/v1/calls"): Need(READ),
    ("GET", "/v1/calls/{request_id}"): Need(READ),
    ("GET", "/v1/retention"): Need(READ),
    ("GET", "/v1/retention/d1"): Need(READ),
    ("GET", "/v1/funnel"): Need(READ),
    ("GET", "/v1/sessions"): Need(READ),
    ("GET", "/v1/sessions/{session_id}"): Need(READ),
    ("GET", "/v1/dlq"): Need(READ),
    ("GET", "/v1/dlq/{topic}/{partition}/{offset}"): Need(READ),
    ("POST", "/v1/dlq/replay"): Need(ADMIN),
    ("GET", "/api/v1/projects"): Need(ADMIN),
    ("POST", "/api/v1/projects"): Need(ADMIN),
    ("DELETE", "/api/v1/projects/{id}"): Need(ADMIN),
}
"""By method (HEAD is GET) and pattern of the path."""

_KEY = web.RequestKey("key", Key)
_ASK = {"WWW-Authenticate": "Bearer"}


def need_of(method: str, pattern: str) -> Need | None:
    """What a route needs; None for one that is not in the table."""
    return ROUTES.get(("GET" if method == "HEAD" else method, pattern))


def admit(request: web.Request, need: Need | None) -> None:
    """Find out with whose key a request comes. Raises `Problem` 401 and 403, and `Unavailable`."""
    if need is not OPEN:
        request[_KEY] = key_for(need, request.headers)


def key_for(need: Need | None, headers: Mapping[str, str]) -> Key:
    """The key that `headers` (or gRPC's metadata, which are in lower case) have, if it may do what needs `need`. Raises
    as `admit` does."""
    keys = current().keys
    if keys is None:
        return ANYONE
    if need is None:
        raise Problem(403, "no key opens this route")
    secret = _secret(headers)
    if not secret:
        raise Problem(401, "this needs an API key: Authorization: Bearer sl_…, or X-API-Key", headers=_ASK)
    key = keys.find(secret)
    if key is None:
        raise Problem(401, "there is no such API key, or it was revoked", headers=_ASK)
    if need.scope not in key.scopes:
        raise Problem(403, f"this needs a key with the scope {need.scope}")
    if need.all_tenants and key.tenant_id is not None:
        raise Problem(403, "this needs a key for all tenants")
    return key


def key_of(request: web.Request) -> Key:
    """The key of a request that was admitted. A route that is open to all has none: `KeyError`."""
    return request[_KEY]


def _secret(headers: Mapping[str, str]) -> str:
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return secret.strip()
    return headers.get("x-api-key", "").strip()
