"""The web driver of StreamLens: Faust's aiohttp driver with our limits, errors, headers and measurements.

Faust finds it by the URL scheme `streamlens://`. Views stay Faust views; every error that leaves one, and every path or
method that none takes, is answered as a problem (`web.problem`). What each request needs is done around aiohttp's
application, without middlewares, and views are called without Faust's dispatch: every single event pays for both.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache, partial
from time import perf_counter
from typing import Any, ClassVar

import structlog
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from faust.web.drivers import aiohttp as faust_aiohttp

from streamlens.errors import BadEvent, Unavailable
from streamlens.metrics import HTTP_REQUESTS, HTTP_SECONDS
from web.access import Need, admit, need_of
from web.problem import Problem
from web.rpcstatus import refused
from web.services import current

log = structlog.get_logger()

SHUTDOWN_TIMEOUT_S = 2
"""How long open connections may hold up the end; Faust's 60 s would outlast every supervisor's patience."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "Server": "StreamLens",
    "X-Content-Type-Options": "nosniff",
}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Web(faust_aiohttp.Web):
    """Serves the views of one Faust app. None of Faust's own pages: they tell table data and settings to anyone."""

    default_blueprints: ClassVar[Any] = ()
    production_blueprints: ClassVar[Any] = ()
    debug_blueprints: ClassVar[Any] = ()
    optional_blueprints: ClassVar[Any] = ()

    def __init__(self, app: Any, **kwargs: Any) -> None:
        super().__init__(app, **kwargs)
        self.web_app.on_response_prepare.append(_add_headers)
        self.web_app.on_shutdown.append(_end_streams)
        # Bodies arrive as sent: `web.body` decompresses them, so that a bad one is an ordinary problem.
        self._runner = _Runner(
            self.web_app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S, auto_decompress=False
        )

    def route(self, pattern: str, handler: Any, cors_options: Any = None) -> None:
        """Add a view for the methods that it has. Faust would add HEAD to views without a GET too."""
        methods = handler.get_methods()
        for method in methods if "GET" in methods else methods - {"HEAD"}:
            self.web_app.router.add_route(
                method, pattern, _called(handler.methods[method.lower()], need_of(method, pattern))
            )


def _called(method: Callable[..., Awaitable[web.StreamResponse]], need: Need | None) -> _Handler:
    """Calls a view's method as Faust does, less its sensors, which nobody reads, for those who may."""

    async def view(request: web.Request) -> web.StreamResponse:
        if request.method == "POST" and request.headers.get("Sec-Fetch-Site") == "cross-site":
            # A form or script of any site that the user visits could reach a server on this host.
            raise Problem(403, "pages of other sites may not send here")
        admit(request, need)
        return await method(request, **request.match_info)

    return view


class _Protocol(RequestHandler):
    """Answers what is not HTTP at all, and what breaks outside of the middlewares, as a problem too."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Called by aiohttp instead of a handler. The connection ends with the answer."""
        if status >= 500:
            log.error("web.failed", method=request.method, path=request.path, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of another answer is already sent")
        _answers("other", status).inc()
        response = Problem(status, "an internal error" if status >= 500 else "not valid HTTP").response()
        response.headers.update(_HEADERS)
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class _Runner(web.AppRunner):
    __slots__ = ()

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = _Server  # aiohttp has no setting for the class of its protocol
        server.request_handler = partial(_measured, server.request_handler)
        return server


async def _measured(handler: _Handler, request: web.Request) -> web.StreamResponse:
    start = perf_counter()
    response = await _answered(handler, request)
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "other"
    _seconds(route).observe(perf_counter() - start)
    _answers(route, response.status).inc()
    return response


# Finding a child by its labels costs more than counting.
_seconds = cache(HTTP_SECONDS.labels)
_answers = cache(HTTP_REQUESTS.labels)


async def _answered(handler: _Handler, request: web.Request) -> web.StreamResponse:
    try:
        return await handler(request)
    except Problem as problem:
        return refused(request, problem)
    except web.HTTPMethodNotAllowed as error:
        if request.method == "OPTIONS":
            return web.Response(status=204, headers={"Allow": ", ".join(sorted({*error.allowed_methods, "OPTIONS"}))})
        return Problem.of(error).response()
    except web.HTTPException as error:
        return refused(request, Problem.of(error)) if error.status >= 400 else error
    except (BadEvent, Unavailable) as error:
        return refused(request, Problem.of(error))
    except Exception:
        log.exception("web.failed", method=request.method, path=request.path)
        return refused(request, Problem(500, "an internal error; the log of the server has the details"))


async def _end_streams(_: web.Application) -> None:
    """At the end, when nobody can connect any more: who listens would come back at once."""
    with suppress(Unavailable):
        current().live.close()


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
