"""`python -m bench.run`: measures the parts that are named, or all, prints one table and writes a JSON file."""

import argparse
import asyncio
import signal
import sys
import time
import traceback
from pathlib import Path

import msgspec
import uvloop

from bench import failover, footprint, ingest, latency, pipeline, query, recovery, spans
from bench.ground import Ground
from bench.options import Options
from bench.report import Report
from streamlens import logs

PARTS = {
    "pipeline": pipeline.pipeline,
    "series": pipeline.series,
    "local": pipeline.local,
    "ingest": ingest.ingest,
    "spans": spans.spans,
    "latency": latency.latency,
    "recovery": recovery.recovery,
    "failover": failover.failover,
    "query": query.query,
    "footprint": footprint.footprint,
}


async def measure(parts: list[str], options: Options, report: Report) -> list[str]:
    """Run `parts` one after the other, each on a ground of its own; the names of those that failed.

    SIGTERM ends it as Ctrl-C does, cleanly.
    """
    failed = []
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    for part in parts:
        began = time.monotonic()
        try:
            async with Ground() as ground:
                await PARTS[part](ground, report, options)
        except Exception:
            traceback.print_exc()
            failed.append(part)
        print(f"{part}: {time.monotonic() - began:.0f} s in all", flush=True)
    return failed


def main() -> None:
    arguments = argparse.ArgumentParser(prog="bench", description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all when none is named")
    arguments.add_argument("--runs", type=int, default=3, help="of each case (default: 3)")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--quick", action="store_true", help="everything small, to see that it works")
    arguments.add_argument("--no-profile", action="store_true", help="leave out the run under py-spy")
    arguments.add_argument("--folded", type=Path, help="keep the profile's stacks there")
    arguments.add_argument("--trace", type=Path, help="draw token counts from this CSV file (ContextTokens, …)")
    arguments.add_argument("--remembered", type=int, default=2_000_000, help="joined ids in the state, for recovery")
    arguments.add_argument("--json", type=Path, default=Path("build/bench.json"), help="where to write the figures")
    given = arguments.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        arguments.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    logs.configure("text", level=40)
    options = Options(
        runs=given.runs,
        seed=given.seed,
        quick=given.quick,
        profile=not given.no_profile,
        folded=given.folded,
        trace=given.trace,
        remembered=given.remembered,
    )
    report = Report(msgspec.structs.asdict(options))
    failed: list[str] = []
    try:
        failed = uvloop.run(measure(given.parts or list(PARTS), options, report))
    finally:
        if report.parts:
            report.show()
            report.write(given.json)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
