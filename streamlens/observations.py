"""What applications tell besides their calls: evaluations of them, lines of their logs, and metrics of their systems.

Like calls they come with unknown fields, which are ignored; `streamlens.events.decode` reads them.
"""

from typing import Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import force_setattr

from streamlens.errors import BadEvent
from streamlens.fields import Experiment, Id, Name, Scalars, Text, Time

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
MAX_MESSAGE_BYTES = 8192
MAX_ATTRIBUTES = 32
MAX_TAGS = 16
MAX_SCALARS_BYTES = 4096
"""Of attributes or tags, as JSON."""

_OTHER_LEVELS = {
    "TRACE": "DEBUG",
    "VERBOSE": "DEBUG",
    "INFORMATION": "INFO",
    "NOTICE": "INFO",
    "WARN": "WARNING",
    "ERR": "ERROR",
    "FATAL": "CRITICAL",
    "CRIT": "CRITICAL",
    "ALERT": "CRITICAL",
    "EMERGENCY": "CRITICAL",
    "PANIC": "CRITICAL",
}
LEVEL_OF = {level: level for level in LEVELS} | _OTHER_LEVELS


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How good the call `request_id` was, in one respect (`name`): a `score`, a `label`, or both.

    Its identity is (`tenant_id`, `request_id`, `name`, `evaluator`).
    """

    request_id: Id
    tenant_id: Name
    name: Name
    timestamp: Time
    score: Annotated[float, Meta(ge=-1e9, le=1e9)] | None = None
    label: Name | None = None
    route: Name | None = None
    model: Name | None = None
    evaluator: Text | None = None
    explanation: str | None = None
    sender: Text | None = None
    experiment: Experiment | None = None

    def __post_init__(self) -> None:
        if self.score is None and self.label is None:
            raise BadEvent("score", "required, or `label`")


class AppLog(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A line of an application's log. `level` is one of `LEVELS` once it is read, however it was spelled."""

    timestamp: Time
    level: str
    message: str
    tenant_id: Name
    service: Name | None = None
    attributes: Scalars | None = None
    request_id: Id | None = None
    session_id: Text | None = None
    sender: Text | None = None

    def __post_init__(self) -> None:
        level = LEVEL_OF.get(self.level.strip().upper())
        if level is None:
            raise BadEvent("level", f"not one of {', '.join(LEVELS)}")
        force_setattr(self, "level", level)
        if len(self.message) > MAX_MESSAGE_BYTES // 4 and len(self.message.encode()) > MAX_MESSAGE_BYTES:
            raise BadEvent("message", f"larger than {MAX_MESSAGE_BYTES:,} bytes")
        check_scalars("attributes", self.attributes, MAX_ATTRIBUTES)


class SystemMetric(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One measurement of something: `value` in `unit`, of the thing that `tags` tell."""

    timestamp: Time
    name: Name
    value: Annotated[float, Meta(ge=-1e15, le=1e15)]
    tenant_id: Name
    unit: Text | None = None
    tags: Scalars | None = None
    sender: Text | None = None

    def __post_init__(self) -> None:
        check_scalars("tags", self.tags, MAX_TAGS)


Observation = Evaluation | AppLog | SystemMetric


def check_scalars(field: str, scalars: Scalars | None, max_entries: int) -> None:
    """Raises `BadEvent` for more than `max_entries`, or more than `MAX_SCALARS_BYTES` in all."""
    if scalars is None:
        return
    if len(scalars) > max_entries:
        raise BadEvent(field, f"more than {max_entries} entries")
    if len(msgspec.json.encode(scalars)) > MAX_SCALARS_BYTES:
        raise BadEvent(field, f"larger than {MAX_SCALARS_BYTES} bytes")
