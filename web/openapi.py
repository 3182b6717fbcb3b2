"""The OpenAPI 3.1 document, made from what the routes declare; there is nothing in it that is not in them."""

import re
from collections.abc import Iterator
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec

from streamlens.keys import SCOPES
from web.asked import fields_of
from web.contract import JSON, Body
from web.export import FORMATS
from web.problem import CONTENT_TYPE
from web.routes import Route

Json = dict[str, Any]
_REF = "#/components/schemas/{name}"
_TAGS = dict(zip((*SCOPES, None), ("Sending", "Asking", "Administration", "Process"), strict=True))
"""Of routes, by the scope that they need."""
_ABOUT = """\
Events are sent as JSON, answers are JSON; what is not known is null. Times are RFC 3339, or integer epoch milliseconds
where they are asked for. Errors are problems of RFC 9457 and name the field at fault. Parameters that are not known,
or given twice, are refused; an empty one counts as not given. With `STREAMLENS_AUTH=keys` a key has to have the scope
that is named with a route, and a tenant's key means its tenant. More fields may come; none goes."""
_STATUSES = {
    400: "Something in the body or a parameter is wrong",
    401: "No key, or not a valid one",
    403: "A key without the scope, or another tenant's",
    404: "There is none",
    408: "The body did not arrive in time",
    409: "There is one, or was",
    413: "The body is too large",
    415: "A content type, coding or charset that is not taken",
    429: "Too many events of a tenant; come again",
    503: "Not available now; come again",
}


class ProblemDetails(msgspec.Struct, frozen=True):
    """RFC 9457; `field` where one is at fault."""

    title: str
    status: int
    detail: str
    field: str | msgspec.UnsetType = msgspec.UNSET


def document(routes: list[Route]) -> Json:
    """The description of `routes`."""
    types = [ProblemDetails, *_types(routes)]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    schema_of = dict(zip(map(id, types), schemas, strict=True))
    for schema in components.values():
        schema.pop("additionalProperties", None)  # clients have to live with fields to come
    paths: dict[str, Json] = {}
    for route in routes:
        paths.setdefault(route.pattern, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "StreamLens", "version": version("streamlens"), "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in _TAGS.values()],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _types(routes: list[Route]) -> Iterator[Any]:
    for route in routes:
        for kind in (route.contract.answer, *route.contract.others.values()):
            if kind is not None:
                yield kind
        if route.body is not None and route.body.event is not None:
            yield route.body.event


def _operation(route: Route, schema_of: dict[int, Json]) -> Json:
    summary, _, more = route.says.partition("\n\n")
    scope, body = route.need.scope, route.body
    operation: Json = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.pattern}").strip("_"),
        "tags": [_TAGS[scope]],
        "summary": " ".join(summary.split()),
        "security": [{scheme: [scope]} for scheme in ("bearer", "key")] if scope else [],
    }
    if more:
        operation["description"] = more
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _sent(body, schema_of)}
    operation["responses"] = {str(status): told for status, told in sorted(_responses(route, schema_of).items())}
    return operation


def _parameters(route: Route) -> list[Json]:
    names = [part[1:-1] for part in route.pattern.split("/") if part[:1] == "{"]
    if route.contract.query is None:
        return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    _, components = msgspec.json.schema_components([route.contract.query])
    properties = components[route.contract.query.__name__]["properties"]
    found = []
    for field in fields_of(route.contract.query):
        if field.hidden:
            continue
        schema, description = _given(properties[field.name])
        if field.schema is not None:
            schema = {**field.schema}
        if field.default is not None:
            schema["default"] = list(field.default) if isinstance(field.default, tuple) else field.default
        parameter: Json = {"name": field.name, "in": "path" if field.name in names else "query", "schema": schema}
        if field.required:
            parameter["required"] = True
        if description:
            parameter["description"] = description
        if schema.get("type") == "array":
            parameter |= {"style": "form", "explode": False}
        found.append(parameter)
    if route.contract.rows:
        form = {"type": "string", "enum": list(FORMATS), "default": "json"}
        found.append({"name": "format", "in": "query", "description": "Of the rows; or by `Accept`", "schema": form})
    return sorted(found, key=lambda each: each["in"] != "path")


def _given(schema: Json) -> tuple[Json, str | None]:
    """The schema of a parameter that is given (none can be null), and its description."""
    for each in schema.get("anyOf", ()):
        if each.get("type") != "null":
            schema = schema | each
    return {name: schema[name] for name in schema if name not in ("anyOf", "default", "description")}, schema.get(
        "description"
    )


def _sent(body: Body, schema_of: dict[int, Json]) -> Json:
    if body.event is None:
        return {kind: {} for kind in body.kinds}
    event = schema_of[id(body.event)]
    content: Json = {JSON: {"schema": event}}
    if body.many:
        content[JSON]["schema"] = {"anyOf": [event, {"type": "array", "items": event, "minItems": 1}]}
        lines = {"type": "string", "description": "One event a line"}
        content.update({kind: {"schema": lines} for kind in body.kinds if kind != JSON})
    if body.examples:
        content[JSON]["example"] = body.examples[0] if len(body.examples) == 1 else list(body.examples)
    return content


def _responses(route: Route, schema_of: dict[int, Json]) -> dict[int, Json]:
    contract, body = route.contract, route.body
    told = {} if contract.answer is None else {"schema": schema_of[id(contract.answer)]}
    good: Json = {"description": HTTPStatus(contract.status).phrase, "content": dict.fromkeys(contract.kinds, told)}
    if contract.rows:
        good["content"] |= {kind: {"schema": {"type": "string"}} for kind in FORMATS.values() if kind != JSON}
    problem: Json = {CONTENT_TYPE: {"schema": schema_of[id(ProblemDetails)]}}
    if body is not None and body.event is None:
        problem = {kind: {} for kind in body.kinds}  # a google.rpc.Status
    found = {contract.status: good}
    for status in _failures(route):
        found[status] = {"description": _STATUSES[status], "content": problem}
    for status, kind in contract.others.items():
        found[status] = {"description": _STATUSES.get(status) or HTTPStatus(status).phrase}
        if kind is not None:
            found[status]["content"] = {JSON: {"schema": schema_of[id(kind)]}}
        elif status >= 400:
            found[status]["content"] = problem
    return found


def _failures(route: Route) -> Iterator[int]:
    """The statuses of problems that follow from what a route is."""
    if route.contract.query is not None or route.body is not None:
        yield 400
    if route.need.scope is not None:
        yield from (401, 403, 503)
    if "{" in route.pattern:
        yield 404
    if route.body is not None:
        yield from (408, 413, 415)
        if route.need.scope == "ingest":
            yield 429
