"""Ed25519 keys as addresses: who may be one, and the proof that somebody is (RFC 8032 §5.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from natwalk.core import IntegrityError
from natwalk.relay.frames import KEY_LENGTH

SEED_LENGTH: Final = 32
SIGNATURE_LENGTH: Final = 64

_P: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _P) % _P


class RelayIdentity:
    """An Ed25519 key pair made of a 32-byte seed, which never shows in ``repr``; ``public`` is 32 bytes."""

    __slots__ = ("_private", "public")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_LENGTH:
            raise ValueError(f"a seed has {SEED_LENGTH} bytes, this one {len(seed)}")
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public: bytes = self._private.public_key().public_bytes_raw()

    @classmethod
    def generate(cls, random_bytes: Callable[[int], bytes]) -> RelayIdentity:
        """A new one."""
        return cls(random_bytes(SEED_LENGTH))

    def sign(self, message: bytes) -> bytes:
        """A signature of ``message``, 64 bytes (RFC 8032 §5.1.6)."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"RelayIdentity({self.public.hex()[:16]}…)"


def is_usable(key: bytes) -> bool:
    """Whether ``key`` can be somebody's: 32 bytes, canonical, and none of the points of small order.

    Under a key of small order anybody can make a signature that verifies; all zeros is one. Such a point
    has y of 0 or ±1, or doubles to one with y = 0, which on this curve is d·y⁴ + 2·y² = 1.
    """
    if len(key) != KEY_LENGTH:
        return False
    y = int.from_bytes(key, "little") & ((1 << 255) - 1)
    square = y * y % _P
    return y < _P and y != 0 and square != 1 and (_D * square * square + 2 * square - 1) % _P != 0


def verify(key: bytes, signature: bytes, message: bytes) -> None:
    """Return if the holder of ``key`` signed ``message`` (RFC 8032 §5.1.7); raise IntegrityError if not."""
    if not is_usable(key):
        raise IntegrityError("the key is none that anybody can hold alone")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature as error:
        raise IntegrityError("the signature is not of the holder of the key") from error
