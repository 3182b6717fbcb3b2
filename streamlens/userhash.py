"""Under which name a user is kept: a keyed hash, so that who reads rows or state can't tell whether it is a known user.

Applications send `user_id_hash`, often a plain hash of few possible ids, or the id itself; that is not stored.
"""

from collections.abc import Callable
from hashlib import blake2b

_BYTES = 12
"""A billion users have a pair of one name with a probability below 1e-11."""


class UserHash:
    """BLAKE2b with a key, of tenant and user: a user of two tenants has two names."""

    def __init__(self, secret: str, log_id: Callable[[], str]) -> None:
        """`secret` is `STREAMLENS_HASH_KEY`; where it is empty, the key follows from the id of the log, which the
        database knows too. The log need not be open before the first `of`."""
        self._secret = secret
        self._log_id = log_id
        self._keyed: blake2b | None = None

    def of(self, tenant_id: str, user_id: str) -> bytes:
        """The 12 bytes that stand for a user; answers show them in hex."""
        if self._keyed is None:
            key = f"secret\0{self._secret}" if self._secret else f"log\0{self._log_id()}"
            self._keyed = blake2b(key=blake2b(key.encode()).digest(), digest_size=_BYTES)
        name = self._keyed.copy()
        name.update(f"{tenant_id}\0{user_id}".encode())
        return name.digest()
