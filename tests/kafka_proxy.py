"""A TCP proxy in front of a broker that understands as much of Kafka's protocol as to lose chosen answers."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PRODUCE = 0
_HEAD = struct.Struct(">hhi")  # api key, version, correlation id


class KafkaProxy:
    """Forwards all, but instead of the next `losing` answers to produce requests it closes the connection."""

    def __init__(self, port: int, behind: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self.losing = 0
        self.lost = 0
        self._port = port
        self._behind = behind
        self._writers: set[asyncio.StreamWriter] = set()

    async def _connect(self, client_in: asyncio.StreamReader, client_out: asyncio.StreamWriter) -> None:
        broker_in, broker_out = await asyncio.open_connection("127.0.0.1", self._behind)
        produced: set[int] = set()
        self._writers |= {client_out, broker_out}

        async def requests() -> None:
            while frame := await _frame(client_in):
                key, _, correlation = _HEAD.unpack_from(frame, 4)
                if key == PRODUCE:
                    produced.add(correlation)
                broker_out.write(frame)

        async def answers() -> None:
            while frame := await _frame(broker_in):
                (correlation,) = struct.unpack_from(">i", frame, 4)
                if correlation in produced and self.losing:
                    self.losing -= 1
                    self.lost += 1
                    return
                produced.discard(correlation)
                client_out.write(frame)

        tasks = [asyncio.create_task(requests()), asyncio.create_task(answers())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        client_out.close()
        broker_out.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["KafkaProxy"]:
        server = await asyncio.start_server(self._connect, "127.0.0.1", self._port)
        try:
            yield self
        finally:
            server.close()
            for writer in self._writers:
                writer.close()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    """One message with its length in front, or nothing at the end of the connection."""
    try:
        length = await reader.readexactly(4)
        return length + await reader.readexactly(int.from_bytes(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
