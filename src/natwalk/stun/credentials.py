"""Keys made from passwords, and the hash that hides a username (RFC 8489 §9)."""

from __future__ import annotations

from hashlib import md5
from hashlib import sha256 as _sha256

from natwalk.stun.opaque_string import opaque_string


def short_term_key(password: str) -> bytes:
    """The key of a short-term credential: the prepared password (RFC 8489 §9.1.1, §14.5).

    Raises :class:`PreparationError` on a password that no OpaqueString is.
    """
    return opaque_string(password).encode()


def long_term_key(username: str, realm: str, password: str, *, sha256: bool = False) -> bytes:
    """The key of a long-term credential (RFC 8489 §18.5.1): 16 bytes of MD5, or 32 of SHA-256.

    Username, realm and password are prepared first; raises :class:`PreparationError` when one cannot be.
    """
    text = ":".join(map(opaque_string, (username, realm, password))).encode()
    # MD5 is what RFC 8489 §18.5.1.1 defines; it protects nothing but the wish to interoperate
    return _sha256(text).digest() if sha256 else md5(text, usedforsecurity=False).digest()


def userhash(username: str, realm: str) -> bytes:
    """The 32 bytes that stand for ``username`` in USERHASH (RFC 8489 §14.4); raises PreparationError."""
    return _sha256(f"{opaque_string(username)}:{opaque_string(realm)}".encode()).digest()
