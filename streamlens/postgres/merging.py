"""The SQL that adds up rows of calls, and where they are: hours as far as there are any, minutes for the rest.

For tables with the measures of `llm_metrics`. All sums are of integers, so it does not matter what is added up first.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

import asyncpg

from streamlens.postgres.rows import EPOCH

HOUR = timedelta(hours=1)
_TICK = timedelta(microseconds=1)
BEGINNING, END = EPOCH, datetime(9999, 12, 31, tzinfo=EPOCH.tzinfo)
"""Of all times that rows may have."""

MEASURES = """requests, errors, error_types,
    latency_sum_us, latency_min_us, latency_max_us, latency_zero, latency_index, latency_count,
    ttft_requests, ttft_sum_us, ttft_min_us, ttft_max_us, ttft_zero, ttft_index, ttft_count,
    prompt_tokens, completion_tokens, cached_tokens, cache_write_tokens, reasoning_tokens,
    priced, partly_priced, unpriced, reported, price_versions, estimated_cost_usd, revision, final"""

SUMS = """
    sum(requests)::bigint as requests, sum(errors)::bigint as errors,
    sum(latency_sum_us)::bigint as latency_sum_us,
    min(latency_min_us) filter (where requests > 0) as latency_min_us, max(latency_max_us) as latency_max_us,
    histogram_merge(latency_zero, latency_index, latency_count) as latency,
    sum(ttft_requests)::bigint as ttft_requests, sum(ttft_sum_us)::bigint as ttft_sum_us,
    min(ttft_min_us) filter (where ttft_requests > 0) as ttft_min_us, max(ttft_max_us) as ttft_max_us,
    histogram_merge(ttft_zero, ttft_index, ttft_count) filter (where ttft_requests > 0) as ttft,
    sum(prompt_tokens)::bigint as prompt_tokens, sum(completion_tokens)::bigint as completion_tokens,
    sum(cached_tokens)::bigint as cached_tokens, sum(cache_write_tokens)::bigint as cache_write_tokens,
    sum(reasoning_tokens)::bigint as reasoning_tokens,
    sum(priced)::bigint as priced, sum(partly_priced)::bigint as partly_priced,
    sum(unpriced)::bigint as unpriced, sum(reported)::bigint as reported,
    sum(estimated_cost_usd) as estimated_cost_usd,
    sum(revision)::bigint as revision, bool_and(final) as final"""
"""`MEASURES` of many rows as one, with the histograms `latency` and `ttft`; without the counts by name."""

_MARKS = "select hours_until, minutes_from from llm_history"


class Marks(NamedTuple):
    """Hours before `hours_until` have their rows, minutes from `minutes_from` on; see migration 011."""

    hours_until: datetime
    minutes_from: datetime

    def of(self, step: timedelta) -> "Marks":
        """The same for windows of `step`: hours can't be parted again."""
        return self if step % HOUR == timedelta() else self._replace(hours_until=BEGINNING)


class Piece(NamedTuple):
    """A part of a span, begin <= window_start < end, and how the names of the tables end that have its rows."""

    table: str
    begin: datetime
    end: datetime


async def read_marks(connection: asyncpg.Connection) -> Marks:
    """To be read in the transaction that reads the rows."""
    return Marks(*await connection.fetchrow(_MARKS))


def pieces(first: datetime, last: datetime, marks: Marks) -> list[Piece]:
    """The rows of [first, last), each once: whole hours where there are some, minutes for the rest.

    Of hours whose minutes are gone only whole ones count.
    """
    end = min(hour_of(last), marks.hours_until)
    begin = hour_of(first + HOUR - _TICK) if first < end else end  # the last hour of all times has none after it
    if begin >= end:
        found = [Piece("", first, last)]
    else:
        found = [Piece("", first, begin), Piece("_hourly", begin, end), Piece("", end, last)]
    kept = (each if each.table else each._replace(begin=max(each.begin, marks.minutes_from)) for each in found)
    return [each for each in kept if each.begin < each.end]


def hour_of(time: datetime) -> datetime:
    """The beginning of the hour that `time` is in."""
    return time - (time - EPOCH) % HOUR
