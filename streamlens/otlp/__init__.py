"""OpenTelemetry's protocol (OTLP): its messages, and what its spans, log records and data points are as our events.

A message is one that protobuf has decoded, or its JSON form in the same shape; whoever serves it may be HTTP or gRPC.
"""
