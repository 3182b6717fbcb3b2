"""One body over HTTP, and what its answer means. Nothing is repeated here, and nothing raised."""

import gzip
import http.client
import json
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from .buffer import Answer

USER_AGENT = "streamlens-client/1"
LONGEST_RETRY_AFTER_S = 300.0

_RETRIED = frozenset((408, 425, 429, 502, 503, 504))
"""A 500 is not: it is a bug that the same body would find again, and all others would wait behind it."""
_MAX_ANSWER_BYTES = 1 << 20


class _AnyStatus(urllib.request.HTTPErrorProcessor):
    """No status is an exception, and no redirect is followed: it would make a GET of the POST, and show it the key."""

    def http_response(self, request: Any, response: Any) -> Any:
        return response

    https_response = http_response


class Post:
    """A server's address and key. Raises `ValueError` when they can't be that, and does not show them."""

    def __init__(self, url: str, key: str | None, timeout_s: float) -> None:
        """`timeout_s`: for connecting, and for each silence of the server."""
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        if not whole or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("the url has to be http[s]://host[:port][/path]")
        if key is not None and not (key.strip() and key.isascii() and key.isprintable()):
            raise ValueError("the key can't be a key")
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip", "User-Agent": USER_AGENT}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._open = urllib.request.build_opener(_AnyStatus).open

    def send(self, path: str, body: bytes, events: int) -> Answer:
        """Send a `packed` body of so many events."""
        request = urllib.request.Request(self.url + path, body, self._headers)
        try:
            with self._open(request, timeout=self._timeout_s) as answer:
                status, headers, content = answer.status, answer.headers, answer.read(_MAX_ANSWER_BYTES)
                if answer.length and len(content) < _MAX_ANSWER_BYTES:  # `read` with a limit does not say so
                    raise http.client.IncompleteRead(content, answer.length)
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, 0, [str(error) or type(error).__name__], wait_s=0.0)
        if status in _RETRIED:
            return Answer(0, 0, [f"HTTP {status}"], wait_s=_seconds(headers.get("Retry-After", "")))
        return _verdict(status, content, events)


def packed(lines: Sequence[bytes]) -> bytes:
    """A body with these events."""
    return gzip.compress(b"\n".join(lines), 6)


def _verdict(status: int, content: bytes, events: int) -> Answer:
    try:
        told = json.loads(content)
        accepted = max(0, min(int(told["accepted"]), events))
        reasons = [f"{each.get('field')}: {each.get('detail')}".removeprefix(": ") for each in told.get("errors", ())]
    except (ValueError, LookupError, TypeError, AttributeError):  # a problem of the whole body, or not a StreamLens
        return Answer(0, events, [f"HTTP {status}: {content[:300].decode(errors='replace')}"])
    return Answer(accepted, events - accepted, reasons)


def _seconds(retry_after: str) -> float:
    """Of the header; 0 without it, and for a date, which our servers do not send."""
    return min(float(retry_after), LONGEST_RETRY_AFTER_S) if retry_after.isdecimal() else 0.0
