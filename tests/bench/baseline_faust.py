"""Baseline: a stock Faust agent joins requests with responses in a table on RocksDB with its changelog.

python -m bench.baseline_faust BROKERS GROUP EVENTS DIRECTORY
"""

import sys

import faust
import uvloop

from bench.stopwatch import Stopwatch

uvloop.install()
_, brokers, group, events, directory = sys.argv
joined = 0
watch = Stopwatch(int(events), lambda: {"calls joined": joined})
app = faust.App(
    group,
    broker=f"kafka://{brokers}",
    store="rocksdb://",
    datadir=directory,
    topic_partitions=8,
    web_enabled=False,
    consumer_auto_offset_reset="earliest",
)
pending = app.Table("pending", partitions=8, options={"driver": "rocksdict"})


@app.agent(app.topic("llm.requests", "llm.responses", key_type=str, key_serializer="raw", value_serializer="json"))
async def join(stream):  # type: ignore[no-untyped-def]
    """A half waits in the table until the other one comes."""
    global joined
    async for half in stream:
        watch.count(1)
        request_id = half["request_id"]
        if request_id in pending:
            pending.pop(request_id)
            joined += 1
        else:
            pending[request_id] = half
        watch.check()


if __name__ == "__main__":
    faust.Worker(app, loglevel="error", console_port=0).execute_from_commandline()
