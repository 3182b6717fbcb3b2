"""Users and sessions: on which routes they were, day by day.

Keys: b"v" + window + tenant NUL kind NUL visitor NUL route -> `Visit`, where the window is the last one that a day has
a part in, so that a row is open as long as any call of its day counts. A user is its keyed hash, a session its id.
b"V" + window + tenant NUL kind -> `Tally`: how many rows there are.
"""

from collections import Counter
from collections.abc import Iterator

from streamlens.checkpoint.state import State
from streamlens.join import RequestHalf
from streamlens.tally import Tally, decode_tally, encode_tally
from streamlens.usage import Usage
from streamlens.userhash import UserHash
from streamlens.visit import DAY_US, SESSION, USER, Visit, decode_visit, encode_visit
from tables.windowed import Windowed, window_key

PREFIX = b"v"
_ROOMS = b"V"


class Visits:
    """The rows of one partition."""

    prefixes = PREFIX

    def __init__(self, window_us: int, limit: int, user_hash: UserHash) -> None:
        """`limit`: rows of one kind, tenant and day; 0 keeps none."""
        self._window_us = window_us
        self._limit = limit
        self._user_hash = user_hash
        self._rows = Windowed(PREFIX, Visit, encode_visit, decode_visit)
        self._rooms = Windowed(_ROOMS, Tally, encode_tally, decode_tally)
        self._beyond: Counter[tuple[int, str, str]] = Counter()

    def open(self, state: State, closed: int) -> None:
        self._rows.open(state, closed)
        self._rooms.open(state, closed)

    def count(self, window: int, request: RequestHalf, place: tuple[str, str], used: Usage, cost: int | None) -> None:
        """Note a call whose user or session is known. `place` is the route and the model under which it counts."""
        if not self._limit:
            return
        tenant_id, ts_us = request.tenant_id, request.ts_us
        route, model = place
        user = self._user_hash.of(tenant_id, request.user_id).hex() if request.user_id else ""
        if user:
            key, visit = self._row(window, ts_us, tenant_id, USER, user, route)
            if visit is not None and visit.see(ts_us, model):
                self._rows.touch(key, visit)
        if request.session_id:
            key, visit = self._row(window, ts_us, tenant_id, SESSION, request.session_id, route)
            if visit is not None:
                visit.add(ts_us, model, user, used, cost)
                self._rows.touch(key, visit)

    def _row(
        self, window: int, ts_us: int, tenant_id: str, kind: str, visitor: str, route: str
    ) -> tuple[bytes, Visit | None]:
        """A visitor's row and its key; None where there is no room for one more, which is counted by the window."""
        last_window = ((ts_us // DAY_US + 1) * DAY_US - 1) // self._window_us
        key = window_key(PREFIX, last_window, f"{tenant_id}\0{kind}\0{visitor}\0{route}".encode())
        visit = self._rows.look(key)
        if not visit.minutes:  # it is new
            room_key = window_key(_ROOMS, last_window, f"{tenant_id}\0{kind}".encode())
            room = self._rooms.look(room_key)
            if room.count >= self._limit:
                self._beyond[window, tenant_id, kind] += 1
                return key, None
            room.add()
            self._rooms.touch(room_key, room)
        return key, visit

    def beyond(self) -> Iterator[tuple[int, str, str, int]]:
        """Window, tenant, kind and number of the calls since the last time for which there was no room."""
        for place, calls in self._beyond.items():
            yield *place, calls
        self._beyond.clear()

    def flush(self, expired: int) -> None:
        self._rows.flush(expired)
        self._rooms.flush(expired)

    def rest(self, closed: int) -> None:
        self._rows.rest(closed)
        self._rooms.rest(closed)
