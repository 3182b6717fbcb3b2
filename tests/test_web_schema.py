"""Every route asked as its description says, and as it says not: nothing breaks, and answers are what is described."""

import asyncio
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from guarded_site import Guarded, guarded
from streamlens.app import app
from web.openapi import document
from web.routes import routes

__all__ = ["guarded"]

ROUTES = {f"{route.method} {route.pattern}": route for route in routes(app)}
OPERATIONS = [
    operation
    for operation in (
        found.ok() for found in schemathesis.openapi.from_dict(document([*ROUTES.values()])).get_all_operations()
    )
    if "text/event-stream" not in ROUTES[operation.label].contract.kinds
]
"""All but those whose answers have no end."""
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
BOUNDED = settings(
    max_examples=10,
    derandomize=True,
    database=None,
    deadline=5_000,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: str(operation.label))
async def test_a_route_is_what_its_description_says(guarded: Guarded, operation: Any) -> None:
    route = ROUTES[operation.label]
    headers = {"X-API-Key": guarded.secrets[None, route.need.scope]} if route.need.scope else {}
    options = {"base_url": f"http://127.0.0.1:{guarded.site.port}", "headers": headers, "timeout": 10}

    def ask(case: Case) -> None:
        assume("" not in (case.query or {}).values())  # counts as not given
        case.call_and_validate(checks=CHECKS, **options)

    modes = [GenerationMode.POSITIVE]
    if route.contract.query is not None or (route.body is not None and route.body.event is not None):
        modes.append(GenerationMode.NEGATIVE)
    for mode in modes:
        await asyncio.to_thread(BOUNDED(given(case=operation.as_strategy(generation_mode=mode))(ask)))
