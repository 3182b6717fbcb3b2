"""The page for people, at `/`, and its files. No build step and nothing from other hosts."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web
from faust.web import View

from streamlens.app import app
from web.contract import declares
from web.problem import Problem

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class File(NamedTuple):
    """A body, its content type and its entity tag."""

    body: bytes
    content_type: str
    tag: str

    @classmethod
    def of(cls, body: bytes, content_type: str) -> "File":
        return cls(body, content_type, f'"{hashlib.sha256(body).hexdigest()[:16]}"')

    def answer(self, request: web.Request) -> web.Response:
        """All of it, or that it is still what the browser has."""
        headers = {"Cache-Control": "no-cache", "ETag": self.tag}
        if request.headers.get("If-None-Match") == self.tag:
            return web.Response(status=304, headers=headers)
        return web.Response(body=self.body, content_type=self.content_type, charset="utf-8", headers=headers)


def _load(folder: Path) -> dict[str, File]:
    """By file name; read once, they are small."""
    return {
        path.name: File.of(path.read_bytes(), _TYPES[path.suffix]) for path in folder.iterdir() if path.suffix in _TYPES
    }


_files = _load(Path(__file__).parent / "static")


@app.page("/")
class Page(View):
    """What happens now, as a table."""

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
