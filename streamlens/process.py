"""One process: event loop, logs, Faust's worker around the app, and the file that tells others where it serves."""

import asyncio
import gc
import importlib
import ipaddress
import json
import logging
import os
import socket
import sys
import threading
from pathlib import Path
from typing import NoReturn

import uvloop

from streamlens import logs
from streamlens.errors import BadSetting
from streamlens.settings import Settings

RUN_FILE = "run.json"


def settings_with(host: str | None, port: int | None, data_dir: Path | None, *, insecure: bool) -> Settings:
    """The environment's settings with those of the command line. Raises `BadSetting`."""
    for name, value in (("STREAMLENS_HTTP_HOST", host), ("HTTP_PORT", port), ("STREAMLENS_DATA_DIR", data_dir)):
        if value is not None:
            os.environ[name] = str(value)
    settings = Settings.load(os.environ)
    if settings.auth == "off" and not insecure and not _is_loopback(settings.http_host):
        raise BadSetting(
            f"STREAMLENS_HTTP_HOST: {settings.http_host} can be reached by others, who could read and write everything;"
            " set STREAMLENS_AUTH=keys, or add --insecure if that is what you want"
        )
    return settings


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run(settings: Settings, *, demo: bool = False, level: int = logging.INFO) -> NoReturn:
    """Run the app until a signal ends it; exits with code 0 then, and with 1 when something broke."""
    logs.configure(settings.log_format, level)
    _check_port("HTTP_PORT", settings.http_host, settings.http_port)
    if settings.otlp_grpc_port:
        _check_port("STREAMLENS_OTLP_GRPC_PORT", settings.http_host, settings.otlp_grpc_port)
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadSetting(f"STREAMLENS_DATA_DIR: {error}") from None
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # before Faust makes a loop
    gc.disable()  # imports leave little garbage; looking for it is a tenth of the start
    import faust

    from streamlens.app import app

    _spare_the_collector()
    threading.Thread(target=_load_catalogue, daemon=True).start()
    app.bind(settings.http_host, settings.http_port)
    run_file = settings.data_dir / RUN_FILE
    app.runtime.on_ready = lambda: _ready(settings, run_file, app.runtime.stopping, demo=demo)
    worker = faust.Worker(app, quiet=True, override_logging=False, redirect_stdouts=False, console_port=0)
    worker.spinner = None  # it would write control characters to whatever stdout is
    worker._sentinel_task = _nothing  # mode would sleep a second there, after everything has ended
    try:
        worker.execute_from_commandline()
    finally:
        run_file.unlink(missing_ok=True)
    sys.exit(0)


def _spare_the_collector() -> None:
    """Few of our objects form cycles, and all were looked at again and again: a quarter of the time at full load."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    gc.enable()


def _load_catalogue() -> None:
    """Prices are not needed at once, and a start often waits for a broker."""
    importlib.import_module("streamlens.catalogue")
    gc.freeze()


async def _nothing() -> None:
    pass


def _check_port(setting: str, host: str, port: int) -> None:
    """Raise `BadSetting` when the address can't be served on, before anything is begun."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        raise BadSetting(f"{setting}: can't serve on {host} port {port}: {error.strerror or error}") from None


def _ready(settings: Settings, run_file: Path, stop: asyncio.Event, *, demo: bool) -> None:
    run_file.write_text(json.dumps({"url": settings.url, "pid": os.getpid()}) + "\n")
    print(f"ready {settings.url}", flush=True)
    if demo:
        from streamlens.simulate.run import run_demo

        _tasks.add(asyncio.get_running_loop().create_task(run_demo(settings.url, stop)))


_tasks: set["asyncio.Task[None]"] = set()
