"""What was answered is never lost: the process, or its broker, gets a kill -9 while requests are on their way."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from kafka_broker import KafkaBroker
from process_logs import LOGS, on_log
from process_server import Server, at_last, until
from streamlens.simulate.oracle import compare
from test_kafka_producers import Sent, traffic

CONNECTIONS = 16
TENANTS = 4
PATHS = {"llm.requests": "/v1/llm/request", "llm.responses": "/v1/llm/response", "llm.calls": "/v1/llm/call"}
HEALS_S = 60.0


class Clients:
    """Connections that post one event after the other, each in a request of its own."""

    def __init__(self, port: int, events: Iterable[Sent]) -> None:
        self.answered: list[Sent] = []
        self.unanswered: list[Sent] = []
        """Sent without an answer, or with one that asks to send again."""
        self.repeated = 0
        self._port = port
        self._waiting = deque(events)

    @contextmanager
    def posting(self) -> Iterator[None]:
        """All connections at once, until nothing waits or the server is gone."""
        with ThreadPoolExecutor(CONNECTIONS) as threads:
            posts = [threads.submit(self._post) for _ in range(CONNECTIONS)]
            yield
        for post in posts:
            post.result()

    def again(self) -> bool:
        """Post all that has no answer yet; whether it has now."""
        self.repeated += len(self.unanswered)
        self._waiting += self.unanswered
        self.unanswered = []
        with self.posting():
            pass
        return not self.unanswered and not self._waiting

    def _post(self) -> None:
        with closing(HTTPConnection("127.0.0.1", self._port, timeout=HEALS_S)) as connection:
            while event := self._next():
                try:
                    connection.request("POST", PATHS[event.topic], event.value, {"Content-Type": "application/json"})
                    answer = connection.getresponse()
                    answer.read()
                except (OSError, HTTPException):
                    self.unanswered.append(event)
                    return
                assert answer.status in (202, 503), answer.status
                (self.answered if answer.status == 202 else self.unanswered).append(event)

    def _next(self) -> Sent | None:
        try:
            return self._waiting.popleft()
        except IndexError:
            return None


@pytest.fixture(params=LOGS, ids=["the process", "its broker"])
def killed(
    request: pytest.FixtureRequest, scratch: Path, postgres: str
) -> Iterator[tuple[Server, Server | KafkaBroker]]:
    """A running server, and what is to be killed: itself, or the broker that has its log."""
    with on_log(request.param, "answered", scratch, postgres) as (server, holder):
        yield server.start(), holder
        print(server.stderr)  # shown when the test fails


def booked(server: Server, column: str) -> int:
    return sum(row[column] for row in server.get("/v1/ledger?limit=10000")[1].get("ledger", []))


def test_what_was_answered_counts_once_and_the_rest_when_it_is_sent_again(
    killed: tuple[Server, Server | KafkaBroker],
) -> None:
    server, holder = killed
    tenants = [traffic(f"answered-{n}") for n in range(TENANTS)]
    sent = [event for events, _ in tenants for event in events]
    expected = [row for _, rows in tenants for row in rows]
    clients = Clients(server.port, sent)
    with clients.posting():
        until(lambda: len(clients.answered) > len(sent) / 4, "a quarter is answered")
        holder.kill()
        until(lambda: bool(clients.unanswered), "some are not")
        holder.start()
    kept = len(clients.answered)
    assert kept < len(sent)
    until(lambda: booked(server, "received") >= kept, "what was answered is in the ledger", within_s=HEALS_S)

    until(clients.again, "all are answered", within_s=HEALS_S)
    assert at_last(lambda: compare(expected, server.rows()), [], within_s=HEALS_S) == []
    assert at_last(lambda: booked(server, "aggregated"), len(sent)) == len(sent)
    assert booked(server, "duplicate") <= clients.repeated
    audit = server.audit()
    assert (audit.returncode, audit.stdout.endswith("\ncloses\n")) == (0, True), audit.stdout + audit.stderr
    assert server.stop() == 0
