"""Kafka behind TLS and SASL: the log, a whole worker as member of its group, and what is refused by which setting."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from faust_command import call, faust
from kafka_broker import KafkaBroker, _free_ports, _java, _program
from process_server import NotReady, Server, until
from streamlens.brokers import security
from streamlens.errors import BadSetting, Unavailable
from streamlens.kafka import KafkaLog
from streamlens.log import TP, Record, TopicSpec
from streamlens.settings import Settings

USER, PASSWORD, STORE = "alice", "wonderland", "only-for-tests"
JAAS = "org.apache.kafka.common.security"
SECURE = """
listeners=PLAINTEXT://127.0.0.1:{plain},SECURE://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SECURE://127.0.0.1:{secure}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:PLAINTEXT
listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.secure.plain.sasl.jaas.config={jaas}.plain.PlainLoginModule required user_{user}="{password}";
listener.name.secure.scram-sha-512.sasl.jaas.config={jaas}.scram.ScramLoginModule required;
listener.name.secure.ssl.keystore.type=PKCS12
listener.name.secure.ssl.keystore.location={keys}
listener.name.secure.ssl.keystore.password={store}
controller.quorum.voters=1@127.0.0.1:{controller}
"""
"""Wins over the settings before it, as the last line with a name does."""


class SecureBroker(KafkaBroker):
    """A broker whose clients need its certificate, a user and a password."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._keys, self.ca_file = directory / "keys.p12", directory / "ca.pem"
        secure, controller = _free_ports(2)
        with self._settings.open("a") as settings:
            ports = {"plain": self._port, "secure": secure, "controller": controller}
            names = {"jaas": JAAS, "user": USER, "password": PASSWORD, "keys": self._keys, "store": STORE}
            settings.write(SECURE.format(**ports, **names))
        self.secured = f"127.0.0.1:{secure}"

    def start(self) -> None:
        if not self.ca_file.exists():
            of_store = ["-alias", "broker", "-keystore", str(self._keys), "-storepass", STORE]
            named = ["-dname", "CN=broker", "-ext", "san=ip:127.0.0.1"]
            signing = ["-ext", "bc:c=ca:true", "-ext", "ku:c=digitalSignature,keyCertSign"]
            keytool("-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", *named, *signing, *of_store)
            keytool("-exportcert", "-rfc", "-file", str(self.ca_file), *of_store)
            known = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
            storage = ["format", "-t", "c3RyZWFtbGVucy10ZXN0cw", "-c", str(self._settings), "--add-scram", known]
            subprocess.run([*_java(), "kafka.tools.StorageTool", *storage], check=True, capture_output=True)
        super().start()

    def environ(self, **settings: str) -> dict[str, str]:
        """Settings of a client, each of which `settings` may replace."""
        return {
            "KAFKA_BROKERS": self.secured,
            "CONSUMER_GROUP": "behind-tls",
            "STREAMLENS_PARTITIONS": "2",
            "STREAMLENS_KAFKA_SECURITY": "SASL_SSL",
            "STREAMLENS_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "STREAMLENS_KAFKA_USERNAME": USER,
            "STREAMLENS_KAFKA_PASSWORD": PASSWORD,
            "STREAMLENS_KAFKA_CA_FILE": str(self.ca_file),
        } | settings

    def log(self, **settings: str) -> KafkaLog:
        return KafkaLog(self.secured, security=security(Settings.load(self.environ(**settings))), deadline_s=5)


def keytool(*arguments: str) -> None:
    subprocess.run([_program("keytool", "default-jdk-headless"), *arguments], check=True, capture_output=True)


class Behind(Server):
    """`streamlens up` on a secured broker."""

    def __init__(self, data_dir: Path, dsn: str, broker: SecureBroker, **settings: str) -> None:
        super().__init__(data_dir, dsn=dsn)
        self._environ |= broker.environ(**settings)


