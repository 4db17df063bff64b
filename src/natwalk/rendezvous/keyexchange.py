"""How two sides of a mailbox come to a secret: from a short code, or from a strong one they share already.

Both exchanges send one hello a side, so a key is there half a round trip after the second side came.
A short code needs a PAKE: a guesser learns from one exchange only whether that one guess was right. A
shared secret of 32 random bytes cannot be guessed, so X25519 mixed with it is enough and gives forward
secrecy; unlike a PAKE it may meet several incarnations of the peer with one hello.
"""

from __future__ import annotations

from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from spake2 import SPAKE2_A, SPAKE2_B, SPAKEError
from spake2.ed25519_basic import NotOnCurve

from natwalk.core import IntegrityError, RandomBytes
from natwalk.rendezvous.messages import Slot

SHORTEST_SHARED_SECRET: Final = 32
_POINT: Final = 32


class KeyExchange(Protocol):
    """One hello out, one hello in, a secret of 32 bytes."""

    hello: bytes

    def finish(self, peer_hello: bytes) -> bytes:
        """The secret, equal on both sides when both know the same; raises IntegrityError on a bad hello."""


class CodeExchange:
    """SPAKE2 over the password of a code, bound to ``context``; ``finish`` works once."""

    def __init__(self, side: Slot, password: bytes, context: bytes, *, random_bytes: RandomBytes) -> None:
        kind = SPAKE2_A if side is Slot.A else SPAKE2_B
        self._exchange = kind(password, idA=context + b"A", idB=context + b"B", entropy_f=random_bytes)
        self.hello: bytes = self._exchange.start()

    def finish(self, peer_hello: bytes) -> bytes:
        """The secret; raises IntegrityError when the hello is no point of the group or is our own."""
        if len(peer_hello) != 1 + _POINT:
            raise IntegrityError("not the hello of a key exchange")
        try:
            key: bytes = self._exchange.finish(peer_hello)
        except (SPAKEError, NotOnCurve, ValueError) as error:
            raise IntegrityError("not the hello of a key exchange") from error
        return key


class SharedSecretExchange:
    """X25519 with a shared secret as the salt of HKDF; ``finish`` works for each incarnation of the peer."""

    def __init__(self, side: Slot, secret: bytes, context: bytes, *, random_bytes: RandomBytes) -> None:
        self._side, self._secret, self._context = side, secret, context
        self._private = X25519PrivateKey.from_private_bytes(random_bytes(32))
        public = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.hello = side.value.encode() + public

    def finish(self, peer_hello: bytes) -> bytes:
        """The secret; raises IntegrityError when the hello is malformed, weak or of our own side."""
        if len(peer_hello) != 1 + _POINT or peer_hello[:1] != self._side.other.value.encode():
            raise IntegrityError("not the hello of a key exchange")
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(peer_hello[1:]))
        except ValueError as error:
            raise IntegrityError("a weak point in a key exchange") from error
        return hkdf(shared, b"natwalk shared secret" + self._context, salt=self._secret)


def hkdf(key: bytes, info: bytes, *, salt: bytes = b"", length: int = 32) -> bytes:
    """HKDF-SHA256 (RFC 5869 §2)."""
    return HKDF(SHA256(), length, salt or None, info).derive(key)
