"""Single records that are kept whole, a bounded number of each class: now lines of application logs.

Keys: b"r" + window + tenant NUL class NUL id -> `Record`. A record never changes. How many of a class are kept is the
number of its keys, so what is kept and what is not stays decided after a kill.
"""

from collections.abc import Callable

import msgspec

from tables.windowed import Windowed, window_key

PREFIX = b"r"
KEPT = 25
"""Records of one class, tenant and window in one partition: the first ones."""


class Record(msgspec.Struct, array_like=True):
    """When it happened, and what it says, as JSON."""

    at_us: int = 0
    content: bytes = b""

    def merge(self, other: "Record") -> None:
        """Nothing: an id has one content."""


encode_kept = msgspec.msgpack.Encoder().encode
decode_kept = msgspec.msgpack.Decoder(Record).decode


class Kept(Windowed[Record]):
    """Records by window, class and id."""

    def __init__(self) -> None:
        super().__init__(PREFIX, Record, encode_kept, decode_kept)
        self._counts: dict[bytes, int] = {}

    def add(self, window: int, tenant_id: str, kind: str, record_id: str, record: Callable[[], Record]) -> None:
        """Keep a record, if there is room for one more of its class."""
        begin = window_key(PREFIX, window, f"{tenant_id}\0{kind}\0".encode())
        count = self._counts.get(begin)
        if count is None:
            count = sum(1 for _ in self._state.scan(begin, begin + b"\xff"))  # a byte that no UTF-8 has
            count += sum(1 for key in self._dirty if key.startswith(begin))
        if count < KEPT:
            self._dirty[begin + record_id.encode()] = record()
        self._counts[begin] = count + 1

    def rest(self, closed: int) -> None:
        """A later record of a closed window has its class counted anew."""
        first = window_key(PREFIX, closed + 1)
        self._counts = {begin: count for begin, count in self._counts.items() if begin >= first}