@pytest.fixture(scope="module")
def broker(scratch: Path) -> Iterator[SecureBroker]:
    broker = SecureBroker(scratch / "kafka-tls")
    try:
        broker.start()
        yield broker
    finally:
        broker.remove()


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
async def test_the_log_works_with_password_and_certificate(broker: SecureBroker, mechanism: str) -> None:
    topic = TP(f"log-{mechanism.lower()}", 1)
    log = broker.log(STREAMLENS_KAFKA_SASL_MECHANISM=mechanism)
    await log.start()
    try:
        await log.create_topics([TopicSpec(topic.topic, 2)])
        assert await log.append({topic: [Record(b"k", b"one"), Record(b"k", b"two")]}) == {topic: 0}
        assert (await log.read(topic, 0)).values == [b"one", b"two"]
        await log.commit(mechanism, {topic: 2})
        assert await log.committed(mechanism) == {topic: 2}
    finally:
        await log.stop()


def test_a_worker_counts_as_a_member_of_its_group(broker: SecureBroker, scratch: Path, empty_dsn: str) -> None:
    with Behind(scratch / "tls", empty_dsn, broker) as server:
        sent = faust("send", "llm.calls", call("by faust"), **broker.environ(STREAMLENS_DATA_DIR=str(server.data_dir)))
        assert json.loads(sent.stdout)["offset"] == 0, sent.stderr
        server.start()
        assert server.post("/v1/llm/call", json.loads(call("by http")))[0] == 202
        until(lambda: sum(row["calls"] for row in server.rows()) == 2, "both calls in rows")
        audit = server.audit()
        assert audit.returncode == 0, audit.stdout + audit.stderr
        assert server.stop() == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"STREAMLENS_KAFKA_PASSWORD": "wrong"}, "STREAMLENS_KAFKA_USERNAME, STREAMLENS_KAFKA_PASSWORD: Kafka at"),
        (
            {"STREAMLENS_KAFKA_USERNAME": "bob", "STREAMLENS_KAFKA_SASL_MECHANISM": "PLAIN"},
            "STREAMLENS_KAFKA_USERNAME, STREAMLENS_KAFKA_PASSWORD: Kafka at",
        ),
        (
            {"STREAMLENS_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"},
            "STREAMLENS_KAFKA_SASL_MECHANISM: Kafka at .* does not take SCRAM-SHA-256",
        ),
        ({"STREAMLENS_KAFKA_CA_FILE": ""}, "STREAMLENS_KAFKA_CA_FILE: the certificate of .* is not trusted"),
        ({"STREAMLENS_KAFKA_CA_FILE": "nowhere.pem"}, "STREAMLENS_KAFKA_CA_FILE: nowhere.pem: No such file"),
        ({"STREAMLENS_KAFKA_CA_FILE": __file__}, "STREAMLENS_KAFKA_CA_FILE: .*: .*certificate"),
        ({"STREAMLENS_KAFKA_PASSWORD": ""}, "STREAMLENS_KAFKA_PASSWORD is not set, and .* is SASL_SSL"),
        ({"STREAMLENS_KAFKA_SECURITY": "SSL"}, "STREAMLENS_KAFKA_USERNAME is set, and .* is SSL"),
    ],
    ids=[
        "a wrong password",
        "an unknown user",
        "a mechanism that the broker does not take",
        "a certificate of an unknown authority",
        "a file of authorities that is not there",
        "a file without certificates",
        "no password",
        "a user without SASL",
    ],
)
async def test_what_no_retry_heals_is_refused_at_once(
    broker: SecureBroker, settings: dict[str, str], words: str
) -> None:
    with pytest.raises(BadSetting, match=words):
        await broker.log(**settings).start()


async def test_another_protocol_than_the_brokers_is_named(broker: SecureBroker) -> None:
    log = KafkaLog(broker.secured, deadline_s=0.5)
    with pytest.raises(Unavailable, match=r"did not take a connection by PLAINTEXT within 0\.5 s"):
        await log.start()


def test_a_worker_with_a_wrong_password_ends_with_that_sentence(
    broker: SecureBroker, scratch: Path, empty_dsn: str
) -> None:
    with Behind(scratch / "tls", empty_dsn, broker, STREAMLENS_KAFKA_PASSWORD="wrong") as server:
        with pytest.raises(NotReady):
            server.start()
        assert server.ended() == 1
        assert "STREAMLENS_KAFKA_PASSWORD: Kafka at" in json.loads(server.last_line)["reason"]
        assert "exception" not in server.stderr, "a sentence is enough"
        assert "wrong" not in server.stderr, "the password itself is nobody's to read"
