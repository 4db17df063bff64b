"""Who is on the other end of a relay connection: both sides prove their keys, each to this connection alone.

The server speaks first, with a nonce. The client signs that nonce, the server's key, a nonce of its own and
what identifies the channel below; the server signs the same. Neither signature is of use in another
connection: a nonce of each side is in both, and so is the channel, so that somebody in the middle of two TLS
connections cannot hand the proofs on.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from natwalk.core import IntegrityError, MalformedMessage
from natwalk.relay.frames import KEY_LENGTH, FrameType, frame
from natwalk.relay.keys import SIGNATURE_LENGTH, RelayIdentity, is_usable, verify

VERSION: Final = 1
NONCE_LENGTH: Final = 32

_CLIENT: Final = b"natwalk relay 1: this client holds its key\0"
_SERVER: Final = b"natwalk relay 1: this server holds its key\0"
_SECONDS: Final = Struct("!H")
_REASON_LIMIT: Final = 200


class RefusalCode(IntEnum):
    """Why a server wants no connection."""

    VERSION = 1
    PROOF = 2
    """The signature is of another key, another connection or another channel."""
    NOT_ALLOWED = 3
    FULL = 4
    DRAINING = 5
    SUPERSEDED = 6
    """The same key has too many newer connections."""
    MALFORMED = 7
    SILENT = 8


LASTING: Final = frozenset(
    {RefusalCode.VERSION, RefusalCode.PROOF, RefusalCode.NOT_ALLOWED, RefusalCode.SUPERSEDED}
)
"""Refusals that an attempt right after will hear, too, or cause."""


@dataclass(frozen=True, slots=True)
class Channel:
    """What both signatures are about. ``binding`` identifies the channel below, such as a TLS connection.

    It is what only the two ends of that channel know (RFC 5929 §3), empty where there is none.
    """

    server_key: bytes
    server_nonce: bytes
    client_key: bytes
    client_nonce: bytes
    binding: bytes

    def client_text(self) -> bytes:
        """What the client signs."""
        return _CLIENT + self._parts()

    def server_text(self) -> bytes:
        """What the server signs."""
        return _SERVER + self._parts()

    def _parts(self) -> bytes:
        # all of fixed length, so that no two channels have one text
        nonces = self.server_nonce + self.client_nonce
        return self.server_key + self.client_key + nonces + hashlib.sha256(self.binding).digest()


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server's first word."""

    key: bytes
    nonce: bytes
    version: int = VERSION

    def encode(self) -> bytes:
        """As a frame."""
        return frame(FrameType.CHALLENGE, bytes([self.version]), self.key, self.nonce)

    @classmethod
    def decode(cls, contents: bytes) -> Challenge:
        """Of a frame's contents, whose length was checked; raises MalformedMessage."""
        key, nonce = contents[1 : 1 + KEY_LENGTH], contents[1 + KEY_LENGTH : 1 + KEY_LENGTH + NONCE_LENGTH]
        if not is_usable(key):
            raise MalformedMessage("the server's key is none that anybody can hold alone")
        return cls(key, nonce, contents[0])


@dataclass(frozen=True, slots=True)
class Proof:
    """The client's answer."""

    key: bytes
    nonce: bytes
    signature: bytes
    version: int = VERSION

    def encode(self) -> bytes:
        """As a frame."""
        return frame(FrameType.PROOF, bytes([self.version]), self.key, self.nonce, self.signature)

    @classmethod
    def decode(cls, contents: bytes) -> Proof:
        """Of a frame's contents, whose length was checked."""
        nonce_at = 1 + KEY_LENGTH
        signature_at = nonce_at + NONCE_LENGTH
        return cls(
            contents[1:nonce_at],
            contents[nonce_at:signature_at],
            contents[signature_at : signature_at + SIGNATURE_LENGTH],
            contents[0],
        )


def prove(
    identity: RelayIdentity, challenge: Challenge, nonce: bytes, binding: bytes
) -> tuple[Proof, Channel]:
    """The client's answer to ``challenge``, and the channel in which the server has to prove itself."""
    channel = Channel(challenge.key, challenge.nonce, identity.public, nonce, binding)
    return Proof(identity.public, nonce, identity.sign(channel.client_text())), channel


def welcome(
    identity: RelayIdentity, server_nonce: bytes, proof: Proof, binding: bytes, idle_timeout: float
) -> bytes:
    """The frame with the server's proof, once the client's is good; raises IntegrityError when it is not."""
    channel = Channel(identity.public, server_nonce, proof.key, proof.nonce, binding)
    verify(proof.key, proof.signature, channel.client_text())
    seconds = _SECONDS.pack(min(max(int(idle_timeout), 1), 0xFFFF))
    return frame(FrameType.WELCOME, identity.sign(channel.server_text()), seconds)


def welcomed(channel: Channel, contents: bytes) -> float:
    """Check the contents of a WELCOME; the seconds of silence after which the server hangs up.

    Raises IntegrityError when whoever sent it does not hold the server's key, or sees another channel.
    """
    verify(channel.server_key, contents[:SIGNATURE_LENGTH], channel.server_text())
    seconds: int = _SECONDS.unpack_from(contents, SIGNATURE_LENGTH)[0]
    if not seconds:
        raise IntegrityError("the server would hang up at once")
    return float(seconds)


def refusal(code: RefusalCode, reason: str) -> bytes:
    """A REFUSED frame."""
    return frame(FrameType.REFUSED, bytes([code]), reason.encode()[:_REASON_LIMIT])


def refused(contents: bytes) -> tuple[RefusalCode | None, str]:
    """The code, None for one that this version does not know, and the reason, printable and short."""
    text = contents[1 : 1 + _REASON_LIMIT].decode("utf-8", "replace")
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    try:
        return RefusalCode(contents[0]), shown
    except ValueError:
        return None, shown
