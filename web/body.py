"""Request bodies: read whole, decompressed, and bounded before and after that."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import cramjam
from aiohttp import web

from streamlens.errors import Unavailable
from web.problem import Problem

READ_TIMEOUT_S = 60
IN_FLIGHT_BYTES = 256 * 1024 * 1024
"""Room for all bodies that are being read or written; what is more has to come again."""
_TYPES = frozenset(
    (
        "application/json",
        "application/x-ndjson",
        "application/ndjson",
        "application/jsonl",
        "application/x-www-form-urlencoded",  # what curl says of any --data
        "application/octet-stream",  # also what aiohttp takes a missing header for
        "text/plain",
    )
)
_CODINGS = "gzip, deflate, zstd"
_INLINE_BYTES = 64 * 1024
"""Larger compressed bodies are decompressed in a thread, so that others do not wait."""
_MAX_MEMBERS = 256
"""A gzip body may have several members; each costs a copy of the rest of the body."""


_in_flight = 0


@asynccontextmanager
async def body_of(request: web.Request, max_bytes: int) -> AsyncIterator[bytes]:
    """The body, at most `max_bytes` after decompression (and before), for as long as the caller needs it.

    Raises `Problem` 400, 408, 413 or 415, and `Unavailable` when the bodies of other requests take all the room.
    """
    global _in_flight
    coding = _checked_coding(request)
    size = request.content_length
    if size is not None and size > max_bytes:
        raise _too_large(max_bytes)
    room = size if size is not None and coding == "identity" else max_bytes
    if _in_flight + room > IN_FLIGHT_BYTES:
        raise Unavailable("too many large bodies at once")
    _in_flight += room
    try:
        yield await _read(request, coding, max_bytes)
    finally:
        _in_flight -= room


def _checked_coding(request: web.Request) -> str:
    _check_type(request)
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip", "deflate", "zstd"):
        detail = f"Content-Encoding {coding[:64]} is not known; send one of {_CODINGS}"
        raise Problem(415, detail, headers={"Accept-Encoding": _CODINGS})
    return coding


async def _read(request: web.Request, coding: str, max_bytes: int) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > max_bytes:
                    raise _too_large(max_bytes)
    except TimeoutError:
        raise Problem(408, f"the body did not arrive within {READ_TIMEOUT_S} s") from None
    except (web.RequestPayloadError, ConnectionError):
        raise Problem(400, "the body ended early or is badly chunked") from None
    if coding == "identity":
        return bytes(body)
    try:
        if len(body) <= _INLINE_BYTES:
            return _decompress(coding, body, max_bytes)
        return await asyncio.to_thread(_decompress, coding, body, max_bytes)
    except (zlib.error, EOFError, cramjam.DecompressionError):
        raise Problem(400, f"the body is not valid {coding}") from None


def _check_type(request: web.Request) -> None:
    kind = request.content_type
    if kind not in _TYPES and not kind.endswith("+json"):
        raise Problem(415, f"{kind[:64]} is not taken here; send application/json or application/x-ndjson")
    charset = (request.charset or "utf-8").lower()
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise Problem(415, f"charset {charset[:64]} is not taken here; send UTF-8")


def _decompress(coding: str, body: bytearray, max_bytes: int) -> bytes:
    """Raises `Problem` 413 as soon as `max_bytes` are passed, whatever is left in `body`."""
    if coding == "zstd":
        return _unzstd(body, max_bytes)
    plain = bytearray()
    rest: bytes | bytearray = body
    for _ in range(_MAX_MEMBERS):
        stream = zlib.decompressobj(wbits=zlib.MAX_WBITS if coding == "deflate" else zlib.MAX_WBITS | 16)
        plain += stream.decompress(rest, max_bytes + 1 - len(plain))
        if len(plain) > max_bytes:
            raise _too_large(max_bytes)
        if not stream.eof:
            raise EOFError
        rest = stream.unused_data
        if not rest:
            return bytes(plain)
    raise EOFError


def _unzstd(body: bytearray, max_bytes: int) -> bytes:
    plain = bytearray(max_bytes)
    try:
        size = cramjam.zstd.decompress_into(body, plain)
    except cramjam.DecompressionError as error:
        if "failed to write whole buffer" in str(error):
            raise _too_large(max_bytes) from None
        raise
    return bytes(memoryview(plain)[:size])


def _too_large(max_bytes: int) -> Problem:
    return Problem(413, f"the body is larger than {max_bytes:,} bytes")
