"""TCP proxies between the workers and what they use: connections break, and chosen answers never arrive.

In a thread and a loop of their own, so that what the run itself is busy with delays nobody.
"""

import asyncio
import struct
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Protocol

_PRODUCE = 0
_KAFKA_HEAD = struct.Struct(">hhi")  # api key, version, correlation id
_COMMITTED = b"C\x00\x00\x00\x0bCOMMIT\x00"  # Postgres: a command is complete, with its length and name
_CHUNK_BYTES = 1 << 16


class Wire(Protocol):
    """What is understood of one connection's protocol."""

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        """The next bytes to pass on as one; nothing at the end of the connection."""

    def asked(self, request: bytes) -> None:
        """See what the client sends."""

    def is_precious(self, answer: bytes) -> bool:
        """Whether this answer says that something has become durable."""


class KafkaWire:
    """Knows the answers to produce requests."""

    def __init__(self) -> None:
        self._produced: set[int] = set()

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        try:
            length = await reader.readexactly(4)
            return length + await reader.readexactly(int.from_bytes(length))
        except asyncio.IncompleteReadError:
            return b""

    def asked(self, request: bytes) -> None:
        key, _, correlation = _KAFKA_HEAD.unpack_from(request, 4)
        if key == _PRODUCE:
            self._produced.add(correlation)

    def is_precious(self, answer: bytes) -> bool:
        (correlation,) = struct.unpack_from(">i", answer, 4)
        is_produced = correlation in self._produced
        self._produced.discard(correlation)
        return is_produced


class PostgresWire:
    """Knows the answer to COMMIT, if it comes in one piece, as it does."""

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        return await reader.read(_CHUNK_BYTES)

    def asked(self, request: bytes) -> None:
        pass

    def is_precious(self, answer: bytes) -> bool:
        return _COMMITTED in answer


class Proxy:
    """Passes all on, but in place of the next `losing` precious answers it closes the connection."""

    def __init__(self, behind: int | Path, wire: type[Wire], port: int = 0) -> None:
        """`behind`: a port on loopback, or a Unix socket."""
        self.port = port
        self.losing = 0
        self.lost = 0
        self._behind = behind
        self._wire = wire
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def start(self) -> None:
        """Returns when it listens; `port` is known then."""
        self._thread.start()
        self._there(self._listen())

    def stop(self) -> None:
        if self._thread.is_alive():
            self.cut()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def cut(self) -> int:
        """Close all connections at once; how many there were."""
        closed: int = self._there(self._cut())
        return closed

    def _there(self, call: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]

    async def _cut(self) -> int:
        writers = list(self._writers)
        for writer in writers:
            writer.transport.abort()
        return len(writers) // 2

    async def _serve(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        try:
            if isinstance(self._behind, Path):
                server_in, server_out = await asyncio.open_unix_connection(self._behind)
            else:
                server_in, server_out = await asyncio.open_connection("127.0.0.1", self._behind)
        except OSError:
            client_out.transport.abort()
            return
        wire, both = self._wire(), {client_out, server_out}
        self._writers |= both

        async def ask() -> None:
            while data := await wire.read(client_in):
                wire.asked(data)
                server_out.write(data)
                await server_out.drain()

        async def answer() -> None:
            while data := await wire.read(server_in):
                if wire.is_precious(data) and self.losing:
                    self.losing -= 1
                    self.lost += 1
                    return
                client_out.write(data)
                await client_out.drain()

        tasks = [asyncio.create_task(ask()), asyncio.create_task(answer())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in both:
            writer.transport.abort()
        self._writers -= both
