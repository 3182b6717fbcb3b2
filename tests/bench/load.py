"""The load generator for HTTP: prepared bytes over connections that are kept alive, in a process of its own.

    python -m bench.load URL single|bulk COUNT CONNECTIONS SEED

Each connection sends its next request when it has its answer. One line of JSON says how it went; what was refused for
a while (503) is sent again, as a client would.
"""

import asyncio
import json
import resource
import statistics
import sys
import time
from collections import deque
from typing import cast
from urllib.parse import urlsplit

import uvloop

from bench.traffic import Traffic

BULK = 1_000
"""Events of one bulk body."""
_AGAIN_S = 0.05


def single(host: str, count: int, seed: int) -> deque[bytes]:
    """`count` requests of one event each."""
    traffic, posts = Traffic(100, seed), deque[bytes]()
    now_us = time.time_ns() // 1000
    for _ in range(count // 2):
        call = traffic.call(now_us - 30_000_000)
        posts.append(_post(host, "/v1/llm/request", call.request))
        posts.append(_post(host, "/v1/llm/response", call.response))
    return posts


def bulk(host: str, count: int, seed: int) -> deque[bytes]:
    """Requests of `BULK` events each, `count` events in all."""
    traffic, posts = Traffic(100, seed), deque[bytes]()
    now_us = time.time_ns() // 1000
    for _ in range(count // BULK):
        lines: list[bytes] = []
        for _ in range(BULK // 2):
            call = traffic.call(now_us - 30_000_000)
            lines += (b'{"type":"request",' + call.request[1:], b'{"type":"response",' + call.response[1:])
        posts.append(_post(host, "/v1/llm/events", b"\n".join(lines)))
    return posts


def _post(host: str, path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Client(asyncio.Protocol):
    """One connection. `done` is set when there is nothing left to send."""

    def __init__(self, posts: deque[bytes], seconds: list[float], refused: list[int]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._posts = posts
        self._seconds = seconds
        self._refused = refused
        self._transport: asyncio.Transport
        self._answer = b""
        self._post = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def next(self) -> None:
        """Send what is next."""
        if self._posts:
            self._post = self._posts.popleft()
            self._send()
        else:
            self._transport.close()
            self.done.set_result(None)

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._post)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.lower().partition(b"content-length:")[2].split()[0]):
            return
        self._answer = b""
        status = int(head[9:12])
        if status == 202:
            self._seconds.append(time.perf_counter() - self._sent)
            self.next()
        elif status == 503:
            self._refused.append(status)
            asyncio.get_running_loop().call_later(_AGAIN_S, self._send)
        elif not self.done.done():
            self.done.set_exception(RuntimeError(f"{head.decode()}: {body[:200].decode()}"))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or RuntimeError("the connection was closed"))


async def main(url: str, kind: str, count: int, connections: int, seed: int) -> None:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    posts = (single if kind == "single" else bulk)(parts.netloc, count, seed)
    seconds: list[float] = []
    refused: list[int] = []
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: Client(posts, seconds, refused), host, port))[1]
        for _ in range(connections)
    ]
    began, cpu_began = time.monotonic(), _cpu_s()
    for client in clients:
        client.next()
    await asyncio.gather(*(client.done for client in clients))
    took_s, cpu_s = time.monotonic() - began, _cpu_s() - cpu_began
    cuts = statistics.quantiles(seconds, n=100)
    events = count // 2 * 2 if kind == "single" else count // BULK * BULK
    result = {
        "events/s": events / took_s,
        "answer p50 ms": cuts[49] * 1000,
        "answer p95 ms": cuts[94] * 1000,
        "answer p99 ms": cuts[98] * 1000,
        "refused, sent again": len(refused),
        "generator's CPU %": 100 * cpu_s / took_s,
    }
    print(json.dumps(result))


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
