"""`/v1/dlq`: the dead letters, one of them with its event's bytes, and sending events again."""

import base64
from typing import Annotated, Any, Literal

import msgspec
from faust.web import View
from msgspec import Meta

from streamlens.app import app
from streamlens.deadletters import LetterReader, Reason
from streamlens.errors import Unavailable
from streamlens.fields import MAX_TIME_US
from streamlens.letterreplay import Batch, Fate, judge, send
from streamlens.log import TP
from streamlens.postgres import letters
from streamlens.postgres.letters import Place, Selection
from streamlens.topics import SOURCES
from web.asked import PLACE, Asked, Limit, Spanned, one_of
from web.contract import Answer, Time, asks
from web.cursor import after, token
from web.problem import Problem
from web.query import answered
from web.services import Services, current

MAX_BATCH = 1000
"""Letters that one call looks at, to replay them."""
Topic = Annotated[str, one_of(SOURCES)]

_NO_LETTER = "there is no such letter, or it is not kept any more"


class Start(msgspec.Struct, frozen=True, array_like=True):
    """Where a replay is: when it began (0: now), and the last letter that it has looked at."""

    began_us: Annotated[int, msgspec.Meta(ge=0, lt=MAX_TIME_US)] = 0
    after: Place | None = None


class _Selected(Spanned, frozen=True, kw_only=True):
    """Which letters are meant, by when they were found."""

    reason: Reason | None = None
    topic: Topic | None = None

    @property
    def selection(self) -> Selection:
        return Selection(
            reason=self.reason,
            tenant_id=self.tenant_id,
            topic=self.topic,
            from_us=self.from_us,
            to_us=self.to_us,
        )


class LettersAsked(_Selected, frozen=True, kw_only=True):
    """Which letters."""

    limit: Limit = 60
    cursor: Annotated[Place, PLACE] | None = None


class Letter(Answer, frozen=True, kw_only=True):
    """An event that could not be counted, by where it stands in the log."""

    topic: str
    partition: int
    offset: int
    reason: Reason
    tenant_id: Annotated[str, Meta(description='`""` when the event does not tell it')]
    field: str
    detail: str
    time: Annotated[Time, Meta(description="When it was found")]
    size_bytes: int
    truncated: Annotated[bool, Meta(description="The letter has only the first MiB")]
    replayed_at: Annotated[Time | None, Meta(description="When its event was last sent again")]


class LettersAnswer(Answer, frozen=True, kw_only=True):
    """Newest first."""

    letters: list[Letter]
    count: int
    next: str | None


@app.page("/v1/dlq")
class DeadLetters(View):
    """Dead letters, newest first, without their events' bytes."""

    @asks(LettersAsked, LettersAnswer)
    async def get(self, asked: LettersAsked) -> dict[str, Any]:
        rows = await answered(letters.newest(current().pool, asked.selection, asked.cursor, asked.limit))
        found = [letters.told(row) for row in rows]
        return {"letters": found, "count": len(found), "next": after(rows, asked.limit, letters.place_of)}


class LetterAsked(Asked, frozen=True, kw_only=True):
    """Where the event stands in the log."""

    topic: Topic
    partition: Annotated[int, Meta(ge=0, le=(1 << 31) - 1)]
    offset: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class LetterAnswer(Letter, frozen=True, kw_only=True):
    """A letter with its event."""

    value: str
    encoding: Literal["utf-8", "base64"]


@app.page("/v1/dlq/{topic}/{partition}/{offset}")
class DeadLetter(View):
    """One letter with its event's bytes: as text where they are UTF-8, else in base64."""

    @asks(LetterAsked, LetterAnswer)
    async def get(self, asked: LetterAsked) -> dict[str, Any]:
        services = current()
        row = await answered(letters.find(services.pool, asked.topic, asked.partition, asked.offset))
        if row is None or asked.tenant_id not in (None, row["tenant_id"]):
            raise Problem(404, _NO_LETTER)
        origin = TP(row["topic"], row["partition"])
        letter = await LetterReader(services.log).read(origin, row["origin_offset"], row["letter_offset"])
        if letter is None:
            raise Problem(404, _NO_LETTER)
        return letters.told(row) | _shown(letter.value)


class ReplayAsked(_Selected, frozen=True, kw_only=True):
    """Which events are sent again; the oldest letters come first."""

    limit: Annotated[int, Meta(ge=1, le=MAX_BATCH, description="Letters to look at in this call")] = 100
    again: Annotated[bool, Meta(description="Also those that were sent again before this replay began")] = False
    dry_run: Annotated[bool, Meta(description="Send nothing")] = False
    after: Annotated[Start, PLACE] = Start()


class Judgement(Answer, frozen=True, kw_only=True):
    """What became of a letter."""

    topic: str
    partition: int
    offset: int
    fate: Fate


class ReplayAnswer(Answer, frozen=True, kw_only=True):
    """How many letters had each fate, and that of each."""

    sent: int
    late_again: int
    bad_again: int
    truncated: int
    same: int
    gone: int
    dry_run: bool
    letters: list[Judgement]
    next: str | None


@app.page("/v1/dlq/replay")
class ReplayLetters(View):
    """Sends a batch of events again, the oldest letters first; `next` of the answer is the next call's `after`."""

    @asks(ReplayAsked, ReplayAnswer)
    async def post(self, asked: ReplayAsked) -> dict[str, Any]:
        services, start = current(), asked.after
        now_us = services.clock_us()
        began_us = start.began_us or now_us
        rows = await answered(
            letters.oldest_unsent(
                services.pool, asked.selection, start.after, began_us, again=asked.again, limit=asked.limit
            )
        )
        batch = await judge(services.log, rows, services.settings, now_us)
        if not asked.dry_run:
            await _send(services, batch, max(began_us, now_us))
        looked_at = rows[: len(batch.fates)]
        more = len(looked_at) == asked.limit or len(looked_at) < len(rows)
        return {
            **batch.counts,
            "dry_run": asked.dry_run,
            "letters": [_judgement(row, fate) for row, fate in zip(looked_at, batch.fates, strict=True)],
            "next": token(Start(began_us, letters.place_of(looked_at[-1]))) if more else None,
        }


async def _send(services: Services, batch: Batch, now_us: int) -> None:
    """Send first, then remember: what is broken off in between is sent twice, and counts once."""
    sent = await send(services.log, batch)
    await answered(letters.mark(services.pool, sent, now_us))
    if len(sent) < batch.counts["sent"]:
        raise Unavailable("the log did not confirm all; replay again, what is repeated counts once")


def _judgement(row: Any, fate: Fate) -> dict[str, object]:
    return {"topic": row["topic"], "partition": row["partition"], "offset": row["origin_offset"], "fate": fate}


def _shown(value: bytes) -> dict[str, str]:
    try:
        return {"value": value.decode(), "encoding": "utf-8"}
    except UnicodeDecodeError:
        return {"value": base64.b64encode(value).decode(), "encoding": "base64"}
