"""Gives the views what they need of the running process, once its log and its Postgres can be used."""

from streamlens.app import app
from streamlens.ratelimit import RateLimit
from streamlens.runtime import Runtime, clock_us
from web.services import HealthReport, Part, Services, install


def _install(runtime: Runtime) -> None:
    install(
        Services(
            log=runtime.log,
            partitions=runtime.settings.partitions,
            pool=runtime.database.pool,
            settings=runtime.settings,
            clock_us=clock_us,
            health=lambda: _health(runtime),
            keys=runtime.keys,
            rate_limit=RateLimit(eps) if (eps := runtime.settings.rate_limit_eps) else None,
        )
    )


def _health(runtime: Runtime) -> HealthReport:
    recovered = sum(len(stage.units) for stage in runtime.stages)
    here = f"{recovered} of {runtime.assigned} recovered"
    lag = runtime.lag()
    trouble, waiting = runtime.database.trouble, runtime.backlog()
    return HealthReport(
        log=Part(ok=not runtime.crashed),
        postgres=Part(not trouble, f"{trouble}; {waiting} rows wait for it" if trouble else f"{waiting} rows wait"),
        partitions=Part(runtime.ready.is_set() and recovered == runtime.assigned, here),
        lag=Part(ok=True, detail=f"{lag} records"),
    )


app.runtime.on_started.append(_install)
