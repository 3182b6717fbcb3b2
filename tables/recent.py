"""Calls that are kept whole: of each tenant and minute the first errors of each class, the slowest, and a sample.

Keys: b"n" + window + tenant NUL partition NUL place -> `KeptCall`. Which calls a partition keeps depends only on which
it has counted, not on their order: a call takes the place of one that it displaces, so there are never more.
"""

from bisect import insort
from collections.abc import Iterator

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

_Rank = tuple[int, str]
"""The lower one is kept. No two calls have the same: the second part is the request id."""
_SLOW, _SAMPLE = "slow", "sample"  # no class of errors has these names
_ANY = 1 << 32


class Minute:
    """The places of one tenant and window, and who has them."""

    __slots__ = ("best", "name", "places", "sampled", "slow_us", "window")

    def __init__(self, window: int, name: str) -> None:
        self.window = window
        self.name = name
        self.best: dict[str, list[tuple[_Rank, int]]] = {_SLOW: [], _SAMPLE: []}
        """By error class, and the slowest and the sample: ranks with their places, the best first."""
        self.places: list[int] = []
        """Why each is taken; 0: it is free."""
        self.slow_us = 0
        """A call that took less is none of the slowest."""
        self.sampled = _ANY
        """A call of a higher rank is not in the sample."""

    def takes(self, reason: str, rank: _Rank) -> bool:
        """Whether a call of this rank has to be kept."""
        best = self.best.setdefault(reason, [])
        return len(best) < _room(reason) or rank < best[-1][0]

    def take(self, ranks: dict[str, _Rank]) -> tuple[int, set[int]]:
        """Give a call a place, for these reasons; returns that and other places of which the reasons have changed."""
        changed: set[int] = set()
        for reason in ranks:
            best = self.best[reason]
            if len(best) == _room(reason):
                place = best.pop()[1]
                self.places[place] &= ~_bit(reason)
                changed.add(place)
        place = self.places.index(0) if 0 in self.places else len(self.places)
        self.hold(place, ranks)
        return place, changed - {place}

    def hold(self, place: int, ranks: dict[str, _Rank]) -> None:
        """A call has this place."""
        self.places += [0] * (place + 1 - len(self.places))
        for reason, rank in ranks.items():
            insort(self.best.setdefault(reason, []), (rank, place))
            self.places[place] |= _bit(reason)
        slow, sample = self.best[_SLOW], self.best[_SAMPLE]
        self.slow_us = -slow[-1][0][0] if len(slow) == SLOWEST else 0
        self.sampled = sample[-1][0][0] if len(sample) == SAMPLED else _ANY


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
        ranks = {
            reason: rank
            for reason, rank in _ranks(request.ts_us, request_id, used.latency_us, rank, used.error_type)
            if minute.takes(reason, rank)
        }
        if not ranks:
            return
        asked = request.asked if event is None else self._details.of_request(event)
        answered = response.answered if event is None else self._details.of_response(event)
        if not self._details.captures:  # a half may have waited since content was captured
            asked = asked and replace(asked, prompt=None)
            answered = answered and replace(answered, response=None)
        place, changed = minute.take(ranks)
        self._dirty[_key(minute, place)] = KeptCall(
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
            key, why = _key(minute, other), minute.places[other]
            call = self._at(key) if why else None
            self._dirty[key] = call = call or KeptCall()
            call.why = why

    def rest(self, closed: int) -> None:
        """A later call of a closed window has its minute read from the state."""
        self._minutes = {place: minute for place, minute in self._minutes.items() if place[0] > closed}
        super().rest(closed)

    def _found(self, window: int, tenant_id: str) -> Minute:
        """As the state has it."""
        minute, place = Minute(window, f"{tenant_id}\0{self._partition}"), 0
        while (call := self._at(_key(minute, place))) is not None:
            ranks = _ranks(call.at_us, call.request_id, call.latency_us, call.rank, call.error_type)
            minute.hold(place, {reason: rank for reason, rank in ranks if call.why & _bit(reason)})
            place += 1
        return minute

    def _at(self, key: bytes) -> KeptCall | None:
        """What a place holds; past the cache, where texts would stay for long."""
        call = self._dirty.get(key)
        if call is None:
            raw = self._state.get(key)
            return None if raw is None else decode_call(raw)
        return call


def _ranks(
    at_us: int, request_id: str, latency_us: int, rank: int, error_type: str | None
) -> Iterator[tuple[str, _Rank]]:
    """Of a call, by reason."""
    yield _SLOW, (-latency_us, request_id)
    yield _SAMPLE, (rank, request_id)
    if error_type is not None:
        yield error_type, (at_us, request_id)


def _room(reason: str) -> int:
    return SLOWEST if reason == _SLOW else SAMPLED if reason == _SAMPLE else ERRORS


def _bit(reason: str) -> int:
    return SLOW if reason == _SLOW else SAMPLE if reason == _SAMPLE else ERROR


def _key(minute: Minute, place: int) -> bytes:
    return window_key(PREFIX, minute.window, f"{minute.name}\0{place}".encode())
