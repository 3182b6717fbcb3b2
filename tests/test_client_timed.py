"""`client.timed`: what is recorded of a block, however it ends."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from client_peer import Event, Peer
from process_server import until
from streamlens.client import Client, Timed, error_type


class Refused(Exception):
    """As those of HTTP and LLM libraries."""

    def __init__(self, status_code: object) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


class Failed(Exception):
    """As those of requests and httpx."""

    response = SimpleNamespace(status_code=502)


class Hostile(Exception):
    @property
    def status_code(self) -> int:
        raise RuntimeError("no")


class APITimeoutError(Exception):
    pass


class Silent(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), "timeout"),
        (APITimeoutError(), "timeout"),
        (Refused(408), "timeout"),
        (Refused(504), "timeout"),
        (Refused(429), "rate_limit"),
        (Refused(400), "client_error"),
        (Refused(503), "server_error"),
        (Refused("503"), "other"),
        (Failed(), "server_error"),
        (ValueError("x"), "other"),
        (asyncio.CancelledError(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
    ],
)
def test_an_error_has_a_class(error: BaseException, expected: str) -> None:
    assert error_type(error) == expected


def timed(body: Any) -> Event:
    """The event that is left of a block."""
    with Peer().running() as peer, Client(peer.url) as client:
        try:
            with client.timed(route="chat", model="m", provider="openai") as call:
                body(call)
        except BaseException as error:
            assert not isinstance(error, AssertionError), error
        assert client.flush()
    (event,) = peer.stored.values()
    assert event["request_id"] == call.request_id
    assert (event["type"], event["route"], event["provider"]) == ("call", "chat", "openai")
    return event


def test_a_block_is_measured_and_the_application_adds_to_it() -> None:
    def body(call: Timed) -> None:
        until(lambda: call._elapsed_ms() > 20, "time has passed")
        call.first_token()
        first = call._fields["ttft_ms"]
        until(lambda: call._elapsed_ms() > 40, "more time has passed")
        call.first_token()
        assert call._fields["ttft_ms"] == first
        call.set(prompt_tokens=12, completion_tokens=3)
        call.set(finish_reason="stop", completion_tokens=4)

    event = timed(body)
    assert event["ttft_ms"] > 20 and event["latency_ms"] > 40 and event["ttft_ms"] < event["latency_ms"]
    assert (event["prompt_tokens"], event["completion_tokens"], event["finish_reason"]) == (12, 4, "stop")
    assert "error" not in event and "error_type" not in event


@pytest.mark.parametrize(
    ("error", "told", "kind"),
    [
        (Refused(429), "Refused: status 429", "rate_limit"),
        (ValueError("x" * 5_000), "ValueError: " + "x" * 988, "other"),
        (KeyboardInterrupt(), "KeyboardInterrupt: ", "cancelled"),
        (Silent(), "Silent", "other"),
        (Hostile("x"), "Hostile", "other"),
    ],
)
def test_a_block_that_raises_is_an_error_and_goes_on_raising(error: BaseException, told: str, kind: str) -> None:
    def body(call: Timed) -> None:
        raise error

    event = timed(body)
    assert (event["error"], event["error_type"]) == (told, kind)
    with pytest.raises(type(error)), Timed(lambda fields: None, {}) as call:
        body(call)


def test_what_the_application_says_of_an_error_wins() -> None:
    def body(call: Timed) -> None:
        call.set(error_type="content_filter")
        raise ValueError("refused")

    assert timed(body)["error_type"] == "content_filter"
