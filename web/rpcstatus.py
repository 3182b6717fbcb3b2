"""Errors of OTLP: a `google.rpc.Status` in the content type of its request, whatever part of us refuses it."""

from aiohttp import web

from streamlens.otlp.messages import JSON, PROTOBUF, SIGNALS, status
from web.problem import Problem

TYPES = frozenset((PROTOBUF, JSON))
_PATHS = frozenset(signal.path for signal in SIGNALS)
_CODES = {400: 3, 401: 16, 403: 7, 408: 4, 413: 8, 415: 3, 503: 14}
"""Of gRPC, by HTTP status: invalid argument, unauthenticated, and so on; others are internal errors."""
_INTERNAL = 13


def refused(request: web.Request, problem: Problem) -> web.Response:
    """The answer to a request that ends with `problem`, in the form that its sender expects."""
    if request.method != "POST" or request.path not in _PATHS or request.content_type not in TYPES:
        return problem.response()
    # Exporters come again after either; with 503 those do too that know nothing of rate limits.
    code = 503 if problem.status == 429 else problem.status
    detail = f"{problem.field}: {problem.detail}" if problem.field else problem.detail
    body = status(request.content_type, _CODES.get(code, _INTERNAL), detail)
    return web.Response(status=code, body=body, content_type=request.content_type, headers=dict(problem.headers))
