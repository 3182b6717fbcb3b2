"""OTLP over gRPC: `Export` of the three signals on a port of its own, with the keys, limits and decoder of HTTP.

Loaded only where `STREAMLENS_OTLP_GRPC_PORT` is set, because it needs grpcio.
"""

import asyncio
from functools import cache
from typing import Any
from weakref import WeakValueDictionary

import grpc
import structlog
from faust import Service
from grpc.aio import EOF

from streamlens.app import app
from streamlens.errors import BadEvent, BadSetting, Unavailable
from streamlens.keys import ANYONE
from streamlens.metrics import EVENTS, GRPC_REQUESTS, INGEST_BYTES
from streamlens.otlp.messages import PROTOBUF, SIGNALS, Signal, answer, decode
from streamlens.settings import Settings
from web.access import key_for, need_of
from web.arrival import Arrival
from web.body import IN_FLIGHT_BYTES, room
from web.driver import SHUTDOWN_TIMEOUT_S
from web.otlp import take
from web.problem import Problem
from web.rpcstatus import code_of, trailers
from web.services import current

log = structlog.get_logger()

READ_TIMEOUT_S = 10
"""How long a message may take to arrive, and one of the same sender to have its turn. Exporters, too, wait for as
long."""
_SHARE = 4
"""A sender has one turn in so many."""
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_answers = cache(GRPC_REQUESTS.labels)
_events = cache(EVENTS.labels)


class Receiver:
    """A server in the running event loop, which serves from `start` to `stop`."""

    def __init__(self, settings: Settings, port: int) -> None:
        """Take the port; 0 is any free one. Raises `BadSetting` when it can't be had."""
        max_bytes = settings.max_body_mib << 20
        readers = max(1, IN_FLIGHT_BYTES // max_bytes)
        self._readers = asyncio.Semaphore(readers)
        self._of_one = max(1, readers // _SHARE)
        self._of_sender: WeakValueDictionary[int | str, asyncio.Semaphore] = WeakValueDictionary()
        self._server = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", max_bytes),  # as it comes, and again when it is unpacked
                ("grpc.so_reuseport", 0),  # else a second process would take some of our requests, untold
            )
        )
        self._server.add_generic_rpc_handlers(tuple(map(self._service, SIGNALS)))
        address = f"{settings.host_in_urls}:{port}"
        try:
            self.port: int = self._server.add_insecure_port(address)
        except RuntimeError:
            raise BadSetting(f"STREAMLENS_OTLP_GRPC_PORT: can't serve on {address}") from None

    async def start(self) -> None:
        """Take requests from now on."""
        await self._server.start()

    async def stop(self) -> None:
        """Take no more, and give those that are here a moment to end."""
        await self._server.stop(SHUTDOWN_TIMEOUT_S)

    def _service(self, signal: Signal) -> Any:
        async def export(_: object, context: Any) -> bytes:
            try:
                body = await self._exported(signal, context)
            except (BadEvent, Unavailable, Problem) as error:
                problem = error if isinstance(error, Problem) else Problem.of(error)
            except Exception:
                log.exception("grpc.failed", path=signal.path)
                problem = Problem(500, "an internal error; the log of the server has the details")
            else:
                _answers(signal.path, "OK").inc()
                return body
            code = _CODES[code_of(problem.status)]
            _answers(signal.path, code.name).inc()
            return await context.abort(code, problem.sentence, trailers(problem))  # type: ignore[no-any-return]

        (service,) = signal.request().DESCRIPTOR.file.services_by_name.values()
        # To the client a stream of one is the same, and we read nothing of those who may not send.
        methods = {"Export": grpc.stream_unary_rpc_method_handler(export)}
        return grpc.method_handlers_generic_handler(service.full_name, methods)

    async def _exported(self, signal: Signal, context: Any) -> bytes:
        services = current()
        metadata = {name: value for name, value in context.invocation_metadata() if isinstance(value, str)}
        key = key_for(need_of("POST", signal.path), metadata)
        body = await self._read(context, _address(context.peer()) if key is ANYONE else key.id)
        arrival = Arrival.by(key, metadata.get("user-agent", ""), services)
        try:
            # Ends even if the client no longer waits: the log writes for many at once.
            return await asyncio.shield(_taken(signal, body, arrival))
        except BadEvent:
            _events(signal.counted_as, "rejected").inc()
            raise

    async def _read(self, context: Any, sender: int | str) -> Any:
        """The message. A sender whose calls send none keeps others of its own from their turns, nobody else."""
        of_one = self._of_sender.setdefault(sender, asyncio.Semaphore(self._of_one))  # goes with its last call
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                await of_one.acquire()
        except TimeoutError:
            raise Unavailable("too many messages of one sender at once") from None
        try:
            async with self._readers, asyncio.timeout(READ_TIMEOUT_S):
                return await context.read()
        except TimeoutError:
            raise Unavailable(f"the message did not arrive within {READ_TIMEOUT_S} s") from None
        finally:
            of_one.release()


def _address(peer: str) -> str:
    """Of gRPC's "ipv4:127.0.0.1:50000", without the port."""
    return peer.rpartition(":")[0]


async def _taken(signal: Signal, body: Any, arrival: Arrival) -> bytes:
    if body is EOF:
        raise BadEvent("", "there is no message")
    INGEST_BYTES.inc(len(body))
    with room(len(body)):
        taken = await take(signal, decode(signal, PROTOBUF, body), arrival)
    return answer(signal, PROTOBUF, taken.rejected, taken.message)


@app.service
class OtlpGrpc(Service):
    """The receiver as a part of the app: it starts with the web server, once the partitions are recovered."""

    _receiver: Receiver | None = None

    async def on_start(self) -> None:
        try:
            self._receiver = Receiver(app.settings, app.settings.otlp_grpc_port)
            await self._receiver.start()
        except BadSetting as error:
            app.runtime.fatal(error)

    async def on_stop(self) -> None:
        if self._receiver is not None:  # else its port was taken
            await self._receiver.stop()
