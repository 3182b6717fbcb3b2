"""Baseline: a bare aiohttp handler that decodes events and hands them to one aiokafka producer.

python -m bench.baseline_aiohttp BROKERS PORT
"""

import asyncio
import sys

import msgspec
import uvloop
from aiohttp import web
from aiokafka import AIOKafkaProducer


class Event(msgspec.Struct):
    """What is needed to know where an event goes."""

    request_id: str
    type: str = ""


TOPICS = {"request": "llm.requests", "response": "llm.responses"}
decode = msgspec.json.Decoder(Event).decode


class Handlers:
    """The three routes. 202 means: acknowledged by Kafka."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    async def request(self, request: web.Request) -> web.Response:
        return await self._one("request", await request.read())

    async def response(self, request: web.Request) -> web.Response:
        return await self._one("response", await request.read())

    async def events(self, request: web.Request) -> web.Response:
        sent = []
        for line in (await request.read()).split(b"\n"):
            event = decode(line)
            sent.append(await self._producer.send(TOPICS[event.type], line, key=event.request_id.encode()))
        await asyncio.gather(*sent)
        return web.json_response({"status": "accepted", "accepted": len(sent)}, status=202)

    async def _one(self, kind: str, body: bytes) -> web.Response:
        await self._producer.send_and_wait(TOPICS[kind], body, key=decode(body).request_id.encode())
        return web.json_response({"status": "accepted"}, status=202)


async def main(brokers: str, port: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=brokers, enable_idempotence=True)
    await producer.start()
    handlers = Handlers(producer)
    app = web.Application(client_max_size=16 << 20)
    app.router.add_post("/v1/llm/request", handlers.request)
    app.router.add_post("/v1/llm/response", handlers.response)
    app.router.add_post("/v1/llm/events", handlers.events)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
