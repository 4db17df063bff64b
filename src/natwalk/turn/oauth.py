"""Tokens of a third party that say who may use a TURN server (RFC 7635).

An authorization server that shares a key with the TURN server gives a client a ``mac_key``, which signs the
client's requests, and a token: the same ``mac_key`` and how long it is good, encrypted for the TURN server.
The token travels in ACCESS-TOKEN, the name of the shared key in USERNAME.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from natwalk.core import IntegrityError
from natwalk.turn.config import OAuthKey

MAC_KEY_MIN: Final = 16
MAC_KEY_MAX: Final = 64
"""Bytes of a ``mac_key``: 128 bits at least, one block of the hash at most."""
NONCE_LENGTH: Final = 12
TOKEN_MAX: Final = 512
"""Bytes of a token that is looked at; the longest possible has 164 with a nonce of 12."""
CLOCK_SKEW: Final = 60.0
"""Seconds by which the clock of an authorization server may be ahead."""

_TAG: Final = 16
_U16: Final = Struct("!H")
_TIMES: Final = Struct("!QI")
_FRACTIONS: Final = 64_000  # of a second, in the low 16 bits of a timestamp


@dataclass(frozen=True, slots=True)
class Token:
    """What a token holds: ``issued`` is a Unix time, ``lifetime`` is in seconds (RFC 7635 §6.2)."""

    mac_key: bytes = field(repr=False)
    issued: float
    lifetime: int

    @property
    def expires(self) -> float:
        """The Unix time at which it ends."""
        return self.issued + self.lifetime


def oauth_token(
    key: OAuthKey,
    server_name: str,
    mac_key: bytes,
    *,
    issued: float,
    lifetime: int,
    nonce: bytes,
) -> bytes:
    """The ACCESS-TOKEN an authorization server gives out with ``mac_key`` (RFC 7635 §6.2).

    ``issued`` is a Unix time, ``lifetime`` is in seconds; ``server_name`` is the TURN server's, as in
    THIRD-PARTY-AUTHORIZATION; ``nonce`` is 12 bytes never used with ``key`` before. Raises ValueError.
    """
    if not MAC_KEY_MIN <= len(mac_key) <= MAC_KEY_MAX:
        raise ValueError(f"a mac_key of {len(mac_key)} bytes, not {MAC_KEY_MIN} to {MAC_KEY_MAX}")
    if len(nonce) != NONCE_LENGTH:
        raise ValueError(f"a nonce of {len(nonce)} bytes, not {NONCE_LENGTH}")
    if not 0 <= issued < 1 << 48 or not 0 <= lifetime < 1 << 32:
        raise ValueError(f"issued at {issued} for {lifetime} s is out of range")
    seconds, fraction = divmod(issued, 1)
    timestamp = int(seconds) << 16 | int(fraction * _FRACTIONS)
    plain = _U16.pack(len(mac_key)) + mac_key + _TIMES.pack(timestamp, lifetime)
    sealed = AESGCM(key.key).encrypt(nonce, plain, server_name.encode())
    return _U16.pack(len(nonce)) + nonce + sealed


def open_token(token: bytes, key: OAuthKey, server_name: str) -> Token:
    """What ``token`` holds, its times unchecked.

    Raises IntegrityError, which says nothing of the contents, when it was not made with ``key`` for
    ``server_name`` or breaks a bound.
    """
    if not 2 + NONCE_LENGTH + _TAG < len(token) <= TOKEN_MAX:
        raise IntegrityError(f"an access token of {len(token)} bytes")
    (nonce_length,) = _U16.unpack_from(token)
    if nonce_length != NONCE_LENGTH:  # what AES-GCM is defined with
        raise IntegrityError(f"an access token with a nonce of {nonce_length} bytes")
    nonce, sealed = token[2 : 2 + NONCE_LENGTH], token[2 + NONCE_LENGTH :]
    try:
        plain = AESGCM(key.key).decrypt(nonce, sealed, server_name.encode())
    except InvalidTag:
        raise IntegrityError("an access token that does not decrypt") from None
    if len(plain) < _U16.size:
        raise IntegrityError("an access token without a key")
    (size,) = _U16.unpack_from(plain)
    if not MAC_KEY_MIN <= size <= MAC_KEY_MAX or len(plain) != _U16.size + size + _TIMES.size:
        raise IntegrityError("an access token whose lengths are wrong")
    timestamp, lifetime = _TIMES.unpack_from(plain, _U16.size + size)
    issued = (timestamp >> 16) + min(timestamp & 0xFFFF, _FRACTIONS - 1) / _FRACTIONS
    return Token(plain[_U16.size : _U16.size + size], issued, lifetime)
