"""The page for people, at `/`, and its files. No build step and nothing from other hosts."""

import gzip
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web
from faust.web import View

from streamlens.app import app
from web.contract import declares
from web.problem import Problem

_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}


class File(NamedTuple):
    """A body, the same compressed, its content type, and what its entity tags begin with."""

    body: bytes
    compressed: bytes
    content_type: str
    digest: str

    @classmethod
    def of(cls, body: bytes, content_type: str) -> "File":
        return cls(body, gzip.compress(body, mtime=0), content_type, hashlib.sha256(body).hexdigest()[:16])

    def answer(self, request: web.Request) -> web.Response:
        """All of it, compressed for those who take that, or that it is still what the browser has."""
        compressed = _takes_gzip(request.headers.get("Accept-Encoding", ""))
        tag = f'"{self.digest}-gzip"' if compressed else f'"{self.digest}"'
        headers = {"Cache-Control": "no-cache", "ETag": tag, "Vary": "Accept-Encoding"}
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        if compressed:
            headers["Content-Encoding"] = "gzip"
        body = self.compressed if compressed else self.body
        return web.Response(body=body, content_type=self.content_type, charset="utf-8", headers=headers)


def _load(folder: Path) -> dict[str, File]:
    """By file name; read and compressed once, they are small."""
    return {
        path.name: File.of(path.read_bytes(), _TYPES[path.suffix]) for path in folder.iterdir() if path.suffix in _TYPES
    }


def _takes_gzip(accepted: str) -> bool:
    """Whether `Accept-Encoding` names gzip, and not to forbid it (RFC 9110, 12.5.3)."""
    for choice in accepted.lower().split(","):
        name, _, weight = choice.partition(";")
        if name.strip() == "gzip":
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


_files = _load(Path(__file__).parent / "static")


@app.page("/")
class Page(View):
    """What happens now: its state is in the query, which only the page's own code reads."""

    @declares(kinds=("text/html",), others={304: None})
    async def get(self, request: web.Request, **_: Any) -> web.Response:
        return _file(request, "index.html")


@app.page("/static/{name}")
class Static(View):
    """A file of the page."""

    @declares(kinds=tuple(_TYPES.values()), others={304: None})
    async def get(self, request: web.Request, name: str, **_: Any) -> web.Response:
        return _file(request, name)


def _file(request: web.Request, name: str) -> web.Response:
    if name not in _files:
        raise Problem(404, "there is no such file")
    return _files[name].answer(request)
