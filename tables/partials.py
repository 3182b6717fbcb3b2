"""One partition's sums per window and series, before they are merged with the other partitions'.

Keys: b"w" + window + tenant NUL route NUL model -> `Cell`.
"""

from streamlens.cell import Cell, decode_cell
from tables.windowed import Windowed, window_key

PREFIX = b"w"


class Partials(Windowed[Cell]):
    """Cells by window and series. Names hold no NUL, so keys are unique."""

    def __init__(self) -> None:
        super().__init__(PREFIX, Cell, Cell.encode, decode_cell)

    @staticmethod
    def key(window: int, tenant_id: str, route: str, model: str) -> bytes:
        """The key of a series' cell."""
        return window_key(PREFIX, window, f"{tenant_id}\0{route}\0{model}".encode())
