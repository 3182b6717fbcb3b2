"""A call that is kept whole, as state and partials have it."""

import msgspec

from streamlens.details import Answered, Asked

WHY = ("error", "slow", "sample")
"""Why a call is kept; each is a bit of `KeptCall.why`, in this order."""
ERROR, SLOW, SAMPLE = (1 << bit for bit in range(len(WHY)))


class KeptCall(msgspec.Struct, array_like=True, gc=False):
    """Times in microseconds. With a `why` of 0 it is no call: its place is free."""

    at_us: int = 0
    why: int = 0
    request_id: str = ""
    rank: int = 0
    """In the sample: those with the lowest are in it."""
    route: str = ""
    model: str = ""
    provider: str | None = None
    latency_us: int = 0
    ttft_us: int | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_pico: str | None = None
    """In decimal digits, as by somebody's own prices it may be beyond 64 bits. None: its price is not known."""
    error_type: str | None = None
    user: bytes | None = None
    """As `UserHash` has it."""
    session_id: str | None = None
    asked: Asked | None = None
    answered: Answered | None = None

    def merge(self, other: "KeptCall") -> None:
        """Nothing: a place is of one partition."""


encode_call = msgspec.msgpack.Encoder().encode
decode_call = msgspec.msgpack.Decoder(KeptCall).decode
