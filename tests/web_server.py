"""The real views on the real driver and a real local log, at a free port; no Faust worker and no broker behind them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web as aiohttp_web

import web.analytics
import web.calls
import web.dlq
import web.experiments
import web.health
import web.ingest
import web.intake
import web.live
import web.observed
import web.otlp
import web.pages
import web.projects
import web.prometheus
import web.query
import web.reference
import web.status
import web.visits  # noqa: F401
from streamlens.app import app
from streamlens.live import Live
from streamlens.locallog.local import LocalLog
from streamlens.log import TP, TopicSpec
from streamlens.metrics import REGISTRY
from streamlens.settings import Settings
from streamlens.topics import METRICS
from streamlens.userhash import UserHash
from visits_oracle import SECRET
from web import services
from web.driver import Web
from web.services import HealthReport, Part, Progress, Services

PARTITIONS = 4
TOPICS = (
    *("llm.requests", "llm.responses", "llm.calls", "llm.evaluations"),
    *("streamlens.applogs", "streamlens.sysmetrics"),
)
NOW_US = 1_783_000_000_000_000
IDLE = Progress("local", 1.0, 0, None, None, None)
WELL = HealthReport(log=Part(True), postgres=Part(True), partitions=Part(True), lag=Part(True))


class Site(msgspec.Struct):
    """A running server: an HTTP client with its address, and the log behind it."""

    http: aiohttp.ClientSession
    port: int
    log: LocalLog

    def written(self) -> dict[TP, list[bytes]]:
        """The values in the log, by partition; empty partitions are left out."""
        values = {tp: self.log.read_now(tp, 0).values for topic in TOPICS for tp in _partitions(topic)}
        return {tp: found for tp, found in values.items() if found}


@asynccontextmanager
async def serving(tmp_path: Path, **replaced: Any) -> AsyncIterator[Site]:
    """Serve until the block ends. `replaced` are fields of `Services`; `services=None` installs none."""
    log = LocalLog.open(tmp_path / "log", sync=False)
    await log.start()
    await log.create_topics([TopicSpec(topic, PARTITIONS) for topic in (*TOPICS, METRICS)])
    live = Live(log, log.log_id, PARTITIONS, lambda: False)
    hashes = UserHash(SECRET, str)
    given = Services(
        log, PARTITIONS, None, Settings(), lambda: NOW_US, lambda: WELL, None, None, live, lambda: IDLE, hashes
    )
    services.install(None if replaced == {"services": None} else msgspec.structs.replace(given, **replaced))
    driver = Web(app)
    for view in app.web.views.values():
        driver.add_view(type(view))
    await driver._runner.setup()
    await aiohttp_web.TCPSite(driver._runner, "127.0.0.1", 0).start()
    port = driver._runner.addresses[0][1]
    try:
        # Without its User-Agent, so that the log has what a test has sent.
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", skip_auto_headers=["User-Agent"]) as http:
            yield Site(http, port, log)
    finally:
        await driver._runner.cleanup()
        services.install(None)
        await log.stop()
        log.close()


def counted(name: str, **labels: str) -> float:
    """The value of a counter now."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def _partitions(topic: str) -> Iterator[TP]:
    return (TP(topic, number) for number in range(PARTITIONS))
