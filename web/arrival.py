"""What is known of a body of events besides its bytes: when it came, and which program has sent it."""

from functools import lru_cache

import msgspec
from aiohttp import web

from streamlens.keys import Key
from streamlens.mappings import DEFAULT_TENANT
from web.access import key_of
from web.services import Services

_MAX_SENDER = 64


class Arrival(msgspec.Struct, frozen=True):
    """`latest_us`: times after it are too far in the future. `sender`: the beginning of an event that names none.
    `key`: what its sender may send. `tenant_id`: whose events are that name none, of the kinds that may."""

    services: Services
    received_us: int
    latest_us: int
    sender: bytes
    key: Key
    tenant_id: str

    @classmethod
    def of(cls, request: web.Request, services: Services) -> "Arrival":
        """That of a request which has just come."""
        return cls.by(key_of(request), request.headers.get("User-Agent", ""), services)

    @classmethod
    def by(cls, key: Key, user_agent: str, services: Services) -> "Arrival":
        """The same, of whatever transport."""
        now_us = services.clock_us()
        latest_us = now_us + services.settings.max_future_s * 1_000_000
        return cls(services, now_us, latest_us, _sender(user_agent), key, key.tenant_id or DEFAULT_TENANT)


@lru_cache(1024)
def _sender(user_agent: str) -> bytes:
    """The product and version that a User-Agent begins with, as the first member of an object."""
    sender = user_agent.split(" ", 1)[0][:_MAX_SENDER].encode(errors="replace").decode()
    return b'{"sender":%b,' % msgspec.json.encode(sender) if sender else b"{"
