"""One StreamLens process under measurement: what it costs, as the kernel counts it."""

import shutil
from pathlib import Path

import psutil

from process_server import Server


class Worker(Server):
    """Started, stopped and killed as `Server` is. Its directory goes with `remove`, its database stays."""

    def __init__(self, data_dir: Path, dsn: str, settings: dict[str, str]) -> None:
        super().__init__(data_dir, dsn=dsn)
        self._environ |= settings
        self.group = settings.get("CONSUMER_GROUP", "")

    def cpu_s(self) -> float:
        """CPU seconds of the process since it began, user and system."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def rss_mb(self) -> float:
        """Resident memory now, MiB."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 2**20

    def family_cpu_s(self) -> float:
        """CPU seconds of the process and of all that are below it now."""
        return sum(sum(each.cpu_times()[:2]) for each in self.family())

    def family_mb(self) -> float:
        """Memory of them all, MiB; what they share counts once."""
        return sum(float(each.memory_full_info().pss) for each in self.family()) / 2**20

    def peak_rss_mb(self) -> float:
        """The most resident memory that it ever had, MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def check_alive(self) -> None:
        """Raises `RuntimeError` with its last words when it has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the worker ended with {self.process.returncode}: {self.last_line}")

    def remove(self) -> None:
        """End it and delete its directory."""
        if hasattr(self, "process"):
            self.kill()
        shutil.rmtree(self.data_dir, ignore_errors=True)
        self._stderr.unlink(missing_ok=True)
