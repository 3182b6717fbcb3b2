"""Sends calls as spans, with the exporter that is installed: `python send.py http|grpc ENDPOINT TENANT COUNT`.

The tokens of the first one are negative, so it does not count.
"""

import sys
import time

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

transport, endpoint, tenant, count = sys.argv[1:]
if transport == "http":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
else:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

provider = TracerProvider(resource=Resource.create({"service.name": "shop", "tenant.id": tenant}))
# Spans of 100 ms that end now, all at once: batches are as large as they may be.
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint), max_queue_size=int(count) + 1))
tracer = provider.get_tracer("test")
for number in range(int(count)):
    said = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m-1",
        "gen_ai.usage.input_tokens": 10 if number else -1,
        "gen_ai.usage.output_tokens": 2,
    }
    tracer.start_span("chat m-1", attributes=said, start_time=time.time_ns() - 100_000_000).end()
provider.force_flush(60_000)
provider.shutdown()
