"""What must be true at the end: the rows are the oracle's, and the ledger says what became of each record."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from chaos import books
from chaos.cluster import Cluster
from chaos.generator import Generator
from chaos.reader import Reader
from chaos.rows import row_differences
from families_held import held
from streamlens.errors import Unavailable

CAUGHT_UP_S = 120.0


async def caught_up(cluster: Cluster, reader: Reader, ends_early: Callable[[], bool] = lambda: False) -> list[str]:
    """Wait until the group has no lag and the ledger holds every record. Says what is missing at the deadline, or
    nothing when it ends early."""
    deadline = time.monotonic() + CAUGHT_UP_S
    state = ""
    while time.monotonic() < deadline:
        if ends_early():
            return []
        try:
            ends, lag = await cluster.ends(), await cluster.lag()
            if lag == 0 and reader.received == ends:
                return []
            state = f"lag {lag}, {ends} records in the topics, {reader.received} in the ledger"
        except Unavailable as error:
            state = str(error)
        await asyncio.sleep(0.5)
    return [f"not caught up within {CAUGHT_UP_S:g} s: {state}"]


async def differences(cluster: Cluster, generator: Generator) -> list[str]:
    """The rows against the oracle, the ledger against the topics, sentence by sentence."""
    found = row_differences(await held(cluster.dsn), generator.journal)
    told, read = await books.told(cluster.dsn), await books.read(cluster.records())
    for tenant in sorted(told.keys() | read.keys()):
        if (expected := read.get(tenant, Counter())) != (actual := told.get(tenant, Counter())):
            found.append(f"ledger of {tenant or '(no tenant)'}: {dict(actual)}, expected {dict(expected)}")
    records, ends = sum(each["received"] for each in read.values()), await cluster.ends()
    if records != ends:
        found.append(f"{records} records were read, the topics end at {ends}")
    if records < generator.made:
        found.append(f"the topics hold {records} records, {generator.made} were acknowledged")
    return found
