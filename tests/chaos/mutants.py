"""The engine with one safeguard taken out each, in the worker's own process: the suite must notice.

`CHAOS_MUTANT` names an aim and a mutant, "aim/mutant"; the mutant of a control run is `UNCHANGED`.
"""

from collections.abc import Callable
from typing import NamedTuple

from chaos import mutants_changelog, mutants_sinks, mutants_snapshots, stock
from chaos.mutants_aims import AIMS, Aim

UNCHANGED = "unchanged"


class Mutant(NamedTuple):
    """`remove` takes the safeguard out, in a worker that has not begun."""

    name: str
    remove: Callable[[], None]
    aim: Aim

    @property
    def removed(self) -> str:
        """What it lacks."""
        return (self.remove.__doc__ or "").strip()


_REMOVALS: tuple[tuple[Callable[[], None], str], ...] = (
    (mutants_changelog.no_takeover_record, "frozen before the append"),
    (mutants_changelog.no_fence, "zombies"),
    (mutants_changelog.generations_ignored, "frozen before the append"),
    (mutants_changelog.lost_answers_taken_for_success, "lost appends"),
    (mutants_changelog.incomplete_frames_applied, "cut frames"),
    (mutants_changelog.store_written_first, "crashes"),
    (mutants_changelog.offsets_only_in_the_group, "crashes"),
    (mutants_changelog.repeated_records_counted, "a straying consumer"),
    (mutants_changelog.gaps_skipped, "a straying consumer"),
    (mutants_sinks.nothing_republished, "crashes"),
    (mutants_sinks.no_outbox, "postgres away"),
    (mutants_sinks.outbox_not_restored, "postgres away"),
    (mutants_sinks.no_version_guard_in_postgres, "frozen while publishing"),
    (mutants_sinks.no_version_guard_in_stage_two, "frozen while publishing"),
    (mutants_sinks.closed_announced_first, "expiring windows"),
    (mutants_sinks.marks_dropped_early, "ended sessions"),
    (mutants_snapshots.read_on_from_the_end_of_the_snapshot, "lost disks"),
    (mutants_snapshots.head_cut_too_early, "lost disks"),
    (mutants_snapshots.marks_left_out, "lost disks"),
)
MUTANTS = {
    name: Mutant(name, remove, AIMS[aim]) for remove, aim in _REMOVALS for name in (remove.__name__.replace("_", " "),)
}


def apply(spelled: str) -> None:
    """Change this process. A stock Faust job has nothing to change: it runs here, instead of StreamLens."""
    aim, _, name = spelled.partition("/")
    if name in stock.GUARANTEES:
        stock.run(name)
        raise SystemExit
    AIMS[aim].tune()
    if name != UNCHANGED:
        MUTANTS[name].remove()
