"""Calls that are kept whole, as rows of `llm_calls`."""

from decimal import Decimal
from typing import Any

import msgspec
import orjson

from streamlens.details import Answered, Asked
from streamlens.keptcall import WHY, KeptCall
from streamlens.postgres.observed import row_id
from streamlens.postgres.rows import time_of

_NOTHING_ASKED, _NOTHING_ANSWERED = Asked(), Answered()
_KEPT = [[name for bit, name in enumerate(WHY) if why >> bit & 1] for why in range(1 << len(WHY))]
"""The reasons that each `KeptCall.why` stands for."""


class CallRow(msgspec.Struct, frozen=True, gc=False):
    """One place of a tenant's minute. `key` is the row's in the state."""

    key: bytes
    tenant_id: str
    window_start_us: int
    call: KeptCall
    version: tuple[int, int]


CALL_COLUMNS = """
    id tenant_id request_id at kept route model provider latency_us ttft_us
    prompt_tokens completion_tokens cached_tokens cache_write_tokens reasoning_tokens estimated_cost_usd
    error_type error_type_raw error finish_reason user_id_hash session_id
    experiment variant prompt_version model_version region client_app client_os stream metadata prompt response version
"""


def call_record(row: CallRow) -> tuple[Any, ...]:
    """The values of `CALL_COLUMNS`. A free place has the time of its minute, and leaves with it."""
    call = row.call
    asked, answered = call.asked or _NOTHING_ASKED, call.answered or _NOTHING_ANSWERED
    return (
        row_id(row.key),
        row.tenant_id,
        call.request_id,
        time_of(call.at_us if call.why else row.window_start_us),
        _KEPT[call.why],
        call.route,
        call.model,
        call.provider,
        call.latency_us,
        call.ttft_us,
        call.prompt_tokens,
        call.completion_tokens,
        call.cached_tokens,
        call.cache_write_tokens,
        call.reasoning_tokens,
        None if call.cost_pico is None else Decimal(f"{call.cost_pico}e-12"),
        call.error_type,
        answered.error_type,
        answered.error,
        answered.finish_reason,
        None if call.user is None else call.user.hex(),
        call.session_id,
        asked.experiment,
        asked.variant,
        asked.prompt_version,
        asked.model_version,
        asked.region,
        asked.client_app,
        asked.client_os,
        asked.stream,
        None if asked.metadata is None else orjson.Fragment(asked.metadata),
        asked.prompt,
        answered.response,
        row.version,
    )
