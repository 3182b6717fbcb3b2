"""Request bodies: read whole, decompressed, and bounded before and after that."""

import asyncio
import zlib

import cramjam
from aiohttp import StreamReader, web

from streamlens.errors import Unavailable
from streamlens.turns import came, went
from web.problem import Problem

READ_TIMEOUT_S = 60
IN_FLIGHT_BYTES = 256 * 1024 * 1024
"""Room for all bodies that are being read or written; what is more has to come again."""
TYPES = frozenset(
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


class room:
    """`with room(size):` for bytes that are in memory, beside all bodies. Raises `Unavailable` when there is none."""

    __slots__ = ("_size",)

    def __init__(self, size: int) -> None:
        self._size = size

    def __enter__(self) -> None:
        global _in_flight
        if _in_flight + self._size > IN_FLIGHT_BYTES:
            raise Unavailable("too many large bodies at once")
        _in_flight += self._size
        came()

    def __exit__(self, *_: object) -> None:
        global _in_flight
        _in_flight -= self._size
        went()


class body_of:
    """`async with body_of(request, max_bytes) as body`: the bytes, at most `max_bytes` after decompression and before.
    `types`: the content types that are taken.

    Raises `Problem` 400, 408, 413 or 415, and `Unavailable` when the bodies of other requests take all the room. This
    one's is given back at the end of the block.
    """

    __slots__ = ("_max_bytes", "_request", "_room", "_types")

    def __init__(self, request: web.Request, max_bytes: int, types: frozenset[str] = TYPES) -> None:
        self._request = request
        self._max_bytes = max_bytes
        self._types = types

    async def __aenter__(self) -> bytes:
        coding = _checked_coding(self._request, self._types)
        size = self._request.content_length
        if size is not None and size > self._max_bytes:
            raise _too_large(self._max_bytes)
        self._room = room(size if size is not None and coding == "identity" else self._max_bytes)
        self._room.__enter__()
        try:
            return await _read(self._request.content, coding, self._max_bytes)
        except BaseException:
            self._room.__exit__()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._room.__exit__()


def _checked_coding(request: web.Request, types: frozenset[str]) -> str:
    _check_type(request, types)
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip", "deflate", "zstd"):
        detail = f"Content-Encoding {coding[:64]} is not known; send one of {_CODINGS}"
        raise Problem(415, detail, headers={"Accept-Encoding": _CODINGS})
    return coding


async def _read(content: StreamReader, coding: str, max_bytes: int) -> bytes:
    try:
        # A small body comes with its head, and a timeout would cost more than all the rest of reading it.
        body = content.read_nowait() if content.is_eof() else await _received(content, max_bytes)
    except TimeoutError:
        raise Problem(408, f"the body did not arrive within {READ_TIMEOUT_S} s") from None
    except (web.RequestPayloadError, ConnectionError):
        raise Problem(400, "the body ended early or is badly chunked") from None
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    if coding == "identity":
        return bytes(body)
    try:
        if len(body) <= _INLINE_BYTES:
            return _decompress(coding, body, max_bytes)
        return await asyncio.to_thread(_decompress, coding, body, max_bytes)
    except (zlib.error, EOFError, cramjam.DecompressionError):
        raise Problem(400, f"the body is not valid {coding}") from None


async def _received(content: StreamReader, max_bytes: int) -> bytearray:
    """What is there and what still comes, until it is more than `max_bytes`."""
    body = bytearray()
    async with asyncio.timeout(READ_TIMEOUT_S):
        while len(body) <= max_bytes and (chunk := await content.readany()):
            body += chunk
    return body


def _check_type(request: web.Request, types: frozenset[str]) -> None:
    kind = request.content_type
    if kind not in types and not (types is TYPES and kind.endswith("+json")):
        wanted = "application/json or " + ("application/x-ndjson" if types is TYPES else "application/x-protobuf")
        raise Problem(415, f"{kind[:64]} is not taken here; send {wanted}")
    charset = (request.charset or "utf-8").lower()
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise Problem(415, f"charset {charset[:64]} is not taken here; send UTF-8")


def _decompress(coding: str, body: bytes | bytearray, max_bytes: int) -> bytes:
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


def _unzstd(body: bytes | bytearray, max_bytes: int) -> bytes:
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
