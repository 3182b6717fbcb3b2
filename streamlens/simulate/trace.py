"""A recorded trace (columns TIMESTAMP, ContextTokens, GeneratedTokens) as calls that end now, or begin now.

The file holds times and token counts only; everything else about a call follows from its row number and the seed.
"""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import NamedTuple

from streamlens.errors import BadSetting
from streamlens.simulate import mix
from streamlens.simulate.call import SimulatedCall

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
TENANTS = 4
ERROR_SHARE = 0.03

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Row(NamedTuple):
    """A row of the file: begin of the call in epoch microseconds, and its tokens."""

    at_us: int
    prompt_tokens: int
    completion_tokens: int


def read(path: Path) -> list[Row]:
    """The rows in order of time. A timestamp without an offset is UTC. Raises `BadSetting` naming the line at fault."""
    rows = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise BadSetting(f"{path}: no column {', '.join(missing)}")
            for record in reader:
                try:
                    rows.append(_row(record))
                except (TypeError, ValueError) as error:
                    raise BadSetting(f"{path}: line {reader.line_num}: {error}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadSetting(f"{path}: {error}") from error
    if not rows:
        raise BadSetting(f"{path}: no rows")
    return sorted(rows)


def calls(rows: list[Row], now_us: int, *, speed: float, seed: int) -> list[SimulatedCall]:
    """The rows as calls with their own spacing, shifted in whole: the last one ends at `now_us`.

    Up to real-time speed the first one begins at `now_us` instead, because a call can't be sent before it happens.
    Request ids hold `now_us`, so that the same trace can be sent again.
    """
    ends_us = max(row.at_us + _latency_us(row) for row in rows)
    shift_us = now_us - (ends_us if speed > 1 else rows[0].at_us)
    run = f"{now_us:x}-{seed}"
    return [_call(row, number, shift_us, run, seed) for number, row in enumerate(rows)]


def _row(record: dict[str, str]) -> Row:
    time = datetime.fromisoformat(record["TIMESTAMP"])
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time
    prompt, completion = int(record["ContextTokens"]), int(record["GeneratedTokens"])
    if prompt < 0 or completion < 0:
        raise ValueError("a negative count of tokens")
    return Row((time - _EPOCH) // _MICROSECOND, prompt, completion)


def _latency_us(row: Row) -> int:
    return 200_000 + 25_000 * row.completion_tokens


def _call(row: Row, number: int, shift_us: int, run: str, seed: int) -> SimulatedCall:
    random = Random(f"{seed}:{number}")
    caller = mix.draw_caller(random, TENANTS)
    error_type, error = mix.draw_failure(random) if random.random() < ERROR_SHARE else (None, None)
    cached, cache_write = mix.draw_cache(random, row.prompt_tokens)
    return SimulatedCall(
        request_id=f"{run}-{number}",
        tenant_id=caller.tenant_id,
        route=caller.route,
        model=caller.model,
        provider=caller.provider,
        started_us=row.at_us + shift_us,
        latency_us=_latency_us(row),
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        cached_tokens=cached,
        cache_write_tokens=cache_write,
        reasoning_tokens=row.completion_tokens // 4 if random.random() < 0.1 else 0,
        ttft_us=random.randrange(50_000, 200_000) if random.random() < 0.7 else None,
        error=error,
        error_type=error_type,
        user_id_hash=f"user-{random.randrange(200)}",
        tells_latency=number % 7 != 0,
    )
