"""A real Apache Kafka for tests: one KRaft node on loopback, to be started, killed, frozen and started again.

The jars come by Maven from `tests/kafka/pom.xml` into the user's cache, once. What it stores outlives a kill.
"""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

_POM = Path(__file__).parent / "kafka" / "pom.xml"
_START_S = 60.0
_JVM = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xms128m",
    "-Xmx384m",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)

_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{proxy}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
num.partitions=1
auto.create.topics.enable=false
broker.session.timeout.ms=1500
broker.heartbeat.interval.ms=300
message.max.bytes=4194304
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
num.io.threads=2
num.network.threads=1
log.cleaner.dedupe.buffer.size=16777216
"""


class KafkaBroker:
    """One broker with its data in `directory`. `brokers` is its address, the same after each restart.

    Clients that come through the port `behind` are told to go on through the port `proxy`, where a test may listen.
    """

    def __init__(self, directory: Path) -> None:
        port, self.behind, self.proxy, controller = _free_ports(4)
        self.brokers = f"127.0.0.1:{port}"
        self._port = port
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self._settings = directory / "server.properties"
        ports = {"port": port, "behind": self.behind, "proxy": self.proxy, "controller": controller}
        self._settings.write_text(_PROPERTIES.format(**ports, data=directory / "data"))

    def start(self) -> None:
        """Start, for the first time or again on the same data; returns once it takes connections."""
        if not (self._directory / "data").exists():
            subprocess.run(
                [*_java(), "kafka.tools.StorageTool", "format", "-t", "c3RyZWFtbGVucy10ZXN0cw", "-c", self._settings],
                check=True,
                capture_output=True,
            )
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_java(), "kafka.Kafka", self._settings], stdout=log, stderr=log, cwd=self._directory
            )
        deadline = time.monotonic() + _START_S
        while not self._takes_connections():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = (self._directory / "log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"Kafka did not start:\n{tail}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it, by force when it does not end at once: nobody is meant to miss it."""
        if self._process is not None and self.is_running():
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None

    def is_running(self) -> bool:
        """Not stopped and not dead; it may be frozen."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 10
        tasks = Path(f"/proc/{self._process.pid}/task")
        # Its threads stop one after the other, and the last one may answer.
        while any(stat.read_text().rpartition(")")[2].split()[0] != "T" for stat in tasks.glob("*/stat")):
            assert time.monotonic() < deadline, "the broker does not stop"

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Stop, and delete the data."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _takes_connections(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), 1).close()
        except OSError:
            return False
        return True


def temporary_broker() -> KafkaBroker:
    """A broker that has started, in a directory of its own below the system's temporary one."""
    broker = KafkaBroker(Path(tempfile.mkdtemp(prefix="streamlens-kafka-")))
    try:
        broker.start()
    except BaseException:
        broker.remove()
        raise
    return broker


def jars() -> Path:
    """The directory of the jars, fetched when the pom was never fetched as it is now."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamlens"
    directory = cache / f"kafka-{hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]}"
    if not directory.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as fetched:
            command = [_program("mvn", "maven"), "-q", "-B", "-f", _POM, "dependency:copy-dependencies"]
            done = subprocess.run(
                [*command, "-DincludeScope=runtime", f"-DoutputDirectory={fetched}/jars"],
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise RuntimeError(f"Maven could not fetch Apache Kafka:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
            try:
                Path(fetched, "jars").rename(directory)
            except OSError:
                assert directory.exists(), "unless another run has brought them meanwhile"
    return directory


def _java() -> list[str]:
    return [_program("java", "default-jdk-headless"), *_JVM, "-cp", f"{jars()}/*"]


def _program(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise RuntimeError(
            f"the tests on Kafka need {name}: apt-get install default-jdk-headless maven (it is in {package}), "
            "or set TEST_KAFKA_BROKERS to a broker that is there only for tests"
        )
    return path


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
