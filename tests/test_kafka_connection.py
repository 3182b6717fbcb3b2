"""What is tried again when a connection to Kafka breaks."""

import asyncio
import socket

import pytest
import uvloop
from aiokafka.errors import KafkaConnectionError

from streamlens.errors import Unavailable, is_closed
from streamlens.kafka.connection import Connection, KafkaSecurity


def closed_by_uvloop() -> RuntimeError:
    """The error of a write to a transport that uvloop has closed."""

    async def write_too_late() -> None:
        ours, theirs = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=ours)
        writer.transport.abort()
        await asyncio.sleep(0)
        theirs.close()
        with pytest.raises(RuntimeError) as caught:
            while True:
                writer.write(b"late")
                await asyncio.sleep(0)
        raise caught.value

    with pytest.raises(RuntimeError) as caught:
        uvloop.run(write_too_late())
    return caught.value


def connection(deadline_s: float) -> Connection:
    return Connection("127.0.0.1:1", KafkaSecurity(), "test", deadline_s, 1.0)


def test_uvloops_words_are_known() -> None:
    assert is_closed(closed_by_uvloop())
    assert not is_closed(RuntimeError("something else"))


@pytest.mark.parametrize("error", [KafkaConnectionError("gone"), RuntimeError("…; the handler is closed")], ids=repr)
async def test_a_connection_that_closes_is_tried_again(error: Exception) -> None:
    errors = [error]

    async def attempt() -> str:
        if errors:
            raise errors.pop()
        return "answer"

    assert await connection(10).answered("answer", attempt) == "answer"


async def test_what_else_breaks_is_not_tried_again() -> None:
    async def attempt() -> str:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        await connection(10).answered("answer", attempt)


async def test_the_deadline_names_the_last_error() -> None:
    async def attempt() -> str:
        raise RuntimeError("unable to write; the handler is closed")

    with pytest.raises(Unavailable, match="the connection was closed"):
        await connection(0.3).answered("answer", attempt)
