"""A Binding server without state: tells whoever asks how it sees them (RFC 8489 §6.3, §12)."""

from __future__ import annotations

from typing import Final

from natwalk.core import Drops, MalformedMessage, Outbox, Path, Transmit
from natwalk.stun.attributes import (
    MAPPED_ADDRESS,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    NONCE,
    PASSWORD_ALGORITHM,
    REALM,
    SOFTWARE,
    UNKNOWN_ATTRIBUTES,
    USERHASH,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    Attribute,
)
from natwalk.stun.codec import decode, encode
from natwalk.stun.message import Message, MessageClass, Method, error, success

MAX_UNKNOWN: Final = 128
"""Most attribute types a 420 lists: a request must not be able to ask for a large answer."""

_UNDERSTOOD: Final = frozenset(
    spec.type
    for spec in (
        MAPPED_ADDRESS,
        USERNAME,
        MESSAGE_INTEGRITY,
        REALM,
        NONCE,
        MESSAGE_INTEGRITY_SHA256,
        PASSWORD_ALGORITHM,
        USERHASH,
        XOR_MAPPED_ADDRESS,
    )
)
"""Comprehension-required attributes a request may carry; credentials are not asked for and not checked."""


class BindingServer:
    """Answers Binding requests with XOR-MAPPED-ADDRESS and nothing else, 32 bytes for IPv4, 44 for IPv6.

    It answers no indication, no response and no garbage, and a request of header size gets at most those
    44 bytes, so it is of no use to amplify. ``software`` adds SOFTWARE to answers and makes them longer.
    """

    def __init__(self, *, software: str | None = None) -> None:
        self.drops = Drops()
        self._extra: tuple[Attribute, ...] = () if software is None else ((SOFTWARE, software),)
        self._outbox: Outbox[Transmit] = Outbox()

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Answer the Binding request that ``datagram`` is, or drop it."""
        try:
            message = decode(datagram)
        except MalformedMessage:
            self.drops.add("malformed")
            return
        if message.message_class is not MessageClass.REQUEST or message.method != Method.BINDING:
            self.drops.add("not a Binding request")
        elif path.remote.port == 0:
            self.drops.add("from port 0")
        elif not self._outbox.put(Transmit(encode(self._answer(message, path)), path)):
            self.drops.add("too many answers queued")

    def _answer(self, message: Message, path: Path) -> Message:
        types = (spec.type for spec, _ in message.attributes)
        unknown = tuple(dict.fromkeys(t for t in types if t < 0x8000 and t not in _UNDERSTOOD))
        if unknown:
            return error(message, 420, "", (UNKNOWN_ATTRIBUTES, unknown[:MAX_UNKNOWN]), *self._extra)
        return success(message, (XOR_MAPPED_ADDRESS, path.remote), *self._extra)

    def handle_timeout(self, now: float) -> None:
        """Nothing: the server keeps no state."""

    def poll_transmit(self) -> Transmit | None:
        """The next answer to send, or None."""
        return self._outbox.poll()

    def poll_event(self) -> None:
        """None: the server has nothing to tell."""
        return None

    def next_timeout(self) -> float | None:
        """None: the server waits for nothing."""
        return None
