"""`spans`: how many spans a second one core makes into the records of calls, beside a parser that only reads them."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from bench.backlog import PARTITIONS
from bench.ground import Ground
from bench.options import Options
from bench.report import Report
from otlp_messages import many
from streamlens.keys import ANYONE
from streamlens.log import TP, Record
from streamlens.otlp.messages import JSON, PROTOBUF, TRACES, decode
from streamlens.process import _spare_the_collector
from streamlens.settings import Settings
from web.arrival import Arrival
from web.otlp import take
from web.services import Services

_BATCH = 512
"""As exporters send them."""
_BATCHES = 400
_BODIES = 16
"""So that ids do not come again before they are forgotten."""
_PARSERS: tuple[tuple[str, str, Callable[[bytes], object]], ...] = (
    ("protobuf", PROTOBUF, ExportTraceServiceRequest.FromString),
    ("JSON", JSON, orjson.loads),
)


class _Log:
    """Counts what it is given."""

    def __init__(self) -> None:
        self.records = 0

    async def append(self, batches: Mapping[TP, Sequence[Record]]) -> dict[TP, int]:
        self.records += sum(map(len, batches.values()))
        return dict.fromkeys(batches, 0)


async def spans(_: Ground, report: Report, options: Options) -> None:
    """The same requests again and again, in both forms."""
    batches = options.events(_BATCHES)
    _spare_the_collector()  # as the server does
    for _run in range(options.runs):
        for name, form, parse in _PARSERS:
            bodies, log = [many(_BATCH, form, number) for number in range(_BODIES)], _Log()
            arrival = _arrival(log)
            began = time.process_time()
            for batch in range(batches):
                await take(TRACES, decode(TRACES, form, bodies[batch % _BODIES]), arrival)
            taken_s = time.process_time() - began
            assert log.records == batches * _BATCH, f"{log.records} calls of {batches * _BATCH} spans"
            began = time.process_time()
            for batch in range(batches):
                parse(bodies[batch % _BODIES])
            parsed_s = time.process_time() - began
            for case, seconds in ((name, taken_s), (f"{name}, parsed alone", parsed_s)):
                figures = {"spans/s": batches * _BATCH / seconds, "CPU-us/span": seconds / batches / _BATCH * 1e6}
                report.add("spans", case, figures | {"bytes/span": len(bodies[0]) / _BATCH})
    for name, _form, _parse in _PARSERS:
        report.compare("spans", name, [f"{name}, parsed alone"], ["spans/s"])


def _arrival(log: Any) -> Arrival:
    def now_us() -> int:
        return time.time_ns() // 1000

    # Only what validating and placing spans needs.
    given: dict[str, Any] = dict.fromkeys(Services.__struct_fields__)
    given |= {"log": log, "partitions": PARTITIONS, "settings": Settings(), "clock_us": now_us}
    services = Services(**given)
    return Arrival.by(ANYONE, "OTel-OTLP-Exporter-Python/1.45.2", services)
