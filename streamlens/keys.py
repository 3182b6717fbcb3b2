"""API keys: what each may do, and the copy of all of them that a process keeps, so that no request waits for Postgres.

A secret has 256 random bits, so one SHA-256 is enough to store: nobody can try them all, unlike passwords.
"""

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Iterable

import msgspec
import orjson
import structlog

from streamlens.errors import BadEvent, Unavailable

log = structlog.get_logger()

SCOPES = ("ingest", "read", "admin")
MOST_KEYS = 100_000
"""Not revoked, in one installation: each process has them all in memory, about 500 bytes each."""
REFRESH_S = 2.0
"""A key that was created or revoked elsewhere is known here after this, and the time that Postgres takes."""

_PREFIX = "sl_"
_SECRET_CHARACTERS = 46


class ForeignTenant(BadEvent):
    """Something of another tenant than the key's."""

    def __init__(self) -> None:
        super().__init__("tenant_id", "not the tenant of this key")


class _Tenant(msgspec.Struct, gc=False):
    tenant_id: object = None


_decode_tenant = msgspec.json.Decoder(_Tenant).decode


class Key(msgspec.Struct, frozen=True):
    """What a request may do. `tenant_id` None: for all tenants."""

    id: int
    sha256: bytes
    tenant_id: str | None
    scopes: frozenset[str]

    def must_own(self, tenant_id: str | None) -> None:
        """Raise `ForeignTenant` unless this key is for `tenant_id`, `BadEvent` for an event that needs to say whose."""
        if self.tenant_id is None:
            if tenant_id is None and self is not ANYONE:
                raise BadEvent("tenant_id", "required with a key for all tenants: ids are unique within a tenant")
        elif tenant_id != self.tenant_id:
            raise ForeignTenant

    def stamped(self, raw: bytes) -> bytes:
        """`raw` with the key's tenant where the event names none. It is not validated, nor is another tenant refused.

        The member comes last, because the last one counts: a client may have sent `"tenant_id": null`.
        """
        if self.tenant_id is None or _names_tenant(raw):
            return raw
        body = raw.strip()
        if body[:1] != b"{" or body[-1:] != b"}":
            return raw  # no object; whoever decodes it says so
        body = body[:-1].rstrip()
        return body + (b'"tenant_id":' if body == b"{" else b',"tenant_id":') + orjson.dumps(self.tenant_id) + b"}"


ANYONE = Key(0, b"", None, frozenset(SCOPES))
"""Whoever asks, where there are no keys."""


def new_secret() -> str:
    """A secret to hand out once."""
    return _PREFIX + secrets.token_urlsafe(32)


def sha256_of(secret: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).digest()


class Keys:
    """The copy. It is replaced whole; while Postgres is away the last one stays in force."""

    def __init__(self, load: Callable[[int], Awaitable[tuple[int, Iterable[Key]] | None]]) -> None:
        """`load` takes the version of the last copy, -1 at first, and gives a newer version and all keys that are not
        revoked, or None when nothing has changed. It raises `Unavailable` to be called again."""
        self._load = load
        self._version = -1
        self._by_sha256: dict[bytes, Key] | None = None
        self._turn = asyncio.Lock()

    def find(self, secret: str) -> Key | None:
        """The key of a secret, None when there is none or it is revoked. Raises `Unavailable` before the first copy."""
        if self._by_sha256 is None:
            raise Unavailable("the keys are not known yet: Postgres has not answered since the start", retry_after_s=2)
        if len(secret) != _SECRET_CHARACTERS or not secret.isascii():
            return None
        sha256 = sha256_of(secret)
        key = self._by_sha256.get(sha256)
        return key if key is not None and hmac.compare_digest(key.sha256, sha256) else None

    async def refresh(self) -> None:
        """Look for changes now. Raises `Unavailable`."""
        async with self._turn:
            if (loaded := await self._load(self._version)) is not None:
                self._version, keys = loaded
                self._by_sha256 = {key.sha256: key for key in keys}

    async def run(
        self, fatal: Callable[[BaseException], None], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """Look for changes, for ever. What no retry can heal is `fatal`: revocations would never be seen."""
        away = False
        while True:
            try:
                await self.refresh()
                if away:
                    log.info("keys are read again")
                away = False
            except Unavailable as error:
                if not away:
                    log.warning("keys can't be read, those known stay in force", reason=str(error))
                away = True
            except Exception as error:
                fatal(error)
                raise
            await sleep(REFRESH_S)


def _names_tenant(raw: bytes) -> bool:
    try:
        return _decode_tenant(raw).tenant_id is not None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
