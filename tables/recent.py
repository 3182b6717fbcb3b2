"""Calls that are kept whole: of each tenant and minute the first errors of each class, the slowest, and a sample.

Keys: b"n" + window + tenant NUL partition NUL place -> `KeptCall`. Which calls a partition keeps depends only on which
it has counted, not on their order: a call takes the place of one that it displaces, so there are never more.
"""

from bisect import insort

import msgspec
from msgspec.structs import replace

from streamlens.details import Details
from streamlens.events import Call
from streamlens.join import RequestHalf, ResponseHalf
from streamlens.keptcall import ERROR, SAMPLE, SLOW, KeptCall, decode_call, encode_call
from streamlens.usage import Usage
from streamlens.userhash import UserHash
from tables.windowed import Windowed, window_key

PREFIX = b"n"
ERRORS = 25
"""Of each class: the first ones by their time. So many of one class do not push out another."""
SLOWEST = 5
SAMPLED = 5
"""All three of one tenant and window in one partition."""

_Held = tuple[int, str, int]
"""A rank, the request id and the place of a call: the lower one is kept. No two calls have the same rank and id."""
_Reason = tuple[list[_Held], int, int, tuple[int, str]]
"""Who is kept for it so far, the best first; how many can be; its bit in `KeptCall.why`; a call's rank and id."""
_ANY = 1 << 32


class Minute(msgspec.Struct, gc=False):
    """The places of one tenant and window, and who has them."""

    key: bytes
    """How the keys of its places begin."""
    slow: list[_Held] = []
    sample: list[_Held] = []
    errors: dict[str, list[_Held]] = {}
    places: list[int] = []
    """Why each is taken; 0: it is free."""
    slow_us: int = 0
    """A call that took less is none of the slowest."""
    sampled: int = _ANY
    """A call of a higher rank is not in the sample."""

    def reasons(self, at_us: int, request_id: str, latency_us: int, rank: int, error_type: str | None) -> list[_Reason]:
        """All for which a call could be kept."""
        slow = (self.slow, SLOWEST, SLOW, (-latency_us, request_id))
        sample = (self.sample, SAMPLED, SAMPLE, (rank, request_id))
        if error_type is None:
            return [slow, sample]
        return [slow, sample, (self.errors.setdefault(error_type, []), ERRORS, ERROR, (at_us, request_id))]

    def take(self, reasons: list[_Reason]) -> tuple[int, list[int]]:
        """Give a call a place, for these reasons; returns that and other places of which the reasons have changed."""
        changed, places = [], self.places
        for best, room, bit, _ in reasons:
            if len(best) == room:
                place = best.pop()[2]
                places[place] &= ~bit
                changed.append(place)
        place = places.index(0) if 0 in places else len(places)
        self.hold(place, reasons)
        return place, [other for other in changed if other != place]

    def hold(self, place: int, reasons: list[_Reason]) -> None:
        """A call has this place: one that was free, or one more."""
        if place == len(self.places):
            self.places.append(0)
        for best, _, bit, rank in reasons:
            insort(best, (*rank, place))
            self.places[place] |= bit
        self.slow_us = -self.slow[-1][0] if len(self.slow) == SLOWEST else 0
        self.sampled = self.sample[-1][0] if len(self.sample) == SAMPLED else _ANY


class Recent(Windowed[KeptCall]):
    """The calls that one partition keeps."""

    def __init__(self, partition: int, details: Details, user_hash: UserHash) -> None:
        super().__init__(PREFIX, KeptCall, encode_call, decode_call)
        self._partition = partition
        self._details = details
        self._user_hash = user_hash
        self._minutes: dict[tuple[int, str], Minute] = {}

    def minute(self, window: int, tenant_id: str) -> Minute:
        """What was kept so far: its `slow_us` and `sampled` say which calls are to be offered besides the errors."""
        minute = self._minutes.get((window, tenant_id))
        if minute is None:
            minute = self._minutes[window, tenant_id] = self._found(window, tenant_id)
        return minute

    def offer(
        self,
        minute: Minute,
        rank: int,
        request_id: str,
        request: RequestHalf,
        response: ResponseHalf,
        used: Usage,
        cost_pico: int | None,
        event: Call | None,
    ) -> None:
        """Keep a call if it is among the best by any reason; `rank` is what decides about the sample.

        The halves of a call that came whole have no details: its `event` has them.
        """
        request_id = request_id.partition("\0")[0]
        could = minute.reasons(request.ts_us, request_id, used.latency_us, rank, used.error_type)
        reasons = [each for each in could if len(each[0]) < each[1] or each[3] < each[0][-1]]
        if not reasons:
            return
        asked = request.asked if event is None else self._details.of_request(event)
        answered = response.answered if event is None else self._details.of_response(event)
        if not self._details.captures:  # a half may have waited since content was captured
            asked = asked and replace(asked, prompt=None)
            answered = answered and replace(answered, response=None)
        place, changed = minute.take(reasons)
        self._dirty[minute.key + b"%d" % place] = KeptCall(
            request.ts_us,
            minute.places[place],
            request_id,
            rank,
            request.route,
            request.model,
            request.provider,
            used.latency_us,
            used.ttft_us,
            used.prompt_tokens,
            used.completion_tokens,
            used.cached_tokens,
            used.cache_write_tokens,
            used.reasoning_tokens,
            None if cost_pico is None else str(cost_pico),
            used.error_type,
            None if request.user_id is None else self._user_hash.of(request.tenant_id, request.user_id),
            request.session_id,
            asked,
            answered,
        )
        for other in changed:
            key, why = minute.key + b"%d" % other, minute.places[other]
            call = self._at(key) if why else None
            self._dirty[key] = call = call or KeptCall()
            call.why = why

    def rest(self, closed: int) -> None:
        """A later call of a closed window has its minute read from the state."""
        self._minutes = {place: minute for place, minute in self._minutes.items() if place[0] > closed}
        super().rest(closed)

    def _found(self, window: int, tenant_id: str) -> Minute:
        """As the state has it."""
        minute = Minute(window_key(PREFIX, window, f"{tenant_id}\0{self._partition}\0".encode()))
        if minute.key >= self._new_from:
            return minute
        while (call := self._at(minute.key + b"%d" % len(minute.places))) is not None:
            could = minute.reasons(call.at_us, call.request_id, call.latency_us, call.rank, call.error_type)
            minute.hold(len(minute.places), [each for each in could if each[2] & call.why])
        return minute

    def _at(self, key: bytes) -> KeptCall | None:
        """What a place holds; past the cache, where texts would stay for long."""
        call = self._dirty.get(key)
        if call is None:
            raw = self._state.get(key)
            return None if raw is None else decode_call(raw)
        return call
