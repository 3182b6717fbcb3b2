"""The open-loop generator: events into Kafka by a clock, whatever becomes of them, in a process of its own.

    python -m bench.stream BROKERS RATE SERIES SEED

Prints the epoch second at which it begins; ends at SIGTERM, with one line of JSON. Beside `RATE` events a second it
sends probes: every `PROBE_S` a call of the tenant "probe" into each partition, its route the partition.
"""

import asyncio
import heapq
import json
import resource
import signal
import sys
import time
from random import Random

import uvloop

from bench.backlog import PARTITIONS, append, put
from bench.traffic import Traffic
from streamlens import logs
from streamlens.kafka.log import KafkaLog
from streamlens.log import TP, Record
from streamlens.partitioner import partition_of
from streamlens.topics import REQUESTS, RESPONSES

PROBE = "probe"
PROBE_S = 0.1
TICK_S = 0.02
_HASTE = 20


class Source:
    """What is due, tick by tick. `events` counts all that was made, probes too."""

    def __init__(self, rate: float, series: int, seed: int, began_us: int) -> None:
        self.events = 0
        self._traffic = Traffic(series, f"stream {seed}", haste=_HASTE)
        self._random = Random(f"probes {seed}")
        self._rate = rate
        self._began_us = began_us
        self._calls = self._probes = 0
        self._under_way: list[tuple[int, bytes, bytes]] = []

    def due(self, elapsed_s: float) -> dict[TP, list[Record]]:
        """Requests of calls that began up to now and were not sent yet, responses of those that have ended."""
        batches: dict[TP, list[Record]] = {}
        while self._calls < elapsed_s * self._rate / 2:
            call = self._traffic.call(self._began_us + int(self._calls / self._rate * 2e6))
            self._put(batches, REQUESTS, call.key, call.request)
            heapq.heappush(self._under_way, (call.ends_us, call.key, call.response))
            self._calls += 1
        now_us = self._began_us + int(elapsed_s * 1e6)
        while self._under_way and self._under_way[0][0] <= now_us:
            _, key, response = heapq.heappop(self._under_way)
            self._put(batches, RESPONSES, key, response)
        while self._probes * PROBE_S <= elapsed_s:
            self._probe(batches, self._began_us // 1000 + int(self._probes * PROBE_S * 1000))
            self._probes += 1
        return batches

    def _probe(self, batches: dict[TP, list[Record]], at_ms: int) -> None:
        for partition in range(PARTITIONS):
            while partition_of((key := f"{self._random.getrandbits(128):032x}".encode()), PARTITIONS) != partition:
                pass
            ids = b'{"request_id":"%s","timestamp":%d,' % (key, at_ms)
            names = b'"tenant_id":"%s","route":"%d","model":"m"}' % (PROBE.encode(), partition)
            self._put(batches, REQUESTS, key, ids + names)
            self._put(batches, RESPONSES, key, ids + b'"latency_ms":1}')

    def _put(self, batches: dict[TP, list[Record]], topic: str, key: bytes, value: bytes) -> None:
        self.events += 1
        put(batches, topic, key, value)


async def main(brokers: str, rate: float, series: int, seed: int) -> None:
    logs.configure("text", level=40)
    log = KafkaLog(brokers, client_id="bench-stream")
    await log.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    began = time.time()
    source = Source(rate, series, seed, int(began * 1e6))
    print(began, flush=True)
    cpu_began, behind_s, ticks = _cpu_s(), 0.0, 0
    async with asyncio.TaskGroup() as appends:
        while not stop.is_set():
            due_s = ticks * TICK_S
            await asyncio.sleep(max(0.0, began + due_s - time.time()))
            behind_s = max(behind_s, time.time() - began - due_s)
            appends.create_task(append(log, source.due(due_s)))
            ticks += 1
    cpu = 100 * (_cpu_s() - cpu_began) / (time.time() - began)
    print(json.dumps({"events": source.events, "behind_ms": behind_s * 1000, "cpu": cpu}), flush=True)
    await log.stop()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
