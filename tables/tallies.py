"""One partition's counts of what has no cell of its own, per window.

Keys: b"s" + window + tenant NUL kind NUL name NUL detail -> `Tally`. Kinds: "log" (name is the service, detail the
level), "metric" (its name; unit and tags), "warning" (the rule; the sender).
"""

from streamlens.tally import Tally, decode_tally, encode_tally
from tables.windowed import Windowed, window_key

PREFIX = b"s"
CARDINALITY = "cardinality"
"""The warning that names were beyond what a tenant may have; its detail is which kind of name."""


class Tallies(Windowed[Tally]):
    """Tallies by window, kind, name and detail."""

    def __init__(self) -> None:
        super().__init__(PREFIX, Tally, encode_tally, decode_tally)

    def tally(self, window: int, tenant_id: str, kind: str, name: str, detail: str) -> Tally:
        """A tally, to be changed until the next flush."""
        return self.change(window_key(PREFIX, window, f"{tenant_id}\0{kind}\0{name}\0{detail}".encode()))
