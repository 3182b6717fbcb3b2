"""`failover`: of two workers on Kafka one is killed: until counted rows move again for all partitions."""

import asyncio
import time

from bench.drain import until_counted
from bench.ground import Ground
from bench.openloop import OpenLoop, Probes, until
from bench.options import Options
from bench.report import Report

RATE = 20_000
_SETTLE_S = 5.0
_WITHIN_S = 90.0
_FRESH_S = 2.0


async def failover(ground: Ground, report: Report, options: Options) -> None:
    """Kill -9 of one of two: it stays away; then again, and it is started at once on its own disk."""
    dsn = await ground.database()
    shared = {"CONSUMER_GROUP": "bench-failover", "POSTGRES_DSN": dsn}
    survivor, victim = await ground.worker(shared), await ground.worker(shared)
    try:
        await asyncio.gather(asyncio.to_thread(survivor.start), asyncio.to_thread(victim.start))
        async with OpenLoop(ground.brokers, RATE, 100, options.seed) as loop:
            probes = Probes(loop, survivor.url)

            async def fresh() -> bool:
                await asyncio.to_thread(probes.look)
                return min(probes.visible) >= loop.sent_before(time.time() - _FRESH_S)

            async def kill() -> float:
                """Kill when all is well; the epoch second."""
                await until(fresh, "rows of all partitions", _WITHIN_S)
                await asyncio.sleep(_SETTLE_S)
                await until(fresh, "rows of all partitions", _WITHIN_S)
                victim.kill()
                return time.time()

            async def counted(killed: float) -> float:
                """Seconds from the kill until every partition shows a probe that was due after it."""

                async def moved() -> bool:
                    await asyncio.to_thread(probes.look)
                    return min(probes.visible) > loop.sent_before(killed)

                return await until(moved, "rows of all partitions after the kill", _WITHIN_S) - killed

            for _ in range(options.runs):
                report.add("failover", "it stays away", {"all partitions again, s": await counted(await kill())})
                await asyncio.to_thread(victim.start)
                killed = await kill()
                victim.launch()
                report.add("failover", "started at once", {"all partitions again, s": await counted(killed)})
            probes.close()
        await until_counted(survivor, int(loop.said["events"]))
    finally:
        for worker in (survivor, victim):
            worker.remove()
