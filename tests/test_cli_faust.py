"""Faust's command line on StreamLens' app, each command as a process of its own."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from faust_command import APP, FAUST, call, faust
from process_server import NotReady, Server, environ, until


class ByFaust(Server):
    """A data directory on which Faust's commands run, its worker among them."""

    def launch(self, patch: str = "", before: object = None) -> None:
        self._environ["STREAMLENS_DATA_DIR"] = str(self.data_dir)
        with self._stderr.open("wb") as errors:
            self.process = subprocess.Popen(
                [*APP, "worker", "-p", str(self.port)], stdout=subprocess.PIPE, stderr=errors, env=self._environ
            )

    def faust(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return faust(*arguments, STREAMLENS_DATA_DIR=str(self.data_dir))

    def counted(self) -> dict[str, int]:
        """The ledger of acme."""
        rows = self.get("/v1/ledger?tenant_id=acme")[1]["ledger"]
        return {name: sum(row[name] for row in rows) for name in ("received", "aggregated", "duplicate")}


@pytest.fixture
def server(scratch: Path, empty_dsn: str) -> Iterator[ByFaust]:
    with ByFaust(scratch / "faust", dsn=empty_dsn) as server:
        yield server


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["agents"], 0, ["@agents.join.join", "llm.requests, llm.responses, llm.calls", "@agents.windows.windows"]),
        (["tables"], 0, ["pending", "windows"]),
        (["models"], 0, ["faust.agents.models.ModelReqRepRequest"]),
        (["model", "faust.agents.models.ModelReqRepRequest"], 0, ["reply_to"]),
        (["clean-versions"], 0, []),
        (["livecheck"], 2, ["is not associated with LiveCheck"]),
        (["completion"], 0, ["_FAUST_COMPLETE=bash_complete"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_commands_that_only_tell(
    arguments: list[str], code: int, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = faust(*arguments, SHELL="/bin/bash")
    assert done.returncode == code, done.stderr
    assert [each for each in words if each not in done.stdout + done.stderr] == []
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_what_completion_prints_is_answered() -> None:
    words = {"COMP_WORDS": "faust -A streamlens.app wo", "COMP_CWORD": "3", "_FAUST_COMPLETE": "bash_complete"}
    done = subprocess.run([FAUST], env=environ(**words), capture_output=True, text=True, timeout=60)
    assert done.stdout == "plain,worker\n"


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (["agents"], {"STREAMLENS_PARTITIONS": "none"}, "STREAMLENS_PARTITIONS"),
        (["worker", "-b", "0.0.0.0"], {}, "add --insecure if that is what you want"),
        (["worker"], {"STREAMLENS_HTTP_HOST": "::"}, "add --insecure if that is what you want"),
        (["worker", "--without-web"], {}, "No such option"),
        (["-D", ".", "worker"], {}, "set STREAMLENS_DATA_DIR instead"),
        (["send", "llm.calls", "{}"], {}, "request_id: required"),
        (["send", "llm.calls", call("r1"), "-k", "r2"], {}, "must be the key"),
        (["send", "streamlens.partials", call("r1")], {}, "written by StreamLens alone"),
    ],
    ids=[
        "a bad setting",
        "an address that others can reach",
        "the same by the environment, IPv6",
        "an option that has no meaning here",
        "a directory of Faust's",
        "a bad event",
        "a key that is not the request's id",
        "a topic that is not for events",
    ],
)
def test_what_can_not_work_is_refused_in_one_sentence(
    arguments: list[str], settings: dict[str, str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = faust(*arguments, **settings)
    assert done.returncode in (1, 2)
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_send_worker_and_reset_keep_every_number(server: ByFaust) -> None:
    before = server.faust("send", "llm.calls", call("before"))
    assert json.loads(before.stdout)["offset"] == 0, before.stderr
    server.start()
    assert json.loads((server.data_dir / "run.json").read_text())["pid"] == server.process.pid
    beside = server.faust("send", "-k", "beside", "llm.calls", call("beside"))
    assert json.loads(beside.stdout) == {"status": "accepted"}, beside.stderr
    until(lambda: server.counted() == {"received": 2, "aggregated": 2, "duplicate": 0}, "both calls in the ledger")
    rows = server.rows()
    second = ByFaust(server.data_dir, dsn=server.dsn)
    with pytest.raises(NotReady, match="is open in another process: stop that one"):
        second.start()
    refused = server.faust("reset")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "If StreamLens runs on it, stop that first" in refused.stderr
    assert server.stop() == 0
    stores = list((server.data_dir / "state").glob("*/*"))
    assert len(stores) == 8
    assert server.faust("reset").returncode == 0
    assert not any(store.exists() for store in stores)
    server.start()
    assert server.faults() == []
    assert server.rows() == rows
    assert server.faust("send", "llm.calls", call("before")).returncode == 0
    until(lambda: server.counted() == {"received": 3, "aggregated": 2, "duplicate": 1}, "a duplicate is known again")
    assert server.stop() == 0
    assert not (server.data_dir / "run.json").exists()
