"""The reference: all that is served is declared, described and written down, and its examples are accepted."""

import asyncio
import json
import re
import time
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from faust.web import View
from openapi_spec_validator import validate

from guarded_site import Guarded, guarded
from streamlens.app import app
from streamlens.postgres.store import PostgresStore
from web.access import OPEN, ROUTES
from web.contract import Contract
from web.openapi import document
from web.routes import Route, _route, routes
from web_server import serving

__all__ = ["guarded"]

API = (Path(__file__).parents[1] / "docs/api.md").read_text("utf-8")
ALL = list(routes(app))
DOCUMENT = document(ALL)
OPERATIONS = [
    (method.upper(), path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


def test_every_route_is_declared_and_described() -> None:
    assert {(method, path) for method, path, _ in OPERATIONS} == set(ROUTES)
    assert [f"{method} {path}" for method, path, told in OPERATIONS if not told["summary"].endswith(".")] == []
    assert len({told["operationId"] for _, _, told in OPERATIONS}) == len(OPERATIONS)


def test_a_route_that_is_not_declared_is_told_what_it_lacks() -> None:
    class Bare(View):
        async def get(self) -> None: ...

    with pytest.raises(LookupError, match=r"GET /v1/metrics says not what .* `asks` or `declares` .* on Bare\.get"):
        _route("GET", "/v1/metrics", Bare)
    Bare.get.contract = Contract()  # type: ignore[attr-defined]
    with pytest.raises(LookupError, match="GET /v1/bare has no line in ROUTES"):
        _route("GET", "/v1/bare", Bare)
    assert _route("GET", "/v1/metrics", Bare).contract == Contract()


def test_the_document_is_openapi() -> None:
    validate(DOCUMENT)


@pytest.mark.parametrize("route", ALL, ids=[f"{route.method} {route.pattern}" for route in ALL])
def test_keys_are_asked_for_as_the_table_of_routes_says(route: Route) -> None:
    told = DOCUMENT["paths"][route.pattern][route.method.lower()]
    scope = ROUTES[route.method, route.pattern].scope
    assert told["security"] == ([{"bearer": [scope]}, {"key": [scope]}] if scope else [])
    assert {"401", "403"} <= told["responses"].keys() or route.need is OPEN


def parameters_of(operation: dict[str, Any], place: str = "query") -> set[str]:
    return {each["name"] for each in operation.get("parameters", ()) if each["in"] == place}


ASKED = [(path, told) for method, path, told in OPERATIONS if method == "GET" and path.startswith(("/v1/", "/api/"))]


@pytest.mark.parametrize(("path", "operation"), ASKED, ids=[path for path, _ in ASKED])
def test_the_page_on_the_contract_has_the_same_parameters(path: str, operation: dict[str, Any]) -> None:
    rows = [line.split("|")[2] for line in API.splitlines() if line.startswith(f"| `GET {path}` |")]
    assert len(rows) == 1, f"docs/api.md needs one row of a table: `GET {path}` | its parameters | its answer"
    (said,) = rows
    while (without := re.sub(r"\([^()]*\)", "", said)) != said:
        said = without
    assert set(re.findall(r"`(\w+)`", said)) == parameters_of(operation) - {"format"}


# -- as it is served --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
async def test_it_is_sent_once(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path) as site:
        first = await site.http.get(path)
        again = await site.http.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (first.status, again.status, await again.read()) == (200, 304, b"")
        assert first.headers["Content-Security-Policy"].startswith("default-src")


async def test_the_document_is_the_one_that_is_served(guarded: Guarded) -> None:
    answer = await guarded.ask("GET", "/openapi.json", None)
    assert await answer.json() == json.loads(json.dumps(DOCUMENT))


async def test_the_page_has_every_route_parameter_and_field_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        page = await (await site.http.get("/docs")).text()
        linked = re.findall(r'(?:href|src)="(/[^"]*)"', page)
        assert [link for link in linked if (await site.http.get(link)).status != 200] == []
    sections = dict(re.findall(r'(?s)<section id="([^"]+)">(.*?)</section>', page))
    for method, path, operation in OPERATIONS:
        section = sections[operation["operationId"]]
        assert f"{method} <code>{path}</code>" in section
        names = parameters_of(operation) | parameters_of(operation, "path")
        assert [name for name in names if f"<code>{name}</code>" not in section] == []
    for name, schema in DOCUMENT["components"]["schemas"].items():
        fields = schema.get("properties", ())
        assert [field for field in fields if f"<code>{field}</code>" not in sections[name]] == []
    anchors = set(re.findall(r'id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= anchors
    assert re.findall(r"<script|style=|\bon\w+=|//(?!127\.0\.0\.1)\w+\.", page) == []


async def test_its_commands_run_as_they_are(tmp_path: Path, store: PostgresStore) -> None:
    async with serving(tmp_path, pool=store.pool, clock_us=lambda: time.time_ns() // 1000) as site:
        page = await (await site.http.get("/docs")).text()
        commands = [unescape(command) for command in re.findall(r"(?s)<pre>(.*?)</pre>", page)]
        # Not those with a place left open, a file, or an answer without an end.
        whole = [command for command in commands if not re.search(r"/\{\w+\}|@body|-sSN", command)]
        script = "\n".join(f"{command} -w '\\n%{{http_code}}<END>'" for command in whole)
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-euc", script.replace(":8080", f":{site.port}")), stdout=asyncio.subprocess.PIPE
        )
        told, _ = await asyncio.wait_for(shell.communicate(), 60)
    answers = dict(zip(whole, told.decode().split("<END>")[:-1], strict=True))
    assert {command: told for command, told in answers.items() if told[-3] != "2"} == {}
    sent = [json.loads(told[:-3]) for command, told in answers.items() if "-d" in command]
    assert len(sent) == sum(route.method == "POST" and route.contract.answer is not None for route in ALL) - 1
    assert [answer for answer in sent if answer.get("rejected")] == []
