"""Faust's own commands where ours must differ: `faust -A streamlens.app worker`, `send`, `reset` and `completion`.

Faust's command line loads this with the app (`App.worker_init`); each class takes the place of Faust's of that name.
"""

import asyncio
import json
import logging
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import click
from click.shell_completion import get_completion_class
from faust.cli import params
from faust.cli.base import DATADIR, LOGLEVELS, AppCommand, argument, cli, option
from rocksdict import Rdict

from streamlens import logs
from streamlens.brokers import Broker, open_log
from streamlens.errors import BadEvent, StreamLensError, Unavailable
from streamlens.events import MAX_EVENT_BYTES, decode
from streamlens.log import TP, UNKNOWN_OFFSET, Record
from streamlens.member import hold
from streamlens.partitioner import partition_of
from streamlens.process import RUN_FILE, run, settings_with
from streamlens.topics import INPUTS


class _Command(AppCommand):  # type: ignore[misc]  # faust's classes are untyped
    """A command without a Faust worker around it, whose errors are one sentence each."""

    abstract: ClassVar[bool] = True

    def __call__(self, *_: Any) -> NoReturn:
        if self.datadir != DATADIR:
            self._refuse("--datadir: set STREAMLENS_DATA_DIR instead")
        if self.logfile:
            self._refuse("--logfile: StreamLens logs to stderr")
        try:
            self.execute_now(**self.kwargs)
        except StreamLensError as error:
            self._refuse(str(error))
        raise SystemExit(0)

    def execute_now(self, *_: Any, **options: Any) -> None:
        """Do it. A `StreamLensError` ends in its sentence and exit code 1."""
        raise NotImplementedError

    def _refuse(self, sentence: str) -> NoReturn:
        click.echo(f"Error: {sentence}", err=True)
        raise SystemExit(1)


class worker(_Command):
    """Run StreamLens as `streamlens up` does: same checks, logs and `ready URL`. The rest are environment settings."""

    options: ClassVar[list[Any]] = [
        option("--web-port", "-p", type=params.TCPPort(), help="Port to serve on, instead of HTTP_PORT."),
        option("--web-bind", "-b", help="Address to serve on, instead of STREAMLENS_HTTP_HOST."),
        option("--loglevel", "-l", type=params.CaseInsensitiveChoice(LOGLEVELS), help="Least level that is logged."),
        option("--insecure", is_flag=True, help="Serve on an address that others can reach, without keys."),
    ]

    def execute_now(self, web_port: int | None, web_bind: str | None, loglevel: str | None, insecure: bool) -> None:
        level = (loglevel or self.state.loglevel or "INFO").upper()
        settings = settings_with(web_bind, web_port, None, insecure=insecure)
        run(settings, level=logging.CRITICAL if level == "CRIT" else logging.getLevelNamesMapping()[level])


class send(_Command):
    """Append one event to llm.requests, llm.responses or llm.calls.

    Works beside a running StreamLens, over HTTP then, and without one.

    Example: faust -A streamlens.app send llm.calls '{"request_id": "r1", …}'
    """

    options: ClassVar[list[Any]] = [
        option("--key", "-k", help="Must be the event's request_id, which it is without this option."),
        argument("entity", metavar="TOPIC"),
        argument("value", metavar="EVENT"),
    ]

    def execute_now(self, entity: str, value: str, key: str | None) -> None:
        logs.configure("text", logging.ERROR)
        if entity not in INPUTS:
            raise BadEvent("", f"events go to {', '.join(INPUTS)}; {entity} is written by StreamLens alone")
        kind, raw = INPUTS[entity], value.encode()
        if len(raw) > MAX_EVENT_BYTES:
            raise BadEvent("", f"larger than {MAX_EVENT_BYTES:,} bytes")
        request_id = decode(kind, raw).request_id
        if key not in (None, request_id):
            raise BadEvent("request_id", "must be the key, else a request and its response do not meet")
        self.say(asyncio.run(self._send(entity, request_id.encode(), raw)))

    async def _send(self, topic: str, key: bytes, raw: bytes) -> str:
        settings = self.app.settings
        run_file = settings.data_dir / RUN_FILE
        try:
            log = open_log(settings, lambda _: None)
        except Unavailable:  # a process has the local log open
            if not run_file.exists():
                raise
            return _by_http(json.loads(run_file.read_text())["url"], INPUTS[topic], raw)
        tp = TP(topic, partition_of(key, settings.partitions))
        offset = await self._append(log, tp, Record(key, raw))
        return json.dumps({"topic": tp.topic, "partition": tp.partition, "offset": offset})

    async def _append(self, log: Broker, tp: TP, record: Record) -> int:
        await log.start()
        try:
            await log.create_topics(self.app.runtime.topics())
            offset = (await log.append({tp: [record]}))[tp]
        finally:
            await log.stop()
        if offset == UNKNOWN_OFFSET:
            raise Unavailable("the log did not confirm the write; send again, what is repeated counts once")
        return offset


class reset(_Command):
    """Delete the local state of all stages; the next start restores it from the changelogs, so no number changes.

    Refused while StreamLens runs on this data directory.
    """

    def execute_now(self) -> None:
        settings = self.app.settings
        if settings.kafka_brokers:
            hold(settings.data_dir)  # a worker may have no partition now, and get some while this deletes
        for store in sorted((settings.data_dir / "state").glob("*/*")):
            _destroy(store)
            self.say(f"deleted {store}")


class completion(_Command):
    """Print the completion script of this shell (bash, zsh or fish), to be evaluated by it."""

    def execute_now(self) -> None:
        shell = Path(os.environ.get("SHELL", "")).name
        found = get_completion_class(shell)
        if found is None:
            self._refuse(f"SHELL={shell}: there is completion for bash, zsh and fish")
        self.say(found(cli, {}, "faust", "_FAUST_COMPLETE").source())


def _destroy(store: Path) -> None:
    """Delete a RocksDB that may be damaged. Raises `Unavailable` when a process has it open."""
    try:
        Rdict.destroy(str(store))  # takes RocksDB's own lock first
    except Exception as error:  # rocksdict raises the bare class
        raise Unavailable(f"{store} can't be deleted. If StreamLens runs on it, stop that first: {error}") from error
    shutil.rmtree(store, ignore_errors=True)  # what rocksdict keeps beside it


def _by_http(url: str, kind: str, raw: bytes) -> str:
    """What the running process answers. Raises `BadEvent` and `Unavailable` with its words."""
    request = urllib.request.Request(f"{url}/v1/llm/{kind}", raw, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            body: bytes = answer.read()
            return body.decode()
    except urllib.error.HTTPError as error:
        with error:
            problem = json.loads(error.read())
        raise BadEvent(problem.get("field", ""), problem["detail"]) from None
    except OSError as error:
        raise Unavailable(f"StreamLens at {url} does not answer: {error}") from None
