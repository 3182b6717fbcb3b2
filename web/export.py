"""The rows of an answer as CSV or NDJSON, sent in pieces: every question that answers a list can be asked for them.

By `format=`, or else by `Accept`. Columns are the declared fields in their order, also when there is no row.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson
from aiohttp import web

from web.problem import Problem

FORMATS = {"json": "application/json", "csv": "text/csv", "ndjson": "application/x-ndjson"}
_OFFERED = {kind: name for name, kind in FORMATS.items()} | {"application/*": "json", "text/*": "csv", "*/*": "json"}
_GUARDED = frozenset("=+-@\t\r\n'＝＋－＠")
"""A spreadsheet may take a text that begins with one of these for a formula, so it gets a `'` before it. A text that
begins with a `'` gets one too: the first can always be taken off again."""
_PIECE_ROWS = 500


def format_of(request: web.Request) -> str:
    """One of `FORMATS`. Raises `Problem` 400 when `format` is none of them; whatever is accepted, JSON may come."""
    asked = request.query.get("format")
    if asked:
        if asked not in FORMATS:
            raise Problem(400, f"not one of {', '.join(FORMATS)}", field="format")
        return asked
    accepted = request.headers.get("Accept")
    return _best(accepted) if accepted else "json"


async def exported(
    request: web.Request,
    form: str,
    name: str,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    headers: Mapping[str, str],
) -> web.StreamResponse:
    """Send `rows` in a format but JSON; `name` is the file's that a browser makes of it."""
    response = web.StreamResponse(headers=headers)
    response.headers["Content-Type"] = FORMATS[form] + ("; charset=utf-8; header=present" if form == "csv" else "")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.{form}"'
    await response.prepare(request)
    if request.method != "HEAD":
        with suppress(ConnectionError):  # nobody reads on
            for piece in _csv(columns, rows) if form == "csv" else _ndjson(rows):
                await response.write(piece)
            await response.write_eof()
    return response


def _best(accepted: str) -> str:
    """What is wanted most of what there is; of the equally wanted, what is named first."""
    best, name = 0.0, "json"
    for wish in accepted.split(","):
        kind, *parameters = (part.strip() for part in wish.lower().split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        with suppress(ValueError):
            if kind in _OFFERED and float(weight) > best:
                best, name = float(weight), _OFFERED[kind]
    return name


def _pieces(rows: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    return (rows[begin : begin + _PIECE_ROWS] for begin in range(0, len(rows), _PIECE_ROWS))


def _ndjson(rows: Sequence[Mapping[str, Any]]) -> Iterator[bytes]:
    return (b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in piece) for piece in _pieces(rows))


def _csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Iterator[bytes]:
    yield _lines([columns])
    for piece in _pieces(rows):
        yield _lines([_cell(row.get(column)) for column in columns] for row in piece)


def _lines(cells: Iterable[Sequence[str]]) -> bytes:
    """As RFC 4180 has it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(cells)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    """Nothing for null, a text as it is but for the guard, anything else as in JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return "'" + value if value[:1] in _GUARDED else value
    return orjson.dumps(value).decode()
