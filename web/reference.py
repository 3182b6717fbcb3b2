"""`GET /openapi.json`, and `GET /docs`: the same for people, as one plain page. Both tell nothing of what is stored."""

from functools import cache
from typing import Any

import orjson
from aiohttp import web
from faust.web import View

from streamlens.app import app
from web.contract import JSON, declares
from web.openapi import document
from web.pages import File
from web.referencepage import page
from web.routes import routes


@cache
def _files() -> tuple[File, File]:
    """The document and the page; made when the first one asks, because the routes are known then."""
    made = document(list(routes(app)))
    return File.of(orjson.dumps(made), JSON), File.of(page(made).encode(), "text/html")


@app.page("/openapi.json")
class OpenApi(View):
    """This reference as an OpenAPI 3.1 document."""

    @declares(others={304: None})
    async def get(self, request: web.Request, **_: Any) -> web.Response:
        return _files()[0].answer(request)


@app.page("/docs")
class Reference(View):
    """This reference as a page."""

    @declares(kinds=("text/html",), others={304: None})
    async def get(self, request: web.Request, **_: Any) -> web.Response:
        return _files()[1].answer(request)
