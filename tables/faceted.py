"""One partition's sums per window and facet value: every call counts once more under each facet that it has.

Keys: b"f" + window + tenant NUL facet NUL value -> `Cell`.
"""

from streamlens.cell import Cell, decode_cell
from tables.windowed import Windowed, window_key

PREFIX = b"f"


class Faceted(Windowed[Cell]):
    """Cells by window and facet value."""

    def __init__(self) -> None:
        super().__init__(PREFIX, Cell, Cell.encode, decode_cell)

    @staticmethod
    def key(window: int, tenant_id: str, facet: str, value: str) -> bytes:
        """The key of the cell of a facet's value."""
        return window_key(PREFIX, window, f"{tenant_id}\0{facet}\0{value}".encode())
