"""`/v1/dlq`: the dead letters, one of them with its event's bytes, and sending events again."""

import base64
from typing import Annotated, Any

import msgspec
import orjson
from aiohttp import web
from faust.web import View

from streamlens.app import app
from streamlens.deadletters import REASONS, LetterReader
from streamlens.errors import Unavailable
from streamlens.fields import MAX_TIME_US
from streamlens.letterreplay import Batch, Fate, judge, send
from streamlens.log import TP
from streamlens.postgres import letters
from streamlens.postgres.letters import Place, Selection
from streamlens.topics import SOURCES
from web.parameters import Parameters
from web.problem import Problem
from web.query import answered
from web.services import Services, current

SELECTION = ("reason", "tenant_id", "topic", "from", "to", "limit")
MAX_BATCH = 1000
"""Letters that one call looks at, to replay them."""


class Start(msgspec.Struct, frozen=True, array_like=True):
    """Where a replay is: when it began (0: now), and the last letter that it has looked at."""

    began_us: Annotated[int, msgspec.Meta(ge=0, lt=MAX_TIME_US)] = 0
    after: Place | None = None


_YES_NO = {"true": 1, "false": 0}
_NO_LETTER = "there is no such letter, or it is not kept any more"


@app.page("/v1/dlq")
class DeadLetters(View):
    """Letters, newest first, without their events' bytes."""

    async def get(self, request: web.Request, **_: Any) -> web.Response:
        parameters = Parameters(request, SELECTION)
        limit = parameters.count("limit", 1, 10_000, 60)
        found = await answered(letters.newest(current().pool, _selection(parameters), limit))
        return _json({"letters": found, "count": len(found)})


@app.page("/v1/dlq/{topic}/{partition}/{offset}")
class DeadLetter(View):
    """One letter with its event's bytes: as text where they are UTF-8, else in base64."""

    async def get(self, request: web.Request, topic: str, partition: str, offset: str, **_: Any) -> web.Response:
        tenant_id = Parameters(request, ("tenant_id",)).name("tenant_id")
        if topic not in SOURCES or not _is_number(partition, 1 << 31) or not _is_number(offset, 1 << 63):
            raise Problem(404, _NO_LETTER)
        services = current()
        row = await answered(letters.find(services.pool, topic, int(partition), int(offset)))
        if row is None or tenant_id not in (None, row["tenant_id"]):
            raise Problem(404, _NO_LETTER)
        origin = TP(row["topic"], row["partition"])
        letter = await LetterReader(services.log).read(origin, row["origin_offset"], row["letter_offset"])
        if letter is None:
            raise Problem(404, _NO_LETTER)
        return _json(letters.told(row) | _shown(letter.value))


@app.page("/v1/dlq/replay")
class ReplayLetters(View):
    """Sends a batch of events again, the oldest letters first; `next` of the answer is the next call's `after`."""

    async def post(self, request: web.Request, **_: Any) -> web.Response:
        parameters = Parameters(request, (*SELECTION, "again", "dry_run", "after"))
        selection, start = _selection(parameters), _start(parameters)
        limit = parameters.count("limit", 1, MAX_BATCH, 100)
        again = bool(parameters.choice("again", _YES_NO, "false"))
        dry_run = bool(parameters.choice("dry_run", _YES_NO, "false"))
        services = current()
        now_us = services.clock_us()
        began_us = start.began_us or now_us
        rows = await answered(
            letters.oldest_unsent(services.pool, selection, start.after, began_us, again=again, limit=limit)
        )
        batch = await judge(services.log, rows, services.settings, now_us)
        if not dry_run:
            await _send(services, batch, max(began_us, now_us))
        looked_at = rows[: len(batch.fates)]
        more = len(looked_at) == limit or len(looked_at) < len(rows)
        answer: dict[str, object] = {
            **batch.counts,
            "dry_run": dry_run,
            "letters": [_judgement(row, fate) for row, fate in zip(looked_at, batch.fates, strict=True)],
            "next": _token(Start(began_us, letters.place_of(looked_at[-1]))) if more else None,
        }
        return _json(answer)


async def _send(services: Services, batch: Batch, now_us: int) -> None:
    """Send first, then remember: what is broken off in between is sent twice, and counts once."""
    sent = await send(services.log, batch)
    await answered(letters.mark(services.pool, sent, now_us))
    if len(sent) < batch.counts["sent"]:
        raise Unavailable("the log did not confirm all; replay again, what is repeated counts once")


def _judgement(row: Any, fate: Fate) -> dict[str, object]:
    return {"topic": row["topic"], "partition": row["partition"], "offset": row["origin_offset"], "fate": fate}


def _selection(parameters: Parameters) -> Selection:
    from_us, to_us = parameters.span_us()
    return Selection(
        reason=parameters.one_of("reason", REASONS),
        tenant_id=parameters.name("tenant_id"),
        topic=parameters.one_of("topic", SOURCES),
        from_us=from_us,
        to_us=to_us,
    )


def _start(parameters: Parameters) -> Start:
    """Where to go on: the opaque text that the call before has answered with. Raises `Problem` 400."""
    token = parameters.name("after")
    if token is None:
        return Start()
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token), type=Start)
    except (ValueError, msgspec.DecodeError):
        raise Problem(400, "not the `next` of a replay's answer", field="after") from None


def _token(start: Start) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(start)).decode()


def _shown(value: bytes) -> dict[str, str]:
    try:
        return {"value": value.decode(), "encoding": "utf-8"}
    except UnicodeDecodeError:
        return {"value": base64.b64encode(value).decode(), "encoding": "base64"}


def _is_number(text: str, below: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) < below


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
