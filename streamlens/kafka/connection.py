"""How to reach the brokers, and the one deadline with retries that stands round every request but appends."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    RequestTimedOutError,
    SaslAuthenticationFailed,
    StaleMetadata,
    UnsupportedSaslMechanismError,
)
from aiokafka.structs import TopicPartition

from streamlens.errors import BadSetting, Unavailable, is_closed
from streamlens.log import TP

_T = TypeVar("_T")

_FIRST_PAUSE_S = 0.05
_LAST_PAUSE_S = 1.0


class KafkaSecurity(msgspec.Struct, frozen=True, kw_only=True):
    """TLS and SASL, in the names of aiokafka's own arguments. The default is neither."""

    security_protocol: str = "PLAINTEXT"
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
    ssl_context: ssl.SSLContext | None = None
    """Needed for SSL and SASL_SSL."""
    sasl_mechanism: str = "PLAIN"
    """PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, GSSAPI or OAUTHBEARER."""
    sasl_plain_username: str | None = None
    sasl_plain_password: str | None = None
    """User and password, for PLAIN and SCRAM."""
    sasl_kerberos_service_name: str = "kafka"
    sasl_kerberos_domain_name: str | None = None
    sasl_oauth_token_provider: Any = None
    """An `aiokafka.abc.AbstractTokenProvider`."""


class Connection(msgspec.Struct, frozen=True):
    """What every client of the cluster is made from."""

    brokers: str
    """`host:port`, comma separated."""
    security: KafkaSecurity
    client_id: str
    deadline_s: float
    """For every request with its retries: after that the caller gets `Unavailable`."""
    request_timeout_s: float
    """For one request to one broker: after that its connection is given up."""

    def arguments(self) -> dict[str, Any]:
        """For the constructor of any of aiokafka's clients."""
        return {
            "bootstrap_servers": self.brokers,
            "client_id": self.client_id,
            "request_timeout_ms": int(self.request_timeout_s * 1000),
            **msgspec.structs.asdict(self.security),
        }

    async def check(self) -> None:
        """Connect once, as all clients will: aiokafka's clients do not tell why they could not.

        Raises `BadSetting` for what no retry heals, and `Unavailable`.
        """
        await self.answered(f"take a connection by {self.security.security_protocol}", self._connect)

    async def _connect(self) -> None:
        arguments = self.arguments()
        last = KafkaConnectionError()
        for host, port, _ in collect_hosts(arguments.pop("bootstrap_servers")):
            try:
                connection = await create_conn(host, port, **arguments)
            except ssl.SSLCertVerificationError as error:
                reason = f"the certificate of {host}:{port} is not trusted: {error.verify_message}"
                raise BadSetting(f"STREAMLENS_KAFKA_CA_FILE: {reason}") from None
            except SaslAuthenticationFailed as error:
                reason = f"Kafka at {host}:{port} refuses user or password: {error}"
                raise BadSetting(f"STREAMLENS_KAFKA_USERNAME, STREAMLENS_KAFKA_PASSWORD: {reason}") from None
            except UnsupportedSaslMechanismError:
                reason = f"Kafka at {host}:{port} does not take {self.security.sasl_mechanism}"
                raise BadSetting(f"STREAMLENS_KAFKA_SASL_MECHANISM: {reason}") from None
            except (OSError, TimeoutError, KafkaError) as error:
                last = KafkaConnectionError(f"{host}:{port}: {error or type(error).__name__}")
            else:
                connection.close()
                return
        raise last

    async def answered(self, wanted: str, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """What `attempt` returns, tried again after each error that may pass. `wanted` names it for the message.

        Raises `Unavailable` at the deadline, or at once after an error that a retry does not help.
        """
        pause_s, last = _FIRST_PAUSE_S, "no answer"
        try:
            async with asyncio.timeout(self.deadline_s):
                while True:
                    try:
                        return await attempt()
                    except KafkaError as error:
                        last = _told(error)
                        if not error.retriable:
                            raise Unavailable(f"Kafka at {self.brokers} did not {wanted}: {last}") from error
                    except RuntimeError as error:
                        if not is_closed(error):
                            raise
                        last = "the connection was closed"
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, _LAST_PAUSE_S)
        except TimeoutError:
            raise Unavailable(
                f"Kafka at {self.brokers} did not {wanted} within {self.deadline_s:g} s: {last}"
            ) from None


class KafkaClient:
    """Requests to the brokers that lead partitions, for what aiokafka's consumer offers only to its own tasks."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._client: AIOKafkaClient

    async def start(self) -> None:
        """Connect. Raises `Unavailable`."""
        self._client = AIOKafkaClient(**self.connection.arguments())
        await self.connection.answered("take a connection", self._client.bootstrap)

    async def stop(self) -> None:
        await self._client.close()

    async def leaders(self, tps: Iterable[TP]) -> dict[int, list[TP]]:
        """The partitions by the broker that leads them. Raises a `KafkaError` to retry while one has none."""
        found: dict[int, list[TP]] = {}
        for tp in tps:
            node = self._client.cluster.leader_for_partition(TopicPartition(tp.topic, tp.partition))
            if node is None or node < 0:
                self._client.add_topic(tp.topic)
                await self.refresh()
                node = self._client.cluster.leader_for_partition(TopicPartition(tp.topic, tp.partition))
            if node is None or node < 0:
                raise StaleMetadata(f"{tp.topic}[{tp.partition}] has no leader")
            found.setdefault(node, []).append(tp)
        return found

    async def send(self, node: int, request: Any) -> Any:
        """The answer of one broker."""
        try:
            return await self._client.send(node, request)
        except KeyError:  # aiokafka's, when two requests time out on one connection
            raise RequestTimedOutError(f"broker {node}") from None

    async def coordinator(self, group: str) -> int:
        """The broker that keeps the offsets of a consumer group."""
        return int(await self._client.coordinator_lookup(0, group))

    async def refresh(self) -> None:
        """Ask again who leads what."""
        await self._client.force_metadata_update()

    async def answered(self, wanted: str, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """`Connection.answered`, looking for new leaders where the error says that the known ones are old."""

        async def attempt_and_refresh() -> _T:
            try:
                return await attempt()
            except KafkaError as error:
                if error.invalid_metadata:
                    await self.refresh()
                raise

        return await self.connection.answered(wanted, attempt_and_refresh)


def by_topic(partitions: Mapping[TP, tuple[Any, ...]]) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """The shape of Kafka's requests: for each topic its partitions, each a number followed by its fields."""
    topics: dict[str, list[tuple[Any, ...]]] = {}
    for tp, fields in partitions.items():
        topics.setdefault(tp.topic, []).append((tp.partition, *fields))
    return list(topics.items())


def _told(error: KafkaError) -> str:
    return f"{type(error).__name__} {error}".strip()
