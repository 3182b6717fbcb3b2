"""A call while it is made, measured; and the class of the error that has ended it."""

import time
from collections.abc import Callable
from typing import Any, Self

MAX_ERROR_CHARACTERS = 1000


class Timed:
    """`with client.timed(…) as call:` measures the block and records it at its end, also when it raises."""

    def __init__(self, record: Callable[[dict[str, Any]], None], fields: dict[str, Any]) -> None:
        self._record = record
        self._fields = fields
        self._began_s = time.perf_counter()

    @property
    def request_id(self) -> str:
        """For evaluations and lines of logs that belong to the call."""
        return str(self._fields["request_id"])

    def set(self, **fields: Any) -> None:
        """Add fields of a call: tokens, `finish_reason`, `error_type`, …"""
        self._fields |= fields

    def first_token(self) -> None:
        """The first token is here; calling it again changes nothing."""
        self._fields.setdefault("ttft_ms", self._elapsed_ms())

    def __enter__(self) -> Self:
        self._fields.setdefault("timestamp", time.time_ns() // 1_000_000)
        self._began_s = time.perf_counter()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        raised = {} if error is None else _raised(error)
        self._record({"latency_ms": self._elapsed_ms(), **raised, **self._fields})

    def _elapsed_ms(self) -> float:
        return round((time.perf_counter() - self._began_s) * 1000, 3)


def error_type(error: BaseException) -> str:
    """One of the API's classes: by the exception's type, and by the `status_code` that it has, or its `response`, as
    those of HTTP and LLM libraries do."""
    if not isinstance(error, Exception):
        return "cancelled"
    owners = (error, getattr(error, "response", None))
    codes = (getattr(owner, "status_code", None) for owner in owners)
    status = next((code for code in codes if isinstance(code, int)), 0)
    if isinstance(error, TimeoutError) or status in (408, 504) or "timeout" in type(error).__name__.lower():
        return "timeout"
    if status == 429:
        return "rate_limit"
    if status >= 500:
        return "server_error"
    return "client_error" if status >= 400 else "other"


def _raised(error: BaseException) -> dict[str, str]:
    try:
        return {"error": f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARACTERS], "error_type": error_type(error)}
    except Exception:  # whatever its own methods raise
        return {"error": type(error).__name__, "error_type": "other"}
