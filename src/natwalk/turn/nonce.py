"""Nonces that need no memory: a time, salt and a MAC over both and the client (RFC 8489 §9.2, §14.10).

There are two kinds. A full one starts with the security features of the server (RFC 8489 §9.2), which an
attacker on the path cannot change unnoticed, as the MAC covers them and the offer they announce. A plain one
has no such start and is 13 bytes shorter: for answers that may not be bigger (docs/adr/0008-challenges.md).
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from hmac import compare_digest
from typing import Final

from natwalk.core import Path, RandomBytes
from natwalk.stun.mac import mac

NONCE_LIFETIME: Final = 600.0
BODY_LENGTH: Final = 23
"""Bytes of a nonce after its prefix: 36 with the prefix of a server that has security features."""

_STAMP: Final = 3
_SALT: Final = 4
_MAC: Final = 10
_MODULUS: Final = 1 << (8 * _STAMP)


class NonceIssuer:
    """Makes nonces for clients and recognises them again, for ``lifetime`` seconds, without storing any.

    A nonce is good for the 5-tuple it was made for and nowhere else; over a stream, whose source is proven,
    for every connection of that host to that listener, as those of one TCP allocation are (RFC 6062 §4.3):
    a ConnectionBind is not made to ask twice. ``secret`` keys the MAC: servers that
    share one accept each other's nonces as long as they share the clock of ``now``, too. ``prefix`` is how
    full nonces start and ``offer`` what they stand for besides: a nonce issued with another of either is not
    fresh. ``plain`` says whether nonces without the prefix are good, too.
    """

    def __init__(
        self,
        secret: bytes,
        *,
        random_bytes: RandomBytes,
        lifetime: float = NONCE_LIFETIME,
        prefix: bytes = b"",
        offer: bytes = b"",
        plain: bool = True,
    ) -> None:
        if len(secret) < 16:
            raise ValueError(f"a nonce secret of {len(secret)} bytes is too short: at least 16")
        self._secret = secret
        self._random_bytes = random_bytes
        self._lifetime = lifetime
        self._prefix = prefix
        self._offer = offer
        self._plain = plain or not prefix

    def __repr__(self) -> str:
        return f"NonceIssuer(lifetime={self._lifetime})"

    def issue(self, path: Path, now: float, *, plain: bool = False) -> bytes:
        """A fresh nonce for the client at ``path.remote``: the prefix unless ``plain``, and 23 characters."""
        prefix = b"" if plain else self._prefix
        stamp = int(now)
        body = (stamp % _MODULUS).to_bytes(_STAMP, "big") + self._random_bytes(_SALT)
        code = self._mac(prefix, stamp, body, path)
        return prefix + b64encode(body + code, altchars=b"-_").rstrip(b"=")

    def is_fresh(self, nonce: bytes, path: Path, now: float) -> bool:
        """True when we made ``nonce`` for that client within the lifetime; compares in constant time."""
        if len(nonce) == len(self._prefix) + BODY_LENGTH and nonce.startswith(self._prefix):
            prefix = self._prefix
        elif self._plain and len(nonce) == BODY_LENGTH:
            prefix = b""
        else:
            return False
        try:
            raw = b64decode(nonce[len(prefix) :] + b"=", altchars=b"-_", validate=True)
        except Base64Error:
            return False
        body = raw[: _STAMP + _SALT]
        seconds = int(now)
        age = (seconds - int.from_bytes(body[:_STAMP], "big")) % _MODULUS
        # the MAC is over the whole stamp, so that no nonce comes back to life when the three bytes wrap
        genuine = compare_digest(raw[_STAMP + _SALT :], self._mac(prefix, seconds - age, body, path))
        canonical = b64encode(raw, altchars=b"-_").rstrip(b"=") == nonce[len(prefix) :]
        return genuine and canonical and age <= self._lifetime

    def _mac(self, prefix: bytes, stamp: int, body: bytes, path: Path) -> bytes:
        transport = path.transport.encode()
        remote = path.remote.host if path.transport.is_stream else path.remote
        client = f"{path.local} {remote} {stamp}".encode()
        data = b"\0".join((prefix, self._offer, transport, client, body))
        return mac(self._secret, data, "sha256")[:_MAC]
