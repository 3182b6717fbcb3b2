"""Gives the views what they need of the running process, once its log and its Postgres can be used."""

from streamlens.app import app
from streamlens.live import Live
from streamlens.member import member_id
from streamlens.ratelimit import RateLimit
from streamlens.runtime import Runtime, clock_us
from streamlens.userhash import UserHash
from web.services import HealthReport, Part, Progress, Services, install


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
            live=Live(
                runtime.log, runtime.log.log_id, runtime.settings.partitions, lambda: bool(runtime.database.trouble)
            ),
            progress=lambda: _progress(runtime),
            user_hash=UserHash(runtime.settings.hash_key, lambda: runtime.log.log_id),
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


def _progress(runtime: Runtime) -> Progress:
    now_us, settings = clock_us(), runtime.settings
    # 0 stands for none yet
    watermarks_us = [us for unit in runtime.stages[0].units.values() if (us := getattr(unit.logic, "watermark_us", 0))]
    checkpoints_us = [us for stage in runtime.stages if (us := stage.last_checkpoint_us)]
    return Progress(
        worker=member_id(settings.data_dir) if settings.kafka_brokers else "local",
        uptime_s=(now_us - runtime.started_us) / 1e6,
        lag_records=runtime.lag(),
        watermark_lag_s=(now_us - min(watermarks_us)) / 1e6 if watermarks_us else None,
        checkpoint_age_s=(now_us - min(checkpoints_us)) / 1e6 if checkpoints_us else None,
        freshness_p95_s=runtime.freshness_s(0.95),
    )


app.runtime.on_started.append(_install)
