"""One key between one incarnation of each side: what is sealed and opened with it, each message once."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from natwalk.core import IntegrityError
from natwalk.rendezvous.keyexchange import hkdf
from natwalk.rendezvous.messages import MAX_BODY, Slot

TAG_SIZE: Final = 16
MAX_PLAINTEXT: Final = MAX_BODY - TAG_SIZE
CONFIRM: Final = 0
"""The number of the first message of each direction, empty: it proves that the sender has the key."""
_AHEAD: Final = 64


class Session:
    """ChaCha20-Poly1305 (RFC 8439 §2.8) in each direction, numbered from 0, under a key of its own."""

    def __init__(self, side: Slot, secret: bytes, context: bytes, hello_a: bytes, hello_b: bytes) -> None:
        self._side = side
        transcript = sha256(sha256(hello_a).digest() + sha256(hello_b).digest()).digest()
        self._secret = hkdf(secret, b"natwalk mailbox" + context + transcript)
        self._seal = ChaCha20Poly1305(self.derive(f"from {side.value}"))
        self._open = ChaCha20Poly1305(self.derive(f"from {side.other.value}"))
        self._next_out = CONFIRM
        self._next_in = CONFIRM
        self._ahead: dict[int, bytes] = {}
        self.tag = transcript[:8].hex()
        """Names the session in phases; not secret."""
        self.confirmed = False
        """Whether the peer proved that it has the key."""

    def derive(self, purpose: str, length: int = 32) -> bytes:
        """A key for ``purpose``, the same on both sides."""
        return hkdf(self._secret, b"natwalk derive " + purpose.encode(), length=length)

    def seal(self, plaintext: bytes) -> tuple[int, bytes]:
        """The number and the ciphertext of the next message to the peer."""
        number, self._next_out = self._next_out, self._next_out + 1
        return number, self._seal.encrypt(_nonce(number), plaintext, _associated(self._side, number))

    def open(self, number: int, ciphertext: bytes) -> list[bytes]:
        """The plaintexts that are now in order, [] when there is a gap or it was seen before.

        Raises IntegrityError when it does not verify. Message 0, the confirmation, sets ``confirmed``
        and yields nothing.
        """
        if not self._next_in <= number < self._next_in + _AHEAD or number in self._ahead:
            return []
        try:
            plaintext = self._open.decrypt(_nonce(number), ciphertext, _associated(self._side.other, number))
        except InvalidTag as error:
            raise IntegrityError("a message does not verify") from error
        self._ahead[number] = plaintext
        ready: list[bytes] = []
        while self._next_in in self._ahead:
            plaintext = self._ahead.pop(self._next_in)
            if self._next_in == CONFIRM:
                self.confirmed = True
            else:
                ready.append(plaintext)
            self._next_in += 1
        return ready


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _associated(side: Slot, number: int) -> bytes:
    return side.value.encode() + number.to_bytes(8, "big")
