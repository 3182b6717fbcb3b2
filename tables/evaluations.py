"""One partition's sums of evaluations per window, series and name of the evaluation.

Keys: b"e" + window + tenant NUL route NUL model NUL name -> `Scores`.
"""

from streamlens.scores import Scores, decode_scores, encode_scores
from tables.windowed import Windowed, window_key

PREFIX = b"e"


class Evaluations(Windowed[Scores]):
    """Scores by window, series and name."""

    def __init__(self) -> None:
        super().__init__(PREFIX, Scores, encode_scores, decode_scores)

    def scores(self, window: int, tenant_id: str, route: str, model: str, name: str) -> Scores:
        """The sums of a name, to be changed until the next flush."""
        return self.change(window_key(PREFIX, window, f"{tenant_id}\0{route}\0{model}\0{name}".encode()))
