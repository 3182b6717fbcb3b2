"""The page for people, at `/`, and its files. No build step and nothing from other hosts."""

import hashlib
from pathlib import Path
from typing import Any

from aiohttp import web
from faust.web import View

from streamlens.app import app
from web.problem import Problem

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def _load(folder: Path) -> dict[str, tuple[bytes, str, str]]:
    """Body, content type and entity tag by file name; read once, they are small."""
    files = {}
    for path in folder.iterdir():
        if path.suffix in _TYPES:
            body = path.read_bytes()
            files[path.name] = (body, _TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:16]}"')
    return files


_files = _load(Path(__file__).parent / "static")


@app.page("/")
class Page(View):
    """What happens now, as a table."""

    async def get(self, request: web.Request, **_: Any) -> web.Response:
        return _file(request, "index.html")


@app.page("/static/{name}")
class Static(View):
    """A file of the page."""

    async def get(self, request: web.Request, name: str, **_: Any) -> web.Response:
        return _file(request, name)


def _file(request: web.Request, name: str) -> web.Response:
    if name not in _files:
        raise Problem(404, "there is no such file")
    body, content_type, tag = _files[name]
    headers = {"Cache-Control": "no-cache", "ETag": tag}
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=content_type, charset="utf-8", headers=headers)
