"""OTLP over gRPC: answers, codes, limits and keys, and what lies in the log then. The decoder is that of HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import msgspec
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc.aio import AioRpcError

import web.body
import web.otlpgrpc
from otlp_messages import GOOD, encoded, span, traces
from streamlens.errors import BadSetting
from streamlens.keys import Key, Keys, new_secret, sha256_of
from streamlens.locallog.local import LocalLog
from streamlens.log import TP, UNKNOWN_OFFSET, Record
from streamlens.otlp.messages import PROTOBUF, SIGNALS, TRACES, Signal
from streamlens.ratelimit import RateLimit
from streamlens.settings import Settings
from web.otlpgrpc import Receiver
from web_server import Site, counted, serving

SERVICES = dict(zip(("/v1/traces", "/v1/logs", "/v1/metrics"), ("Trace", "Logs", "Metrics"), strict=True))
Metadata = tuple[tuple[str, str], ...]


class Wire(msgspec.Struct):
    """A receiver, the site beside it, and a client's channel to it."""

    site: Site
    receiver: Receiver
    channel: grpc.aio.Channel

    async def export(self, signal: Signal, body: bytes, metadata: Metadata = ()) -> Any:
        """The decoded answer; raises `AioRpcError`."""
        call = self.channel.unary_unary(method(signal), response_deserializer=signal.response().FromString)
        return await call(body, metadata=metadata, timeout=20)

    async def refusal(self, signal: Signal, body: bytes, metadata: Metadata = ()) -> AioRpcError:
        with pytest.raises(AioRpcError) as caught:
            await self.export(signal, body, metadata)
        return caught.value

    def written(self) -> list[dict[str, Any]]:
        return [json.loads(value) for values in self.site.written().values() for value in values]


def method(signal: Signal) -> str:
    package = signal.request().DESCRIPTOR.file.package
    return f"/{package}.{SERVICES[signal.path]}Service/Export"


@asynccontextmanager
async def receiving(
    tmp_path: Path, *, settings: Settings | None = None, packed: Any = grpc.Compression.NoCompression, **replaced: Any
) -> AsyncIterator[Wire]:
    settings = settings or Settings()
    async with serving(tmp_path, **replaced or {"settings": settings}) as site:
        receiver = Receiver(settings, 0)
        await receiver.start()
        try:
            address = f"127.0.0.1:{receiver.port}"
            async with grpc.aio.insecure_channel(address, compression=packed) as channel:
                yield Wire(site, receiver, channel)
        finally:
            await receiver.stop()


@pytest.fixture
async def wire(tmp_path: Path) -> AsyncIterator[Wire]:
    async with receiving(tmp_path) as wire:
        yield wire


def good(signal: Signal) -> bytes:
    return encoded(signal, PROTOBUF, GOOD[signal.path]("acme"))


