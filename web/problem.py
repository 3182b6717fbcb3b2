"""Errors as HTTP answers: `application/problem+json` (RFC 9457), with `field` where one is at fault."""

from collections.abc import Mapping
from http import HTTPStatus

import orjson
from aiohttp import web

from streamlens.errors import BadEvent, Unavailable
from streamlens.keys import ForeignTenant
from streamlens.ratelimit import RateLimited

CONTENT_TYPE = "application/problem+json"


class Problem(Exception):
    """Ends a request with `status`. `extra` are further members of the body, `headers` further headers."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str = "",
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.headers = headers or {}
        self.extra = extra or {}

    @classmethod
    def of(cls, error: BadEvent | Unavailable | web.HTTPException) -> "Problem":
        """The problem that tells a client of `error`."""
        if isinstance(error, BadEvent):
            return cls(403 if isinstance(error, ForeignTenant) else 400, error.detail, field=error.field)
        if isinstance(error, Unavailable):
            status = 429 if isinstance(error, RateLimited) else 503
            return cls(status, str(error), headers={"Retry-After": str(error.retry_after_s)})
        headers = {name: value for name, value in error.headers.items() if name in ("Allow", "Location")}
        return cls(error.status, _DETAILS.get(error.status, error.reason), headers=headers)

    @property
    def sentence(self) -> str:
        """`detail` with the field before it, for answers that have no place for both."""
        return f"{self.field}: {self.detail}" if self.field else self.detail

    def response(self) -> web.Response:
        """The answer to send."""
        title = HTTPStatus(self.status).phrase
        body: dict[str, object] = {"title": title, "status": self.status, "detail": self.detail}
        if self.field:
            body["field"] = self.field
        body.update(self.extra)
        return web.Response(
            status=self.status, body=orjson.dumps(body), content_type=CONTENT_TYPE, headers=dict(self.headers)
        )


_DETAILS = {
    404: "there is nothing at this path",
    405: "the path does not take this method; the Allow header names those it takes",
    413: "the body is too large",
    500: "an internal error; the log of the server has the details",
}
