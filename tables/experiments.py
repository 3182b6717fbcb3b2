"""One partition's sums of the variants of experiments, per window.

Keys: b"x" + window + tenant NUL variant -> `Variant`. The variant is named as the facet is, with its experiment.
"""

from streamlens.moments import Variant, decode_variant, encode_variant
from tables.windowed import Windowed, window_key

PREFIX = b"x"


class Experiments(Windowed[Variant]):
    """Variants by window and name."""

    def __init__(self) -> None:
        super().__init__(PREFIX, Variant, encode_variant, decode_variant)

    def variant(self, window: int, tenant_id: str, name: str) -> Variant:
        """The sums of a variant, to be changed until the next flush."""
        return self.change(self.key(window, tenant_id, name))

    @staticmethod
    def key(window: int, tenant_id: str, name: str) -> bytes:
        """The key of a variant's sums."""
        return window_key(PREFIX, window, f"{tenant_id}\0{name}".encode())
