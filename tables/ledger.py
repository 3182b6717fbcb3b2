"""The ledger: where each received event went, per tenant and minute.

Keys: b"l" + window + tenant -> `Entry`. A response that waits is booked to tenant "" and its own minute; once joined,
to its request's. `received` is counted on its own, so that the sum of the rest can be checked against it.
"""

from typing import Literal

import msgspec

from tables.windowed import Windowed, window_key

PREFIX = b"l"
NOBODY = ""
"""The tenant of events whose tenant is not known."""


class Entry(msgspec.Struct, array_like=True, gc=False):
    """Counts of events: `received = aggregated + pending + orphaned + duplicate + late + rejected`."""

    received: int = 0
    aggregated: int = 0
    pending: int = 0
    orphaned: int = 0
    duplicate: int = 0
    late: int = 0
    rejected: int = 0

    def aggregate(self, events: int) -> None:
        """A call of one or two events was counted."""
        self.received += events
        self.aggregated += events

    def merge(self, other: "Entry") -> None:
        """Add the counts of `other` to these."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_encode = msgspec.msgpack.Encoder().encode
decode_entry = msgspec.msgpack.Decoder(Entry).decode


def tenant_of(key: bytes) -> str:
    return key[5:].decode()


class Ledger(Windowed[Entry]):
    """The verbs of booking. A half counts as pending until its window is closed, then as orphaned."""

    def __init__(self) -> None:
        super().__init__(PREFIX, Entry, _encode, decode_entry)
        self.closed = -1

    def entry(self, window: int, tenant_id: str) -> Entry:
        """The row of a tenant's minute, to be changed until the next flush."""
        return self.change(window_key(PREFIX, window, tenant_id.encode()))

    def book(self, window: int, tenant_id: str, column: Literal["duplicate", "late", "rejected"]) -> None:
        """An event was received and ends here."""
        entry = self.entry(window, tenant_id)
        entry.received += 1
        setattr(entry, column, getattr(entry, column) + 1)

    def wait(self, window: int, tenant_id: str) -> None:
        """A half was received and waits for the other."""
        entry = self.entry(window, tenant_id)
        entry.received += 1
        if window <= self.closed:
            entry.orphaned += 1
        else:
            entry.pending += 1

    def leave(self, window: int, tenant_id: str) -> None:
        """A half waits no more; it is booked anew elsewhere."""
        entry = self.entry(window, tenant_id)
        entry.received -= 1
        if window <= self.closed:
            entry.orphaned -= 1
        else:
            entry.pending -= 1

    def orphan(self, window: int, tenant_id: str) -> None:
        """A half that waits has passed the join timeout."""
        entry = self.entry(window, tenant_id)
        entry.pending -= 1
        entry.orphaned += 1
