"""What was asked for on the command line, for all parts."""

from pathlib import Path

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """`quick` runs everything small: to see that it works, not to measure."""

    runs: int = 3
    seed: int = 1
    quick: bool = False
    profile: bool = True
    folded: Path | None = None
    """Keeps the profile's stacks there, for a flame graph."""
    trace: Path | None = None
    remembered: int = 2_000_000
    """Ids of joined calls in the state, for `recovery`."""

    def events(self, count: int) -> int:
        """The size of a backlog."""
        return count // 10 if self.quick else count

    def seconds(self, count: float) -> float:
        """How long something is watched."""
        return count / 4 if self.quick else count
