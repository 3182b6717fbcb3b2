"""The rows of all families against the oracle's, a minute of traffic at a time."""

from collections import Counter
from collections.abc import Iterator

from chaos.cluster import PARTITIONS
from chaos.journal import Journal
from families_oracle import Rows, expected, visited
from streamlens.partitioner import partition_of
from streamlens.simulate.oracle import MINUTE_US
from tables.kept import KEPT
from visits_oracle import Key, Seen, visit


def row_differences(tables: dict[str, Rows], journal: Journal) -> list[str]:
    """What is not as it must be, sentence by sentence; [] when every row is there, right in every integer, and no
    other row. Of the lines of logs the first ones to arrive are kept, so of those only how many.

    `tables` is what Postgres holds; it is used up.
    """
    found: list[str] = []
    kept: dict[int, Rows] = {}
    for key, line in tables.pop("app_logs").items():
        kept.setdefault(line[1] // MINUTE_US, {})[key] = line
    visits: dict[Key, list[Seen]] = {}
    for minute, sent in journal.minutes():
        wanted = expected(sent, kept=len(sent))
        found += _kept(minute, wanted.pop("app_logs"), kept.pop(minute, {}))
        del wanted["llm_visits"]  # of days, not of minutes
        for visitor, seen in visited(sent).items():
            visits.setdefault(visitor, []).extend(seen)
        for table, rows in wanted.items():
            for key, row in rows.items():
                found += _row(f"{table} {key}", row, tables[table].pop(key, None))
    for visitor, seen in visits.items():
        found += _row(f"llm_visits {visitor}", visit(visitor, seen), tables["llm_visits"].pop(visitor, None))
    found += [f"{table} {key}: not expected" for table, rows in tables.items() for key in rows]
    return [*found, *(f"app_logs {key}: not expected" for rows in kept.values() for key in rows)]


def _row(name: str, wanted: object, actual: object) -> Iterator[str]:
    if actual is None:
        yield f"{name}: missing"
    elif isinstance(wanted, dict) and isinstance(actual, dict):
        for field, value in wanted.items():
            if actual.get(field) != value:
                yield f"{name}: {field} is {actual.get(field)}, expected {value}"
    elif wanted != actual:
        yield f"{name} is {actual}, expected {wanted}"


def _kept(minute: int, sent: Rows, kept: Rows) -> Iterator[str]:
    for key, line in kept.items():
        if sent.get(key) != line:
            yield f"app_logs {key} is {line}, sent was {sent.get(key)}"
    room, taken = _rooms(sent), _rooms(kept)
    for place, lines in room.items():
        if taken[place] != min(KEPT, lines):
            yield f"app_logs {place} of {minute}: {taken[place]} lines are kept of {lines}"


def _rooms(lines: Rows) -> Counter[tuple[str, str, int]]:
    """How many lines there are by tenant, class and partition."""
    return Counter(
        (tenant_id, line[0], partition_of(log_id.encode(), PARTITIONS)) for (log_id, tenant_id), line in lines.items()
    )
