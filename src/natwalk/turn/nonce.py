"""Nonces that need no memory: a time, salt and a MAC over both and the client (RFC 8489 §9.2, §14.10)."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import Final

from natwalk.core import Path, RandomBytes

NONCE_LIFETIME: Final = 600.0
NONCE_LENGTH: Final = 28
"""Bytes of a nonce; with a realm of up to 8 bytes a 401 stays within 3.6 times a bare request."""

_STAMP: Final = 5
_SALT: Final = 4
_MAC: Final = 12
_TICKS: Final = 1000  # a second
_MODULUS: Final = 1 << (8 * _STAMP)


class NonceIssuer:
    """Makes nonces for clients and recognises them again, for ``lifetime`` seconds, without storing any.

    A nonce is good for the 5-tuple it was made for and nowhere else. ``secret`` keys the MAC: servers that
    share one accept each other's nonces as long as they share the clock of ``now``, too.
    """

    def __init__(self, secret: bytes, *, random_bytes: RandomBytes, lifetime: float = NONCE_LIFETIME) -> None:
        if len(secret) < 16:
            raise ValueError(f"a nonce secret of {len(secret)} bytes is too short: at least 16")
        self._secret = secret
        self._random_bytes = random_bytes
        self._lifetime = lifetime

    def issue(self, path: Path, now: float) -> bytes:
        """A fresh nonce for the client at ``path.remote``: 28 printable bytes."""
        stamp = (int(now * _TICKS) % _MODULUS).to_bytes(_STAMP, "big")
        body = stamp + self._random_bytes(_SALT)
        return b64encode(body + self._mac(body, path), altchars=b"-_")

    def is_fresh(self, nonce: bytes, path: Path, now: float) -> bool:
        """True when we made ``nonce`` for that client within the lifetime; compares in constant time."""
        if len(nonce) != NONCE_LENGTH:
            return False
        try:
            raw = b64decode(nonce, altchars=b"-_", validate=True)
        except Base64Error:
            return False
        body = raw[: _STAMP + _SALT]
        if not hmac.compare_digest(raw[_STAMP + _SALT :], self._mac(body, path)):
            return False
        age = (int(now * _TICKS) - int.from_bytes(body[:_STAMP], "big")) % _MODULUS
        return age <= self._lifetime * _TICKS

    def _mac(self, body: bytes, path: Path) -> bytes:
        return hmac.digest(self._secret, body + str(path).encode(), "sha256")[:_MAC]