def come_again_s(error: AioRpcError) -> tuple[int, int]:
    """When to come again: as OTLP's specification has it, and as Python's exporter looks for it."""
    trailers = dict(error.trailing_metadata())
    status, retry = Status(), RetryInfo()
    status.ParseFromString(trailers["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    (detail,) = status.details
    assert detail.Unpack(retry)
    named = RetryInfo.FromString(trailers["google.rpc.retryinfo-bin"])
    return retry.retry_delay.seconds, named.retry_delay.seconds


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: signal.path)
@pytest.mark.parametrize("packed", grpc.Compression, ids=lambda packed: packed.name)
async def test_each_signal_is_written_as_over_http(tmp_path: Path, signal: Signal, packed: grpc.Compression) -> None:
    async with receiving(tmp_path, packed=packed) as wire:
        headers = {"Content-Type": PROTOBUF, "User-Agent": "OTel-OTLP-Exporter-Python/1.45.2"}
        assert (await wire.site.http.post(signal.path, data=good(signal), headers=headers)).status == 200
        (over_http,) = wire.written()
        before = counted("streamlens_grpc_requests_total", path=signal.path, code="OK")
        answer = await wire.export(signal, good(signal))
        assert not answer.HasField("partial_success")
        assert counted("streamlens_grpc_requests_total", path=signal.path, code="OK") == before + 1
        both = wire.written()
        both.remove(over_http)
        (over_grpc,) = both
        assert over_http.pop("sender") == "OTel-OTLP-Exporter-Python/1.45.2"
        assert over_grpc.pop("sender").startswith("grpc-python-asyncio/"), "the first word"
        assert over_grpc == over_http


async def test_an_empty_request_is_a_good_one(wire: Wire) -> None:
    for signal in SIGNALS:
        assert not (await wire.export(signal, b"")).HasField("partial_success")
    assert wire.written() == []


async def test_bad_items_are_told_and_the_others_count(wire: Wire) -> None:
    bad = span(2, {"gen_ai.usage.input_tokens": -1})
    answer = await wire.export(TRACES, encoded(TRACES, PROTOBUF, traces(span(1), bad, span(3))))
    assert answer.partial_success.rejected_spans == 1
    assert "gen_ai.usage.input_tokens" in answer.partial_success.error_message
    assert len(wire.written()) == 2


JUNK = {
    "no protobuf": b"\xff\xff",
    "the middle of one": good(TRACES)[:-3],
    "another signal's": good(SIGNALS[1]),
    "empty spans, a million": b"\x0a\x06\x12\x04\x12\x00\x12\x00" * 100_000,
}


@pytest.mark.parametrize("body", JUNK.values(), ids=JUNK)
async def test_what_is_no_request_is_refused_for_good(wire: Wire, body: bytes) -> None:
    before = counted("streamlens_events_total", kind="span", outcome="rejected")
    error = await wire.refusal(TRACES, body)
    assert (error.code(), list(error.trailing_metadata())) == (grpc.StatusCode.INVALID_ARGUMENT, [])
    assert error.details() and wire.written() == []
    assert counted("streamlens_events_total", kind="span", outcome="rejected") == before + 1


async def test_a_call_without_a_message_is_refused(wire: Wire) -> None:
    call = wire.channel.stream_unary(method(TRACES))(timeout=20)
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("packed", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_what_is_too_large_is_refused_for_good(tmp_path: Path, packed: grpc.Compression) -> None:
    async with receiving(tmp_path, settings=Settings(max_body_mib=1), packed=packed) as wire:
        error = await wire.refusal(TRACES, bytes((1 << 20) + 1))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await wire.refusal(TRACES, bytes(1 << 20))).code() is grpc.StatusCode.INVALID_ARGUMENT
        await wire.export(TRACES, good(TRACES))
        assert len(wire.written()) == 1


# -- keys --------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def guarded(tmp_path: Path) -> AsyncIterator[tuple[Wire, dict[str, str]]]:
    """A receiver that asks for keys: two of acme may send, one may read."""
    scopes = {"ingest": "ingest", "second": "ingest", "read": "read"}
    secrets = {name: new_secret() for name in scopes}

    async def load(_: int) -> tuple[int, list[Key]]:
        found = enumerate(scopes.items())
        return 1, [Key(n, sha256_of(secrets[name]), "acme", frozenset([scope])) for n, (name, scope) in found]

    keys = Keys(load)
    await keys.refresh()
    async with receiving(tmp_path, keys=keys) as wire:
        yield wire, secrets


async def test_keys_come_as_metadata(tmp_path: Path) -> None:
    async with guarded(tmp_path) as (wire, secrets):
        for signal in SIGNALS:
            for metadata, code in (
                ((), "UNAUTHENTICATED"),
                ((("x-api-key", "sl_x"),), "UNAUTHENTICATED"),
                ((("authorization", f"Basic {secrets['ingest']}"),), "UNAUTHENTICATED"),
                ((("x-api-key-bin", secrets["ingest"].encode()),), "UNAUTHENTICATED"),
                ((("x-api-key", secrets["read"]),), "PERMISSION_DENIED"),
            ):
                assert (await wire.refusal(signal, good(signal), metadata)).code().name == code, metadata
        assert wire.written() == []
        document = encoded(TRACES, PROTOBUF, traces(span(1), span(2, {"tenant.id": "other"}), span(3)))
        for metadata in ((("x-api-key", secrets["ingest"]),), (("authorization", f"bearer {secrets['ingest']}"),)):
            answer = await wire.export(TRACES, document, metadata)
            assert answer.partial_success.rejected_spans == 1
            assert "not the tenant of this key" in answer.partial_success.error_message
        assert {call["tenant_id"] for call in wire.written()} == {"acme"} and len(wire.written()) == 4


async def test_nothing_is_read_of_those_who_may_not_send(tmp_path: Path) -> None:
    """The refusal comes before the message does."""
    async with guarded(tmp_path) as (wire, _):
        call = wire.channel.stream_unary(method(TRACES))(timeout=20)
        await call.wait_for_connection()
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


# -- overload, and the end ---------------------------------------------------------------------------------------------


async def test_too_many_are_told_when_to_come_again(tmp_path: Path) -> None:
    async with receiving(tmp_path, rate_limit=RateLimit(1.0, lambda: 0.0)) as wire:
        await wire.export(TRACES, encoded(TRACES, PROTOBUF, traces(*map(span, range(1, 11)))))
        error = await wire.refusal(TRACES, encoded(TRACES, PROTOBUF, traces(*map(span, range(11, 14)))))
        assert (error.code(), come_again_s(error)) == (grpc.StatusCode.UNAVAILABLE, (3, 3))
        assert len(wire.written()) == 10


async def test_what_is_not_durable_is_not_acknowledged(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    async def append(self: LocalLog, batches: dict[TP, list[Record]]) -> dict[TP, int]:
        return dict.fromkeys(batches, UNKNOWN_OFFSET)

    monkeypatch.setattr(LocalLog, "append", append)
    error = await wire.refusal(TRACES, good(TRACES))
    assert (error.code(), come_again_s(error)) == (grpc.StatusCode.UNAVAILABLE, (1, 1))


async def test_a_full_house_is_unavailable(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.body, "IN_FLIGHT_BYTES", len(good(TRACES)) - 1)
    error = await wire.refusal(TRACES, good(TRACES))
    assert (error.code(), come_again_s(error)) == (grpc.StatusCode.UNAVAILABLE, (1, 1))
    monkeypatch.setattr(web.body, "IN_FLIGHT_BYTES", len(good(TRACES)))
    await wire.export(TRACES, good(TRACES))
    assert web.body._in_flight == 0


async def test_before_the_start_is_over_it_is_unavailable(tmp_path: Path) -> None:
    async with receiving(tmp_path, services=None) as wire:
        assert (await wire.refusal(TRACES, good(TRACES))).code() is grpc.StatusCode.UNAVAILABLE


async def test_a_message_that_does_not_arrive_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such calls hold the turns of others, of which there is one here."""
    monkeypatch.setattr(web.otlpgrpc, "READ_TIMEOUT_S", 0.2)
    monkeypatch.setattr(web.otlpgrpc, "IN_FLIGHT_BYTES", 1)
    async with receiving(tmp_path) as wire:
        silent = [wire.channel.stream_unary(method(TRACES))(timeout=20) for _ in range(3)]
        assert [(await call.code()).name for call in silent] == ["UNAVAILABLE"] * 3
        await wire.export(TRACES, good(TRACES))
        assert len(wire.written()) == 1


async def test_silent_calls_of_one_key_leave_room_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.otlpgrpc, "READ_TIMEOUT_S", 60)
    monkeypatch.setattr(web.otlpgrpc, "IN_FLIGHT_BYTES", 4 * Settings().max_body_mib << 20)
    async with guarded(tmp_path) as (wire, secrets):
        first, second = (("x-api-key", secrets["ingest"]),), (("x-api-key", secrets["second"]),)
        silent = [wire.channel.stream_unary(method(TRACES))(metadata=first, timeout=50) for _ in range(8)]
        await wire.refusal(TRACES, b"")  # by now the server knows of them
        await wire.export(TRACES, good(TRACES), second)
        assert len(wire.written()) == 1
        for call in silent:
            call.cancel()
        await wire.export(TRACES, good(TRACES), first)
        assert len(wire.written()) == 2


async def test_a_peer_without_a_key_has_a_quarter_of_the_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its ports: of those that come at once one reads, and others wait for no longer than that takes."""
    monkeypatch.setattr(web.otlpgrpc, "READ_TIMEOUT_S", 0.5)
    monkeypatch.setattr(web.otlpgrpc, "IN_FLIGHT_BYTES", 4 * Settings().max_body_mib << 20)
    async with receiving(tmp_path) as wire, AsyncExitStack() as channels:
        address, own = f"127.0.0.1:{wire.receiver.port}", (("grpc.use_local_subchannel_pool", 1),)
        several = [
            await channels.enter_async_context(grpc.aio.insecure_channel(address, options=own)) for _ in range(4)
        ]
        await asyncio.gather(*(each.channel_ready() for each in several))
        silent = [each.stream_unary(method(TRACES))(timeout=20) for each in several]
        assert [(await call.code()).name for call in silent] == ["UNAVAILABLE"] * 4
        assert "too many messages of one sender at once" in [await call.details() for call in silent]
        assert all(["google.rpc.retryinfo-bin" in dict(await call.trailing_metadata()) for call in silent])
        await wire.export(TRACES, good(TRACES))


async def test_our_own_fault_tells_nothing_of_it(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def append(self: LocalLog, batches: dict[TP, list[Record]]) -> dict[TP, int]:
        raise RuntimeError("a detail")

    monkeypatch.setattr(LocalLog, "append", append)
    error = await wire.refusal(TRACES, good(TRACES))
    assert error.code() is grpc.StatusCode.INTERNAL and "a detail" not in str(error.details())
    assert "a detail" in capsys.readouterr().out


@pytest.fixture
def slow_log(monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """The log writes when the second is set; the first says that it was asked to."""
    asked, go = asyncio.Event(), asyncio.Event()
    append = LocalLog.append

    async def late(self: LocalLog, batches: dict[TP, list[Record]]) -> dict[TP, int]:
        asked.set()
        await go.wait()
        return await append(self, batches)

    monkeypatch.setattr(LocalLog, "append", late)
    return asked, go


async def test_what_was_begun_ends_although_the_client_has_gone(
    wire: Wire, slow_log: tuple[asyncio.Event, asyncio.Event]
) -> None:
    asked, go = slow_log
    call = wire.channel.unary_unary(method(TRACES))(good(TRACES), timeout=20)
    await asked.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await wire.export(SIGNALS[1], b"")  # by now the server knows
    go.set()
    async with asyncio.timeout(20):
        while web.body._in_flight:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert len(wire.written()) == 1


async def test_the_end_waits_for_those_that_are_here(wire: Wire, slow_log: tuple[asyncio.Event, asyncio.Event]) -> None:
    asked, go = slow_log
    sending = asyncio.create_task(wire.export(TRACES, good(TRACES)))
    await asked.wait()
    stopping = asyncio.create_task(wire.receiver.stop())
    late = (await wire.refusal(TRACES, good(TRACES))).code()
    assert late in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), "exporters come again after either"
    go.set()
    assert not (await sending).HasField("partial_success")
    await stopping
    assert len(wire.written()) == 1


async def test_a_port_is_not_shared(wire: Wire) -> None:
    port = wire.receiver.port
    with pytest.raises(BadSetting, match=f"STREAMLENS_OTLP_GRPC_PORT: can't serve on 127.0.0.1:{port}"):
        Receiver(Settings(), port)


async def test_without_its_port_the_process_ends_in_order(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[BaseException] = []
    settings = Settings(otlp_grpc_port=wire.receiver.port)
    monkeypatch.setattr(
        web.otlpgrpc, "app", SimpleNamespace(settings=settings, runtime=SimpleNamespace(fatal=found.append))
    )
    part = web.otlpgrpc.OtlpGrpc()
    await part.on_start()
    assert [type(error) for error in found] == [BadSetting]
    await part.on_stop()


async def test_other_methods_do_not_exist(wire: Wire) -> None:
    call = wire.channel.unary_unary(method(TRACES).replace("Export", "Import"))
    with pytest.raises(AioRpcError) as caught:
        await call(b"", timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
