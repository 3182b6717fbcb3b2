"""What the fields of events may hold: the limits of the public contract (`docs/api.md`), as types."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

MIN_TIME_US = 946_684_800_000_000
MAX_TIME_US = 253_402_300_800_000_000
"""Times are in the years 2000 to 9999."""

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
Text = Annotated[str, Meta(max_length=256)]
Count = Annotated[int, Meta(ge=0, le=10_000_000)]
Millis = Annotated[float, Meta(ge=0, le=3_600_000)]
Usd = Annotated[float, Meta(ge=0, le=1_000_000)]
Time = Annotated[datetime, Meta(tz=True)] | Annotated[int, Meta(ge=MIN_TIME_US // 1000, lt=MAX_TIME_US // 1000)]
Scalars = dict[str, str | int | float | bool | None]


class Experiment(msgspec.Struct, frozen=True, gc=False):
    """Which variant of an experiment an event belongs to."""

    name: Name
    variant: Name
