"""What the halves of a call tell that only a call that is kept whole needs: texts, versions, metadata.

Prompt and response are there only where content is captured, and then redacted and cut.
"""

from functools import lru_cache

import msgspec

from streamlens.events import ERROR_CLASSES, Call, Request, Response
from streamlens.redact import Redaction

CONTENT_BYTES = 16 << 10
ERROR_BYTES = 4 << 10
CUT = "…[truncated]"
"""Ends a text of which not all is there."""
_SLACK = 1 << 10
"""So much more is redacted, so that what a cut would take apart is found whole."""


class Asked(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Of a request."""

    stream: bool | None = None
    metadata: bytes | None = None
    """As JSON, whose integers may have any size."""
    experiment: str | None = None
    variant: str | None = None
    prompt_version: str | None = None
    model_version: str | None = None
    region: str | None = None
    client_app: str | None = None
    client_os: str | None = None
    prompt: str | None = None


class Answered(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Of a response. `error_type` only where it is none of the classes."""

    finish_reason: str | None = None
    error: str | None = None
    error_type: str | None = None
    response: str | None = None


_finished = lru_cache(256)(Answered)
"""What most responses tell; all halves that tell the same share it."""


class Details:
    """Finds them; an event that tells none of it costs a look at its fields."""

    def __init__(self, redaction: Redaction | None = None, *, captures: bool = False) -> None:
        self._redaction = redaction or Redaction()
        self.captures = captures

    def of_request(self, event: Request | Call) -> Asked | None:
        if not (
            event.metadata
            or event.experiment
            or event.prompt_version
            or event.model_version
            or event.region
            or event.client
            or event.stream is not None
            or (self.captures and event.prompt is not None)
        ):
            return None
        experiment, client, metadata = event.experiment, event.client, event.metadata
        return Asked(
            event.stream,
            msgspec.json.encode(metadata) if metadata else None,
            experiment.name if experiment else None,
            experiment.variant if experiment else None,
            event.prompt_version or None,
            event.model_version or None,
            event.region or None,
            client.app if client else None,
            client.os if client else None,
            self._content(event.prompt),
        )

    def of_response(self, event: Response | Call) -> Answered | None:
        if not (event.error or event.error_type or (self.captures and event.response is not None)):
            return _finished(event.finish_reason) if event.finish_reason else None
        return Answered(
            event.finish_reason or None,
            self._text(event.error, ERROR_BYTES) if event.error else None,
            event.error_type if event.error_type and event.error_type not in ERROR_CLASSES else None,
            self._content(event.response),
        )

    def _content(self, value: object) -> str | None:
        """A text as it is, messages and the like as JSON; nothing unless content is captured."""
        if value is None or not self.captures:
            return None
        if isinstance(value, str):
            return self._text(value, CONTENT_BYTES)
        try:
            text = msgspec.json.encode(value).decode()
        except RecursionError:  # it was just about read, a few calls further up
            return CUT
        return self._text(text, CONTENT_BYTES, json=True)

    def _text(self, text: str, limit: int, *, json: bool = False) -> str:
        """Redacted, at most `limit` bytes in UTF-8 and the mark of a cut, and without NUL, which PostgreSQL refuses."""
        raw = text.replace("\0", "\ufffd").encode()
        whole = len(raw) <= limit + _SLACK
        redact = self._redaction.of_json if json else self._redaction.of
        raw = redact(raw if whole else raw[: limit + _SLACK], cut=not whole)
        if not whole:
            raw = raw[:-_SLACK]  # there may be a secret of which the rest was cut off
        if whole and len(raw) <= limit:
            return raw.decode()
        return raw[:limit].decode(errors="ignore") + CUT
