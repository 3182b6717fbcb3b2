"""Lists of windows, the newest first and those of one time by names: where they go on, and how far to look back."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import asyncpg
import msgspec
from msgspec import Meta

from streamlens.events import time_us
from streamlens.fields import MAX_TIME_US
from streamlens.postgres.rows import EPOCH, time_of

TimeUs = Annotated[int, Meta(ge=0, lt=MAX_TIME_US)]
Text = Annotated[str, Meta(max_length=4096, pattern="^[^\\x00]*$")]


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A row's place in a list of windows of a step: its window's start, and what orders those of one time."""

    step_us: TimeUs
    window_us: TimeUs
    names: Annotated[dict[str, Text | None], Meta(max_length=5)]

    @classmethod
    def of(cls, row: Mapping[str, Any], step_us: int, columns: Sequence[str], time: str = "window_start") -> "Place":
        """That of a row as it is answered, whose window starts at the column `time`."""
        return cls(step_us, time_us(datetime.fromisoformat(row[time])), {name: row[name] for name in columns})

    def is_of(self, step_us: int, columns: Sequence[str]) -> bool:
        """Whether it is a place in the list of this step and these columns, of which none but a version may be null."""
        nulls = {name for name, value in self.names.items() if value is None} - {"model_version"}
        return self.step_us == step_us and tuple(self.names) == tuple(columns) and not nulls


def until(to_us: int | None, after: Place | None) -> int | None:
    """What comes after a place begins before this; its own window's other rows do."""
    if after is None:
        return to_us
    end_us = min(after.window_us + after.step_us, MAX_TIME_US - 1)
    return end_us if to_us is None else min(to_us, end_us)


def beyond(after: Place | None, columns: Sequence[str], number: int, time: str = "window_start") -> str:
    """The condition that rows before `until` come after a place. Its parameters are `values_of`, from `number` on.

    The rows need not be merged to steps yet: those before the place's window are in steps before it.
    """
    if after is None:
        return "true"
    values = ", ".join(f"${number + 1 + at}" for at in range(len(columns)))
    return f"({time} < ${number} or ({', '.join(columns)}) > ({values}))"


def values_of(after: Place | None, columns: Sequence[str]) -> list[Any]:
    """The parameters of `beyond`."""
    return [] if after is None else [time_of(after.window_us), *(after.names[name] for name in columns)]


async def newest(
    connection: asyncpg.Connection,
    query: str,
    span: str,
    chosen: tuple[Any, ...],
    limit: int,
    step_us: int,
    beyond: Sequence[Any] = (),
) -> Sequence[Mapping[str, Any]]:
    """The `limit` newest rows of a query that merges windows to steps.

    Its parameters are `chosen`, of which the last two are the time from and to, `limit`, the step, and those `beyond`.
    `span` gives the oldest and the newest window of `chosen`.
    """
    *which, first, last = chosen
    step = timedelta(microseconds=step_us)

    async def rows(begin: datetime) -> Sequence[Mapping[str, Any]]:
        return await connection.fetch(query, *which, begin, last, limit, step, *beyond)  # type: ignore[no-any-return]

    async def ends() -> Sequence[datetime | None]:
        return await connection.fetchrow(span, *chosen)  # type: ignore[no-any-return]

    return await looked_back(rows, ends, first, limit, step)


async def looked_back(
    rows: Callable[[datetime], Awaitable[Sequence[Mapping[str, Any]]]],
    ends: Callable[[], Awaitable[Sequence[datetime | None]]],
    first: datetime | None,
    limit: int,
    step: timedelta,
) -> Sequence[Mapping[str, Any]]:
    """The same of `rows`, which gives those of the windows from a time on; `ends` the oldest and the newest window.

    Looks at the newest stretch only, and further back, at most to `first`, while it holds too few rows.
    """
    oldest, latest = await ends()
    if oldest is None or latest is None:
        return []
    oldest = oldest if first is None else max(oldest, first)
    latest -= (latest - EPOCH) % step
    back, all_steps = limit - 1, -((oldest - latest) // step)
    while back < all_steps:
        found = await rows(latest - back * step)
        if len(found) == limit:
            return found
        back = 8 * back + 1
    return await rows(oldest if first is None else first)
