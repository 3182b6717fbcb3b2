"""Errors of OTLP: a `google.rpc.Status`, over HTTP in the content type of the request, over gRPC in the trailers."""

from aiohttp import web
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration

from streamlens.otlp.messages import JSON, PROTOBUF, SIGNALS, status
from web.problem import Problem

TYPES = frozenset((PROTOBUF, JSON))
_PATHS = frozenset(signal.path for signal in SIGNALS)
_CODES = {400: 3, 401: 16, 403: 7, 408: 4, 413: 8, 415: 3, 429: 14, 503: 14}
"""Of gRPC, by HTTP status: invalid argument, unauthenticated, and so on; others are internal errors. 429 is 14, not 8:
some exporters do not come again after that."""
_INTERNAL = 13


def code_of(http_status: int) -> int:
    """gRPC's code for an error."""
    return _CODES.get(http_status, _INTERNAL)


def refused(request: web.Request, problem: Problem) -> web.Response:
    """The answer to a request that ends with `problem`, in the form that its sender expects."""
    if request.method != "POST" or request.path not in _PATHS or request.content_type not in TYPES:
        return problem.response()
    # Exporters come again after either; with 503 those do too that know nothing of rate limits.
    code = 503 if problem.status == 429 else problem.status
    body = status(request.content_type, code_of(code), problem.sentence)
    return web.Response(status=code, body=body, content_type=request.content_type, headers=dict(problem.headers))


def trailers(problem: Problem) -> tuple[tuple[str, bytes], ...]:
    """What gRPC's status has no room for: when to come again, as OTLP has it, and as Python's exporter looks for it."""
    after_s = problem.headers.get("Retry-After")
    if after_s is None:
        return ()
    delay = Duration(seconds=int(after_s)).SerializeToString()
    retry = b"\x0a%c%b" % (len(delay), delay)
    detail = Any(type_url="type.googleapis.com/google.rpc.RetryInfo", value=retry).SerializeToString()
    whole = status(PROTOBUF, code_of(problem.status), problem.sentence) + b"\x1a%c%b" % (len(detail), detail)
    return ("grpc-status-details-bin", whole), ("google.rpc.retryinfo-bin", retry)
