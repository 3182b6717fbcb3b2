"""The topics, their keys and what travels between the stages."""

import msgspec

REQUESTS = "llm.requests"
RESPONSES = "llm.responses"
CALLS = "llm.calls"
INPUTS = {REQUESTS: "request", RESPONSES: "response", CALLS: "call"}
"""Input topics, keyed by request id and equally partitioned, with the kind of event in each."""

PARTIALS = "streamlens.partials"
METRICS = "llm.metrics"
DEAD_LETTERS = "streamlens.dlq"


class Partial(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One partition's whole contribution to one row, as published by stage one.

    `key` is the row's key in the state of both stages; `CLOSED_KEY` announces (closed window, expired window) instead.
    A repeated or reordered partial changes nothing: only a higher (generation, epoch) of a partition counts.
    """

    partition: int
    generation: int
    epoch: int
    key: bytes
    content: bytes
    appended_ms: int = 0
    """When the oldest event of the epoch was appended to its topic, to measure freshness; 0 when not known."""


CLOSED_KEY = b"c"

encode_partial = msgspec.msgpack.Encoder().encode
decode_partial = msgspec.msgpack.Decoder(Partial).decode
encode_closed = msgspec.msgpack.Encoder().encode
decode_closed = msgspec.msgpack.Decoder(tuple[int, int]).decode
