"""A Binding server: tells whoever asks how it sees them (RFC 8489 §6.3, §12; RFC 5780 §6; RFC 3489 §8.1)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from natwalk.core import (
    Address,
    Drops,
    LocalProtocolError,
    MalformedMessage,
    Outbox,
    Path,
    RandomBytes,
    Transmit,
    Transport,
)
from natwalk.stun.attributes import (
    CHANGE_REQUEST,
    MAPPED_ADDRESS,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    NONCE,
    OTHER_ADDRESS,
    PADDING,
    PASSWORD_ALGORITHM,
    REALM,
    RESPONSE_ORIGIN,
    RESPONSE_PORT,
    SOFTWARE,
    UNKNOWN_ATTRIBUTES,
    USERHASH,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    Attribute,
)
from natwalk.stun.behaviour import BOTH, Behaviour
from natwalk.stun.classic import ClassicRequest, classic_error, classic_success, decode_classic
from natwalk.stun.codec import decode, encode
from natwalk.stun.message import (
    TRANSACTION_ID_LENGTH,
    Message,
    MessageClass,
    Method,
    error,
)
from natwalk.stun.partner import Answer, Partnership, Refused
from natwalk.stun.values import ChangeRequest

MAX_UNKNOWN: Final = 128
"""Most attribute types a 420 lists: a request must not be able to ask for a large answer."""
MAX_PADDING: Final = 1500
"""Most bytes of PADDING: an Ethernet's MTU, as RFC 5780 §6.1 has it."""

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
_UNDERSTOOD_OF_BEHAVIOUR: Final = _UNDERSTOOD | {CHANGE_REQUEST.type, RESPONSE_PORT.type, PADDING.type}


class BindingServer:
    """Answers Binding requests with XOR-MAPPED-ADDRESS and nothing else, 32 bytes for IPv4, 44 for IPv6.

    It answers no indication, no response and no garbage, and a request of header size gets at most those
    44 bytes, so it is of no use to amplify. ``software`` adds SOFTWARE to answers and makes them longer, and
    so does ``behaviour``, which has it take part in behaviour discovery (RFC 5780) on those addresses; a
    partner needs ``random_bytes`` and ``wall_offset``, Unix time minus ``now``. ``classic`` answers clients
    of RFC 3489 too, with as few bytes.
    """

    def __init__(
        self,
        *,
        software: str | None = None,
        behaviour: Behaviour | None = None,
        classic: bool = True,
        random_bytes: RandomBytes | None = None,
    ) -> None:
        self.drops = Drops()
        self.classic = classic
        self.wall_offset: float | None = None
        self._extra: tuple[Attribute, ...] = ()
        self.set_software(software)
        self._random_bytes = random_bytes
        self._outbox: Outbox[Transmit] = Outbox()
        self._behaviour: Behaviour | None = None
        self._local: frozenset[Address] = frozenset()
        self._partnership: Partnership | None = None
        self.set_behaviour(behaviour)

    def set_software(self, software: str | None) -> None:
        """Add SOFTWARE to answers from now on, or with None no more."""
        self._extra = () if software is None else ((SOFTWARE, software),)

    def set_behaviour(self, behaviour: Behaviour | None) -> None:
        """Take part in behaviour discovery from now on, or with None no more.

        Raises LocalProtocolError for a partner when the server was made without ``random_bytes``.
        """
        partnership: Partnership | None = None
        if behaviour is not None and behaviour.partner_secret:
            if self._random_bytes is None:
                raise LocalProtocolError("a partner needs random bytes")
            partnership = Partnership(behaviour.partner_secret, self._random_bytes)
        self._behaviour, self._partnership = behaviour, partnership
        self._local = frozenset() if behaviour is None else frozenset(behaviour.local_addresses)

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Answer the Binding request that ``datagram`` is, or drop it."""
        try:
            classic = decode_classic(datagram) if self.classic else None
            message = decode(datagram) if classic is None else None
        except MalformedMessage:
            self.drops.add("malformed")
            return
        if path.remote.port == 0:
            self.drops.add("from port 0")
        elif classic is not None:
            self._receive_classic(classic, path, now)
        elif message is None or message.method != Method.BINDING:
            self.drops.add("not a Binding request")
        elif message.message_class is MessageClass.REQUEST:
            self._receive_request(message, path, now)
        elif message.message_class is MessageClass.INDICATION and self._partnership is not None:
            self._receive_order(self._partnership, message, path, now)
        else:
            self.drops.add("not a Binding request")

    def _receive_request(self, message: Message, path: Path, now: float) -> None:
        behaviour = self._behaviour_on(path)
        understood = _UNDERSTOOD if behaviour is None else _UNDERSTOOD_OF_BEHAVIOUR
        types = (spec.type for spec, _ in message.attributes)
        unknown = tuple(dict.fromkeys(t for t in types if t < 0x8000 and t not in understood))
        if unknown:
            attribute = (UNKNOWN_ATTRIBUTES, unknown[:MAX_UNKNOWN])
            self._send(encode(error(message, 420, "", attribute, *self._extra)), path)
            return
        change = message.get(CHANGE_REQUEST) or ChangeRequest()
        port = message.get(RESPONSE_PORT)
        padding = message.get(PADDING)
        if port == 0 or (port is not None and padding is not None):
            self._send(encode(error(message, 400, "", *self._extra)), path)
            return
        destination = path.remote if port is None else path.remote.with_port(port)
        answer = Answer(message.transaction_id, path.remote, destination)
        if behaviour is None:
            self._send(self._encode(answer), path)
            return
        origin = behaviour.origin(path.local, change)
        answer = self._told(answer, behaviour, origin, path)
        if padding is not None:
            answer = self._padded(answer, len(padding), len(message.raw))
        self._send_from(origin, answer, path, now)

    def _receive_classic(self, asked: ClassicRequest, path: Path, now: float) -> None:
        behaviour = self._behaviour_on(path)
        unknown = asked.unknown
        if asked.change is not None and behaviour is None:
            unknown = (CHANGE_REQUEST.type, *unknown)
        if unknown:
            self._send(classic_error(asked.transaction_id, 420, unknown[:MAX_UNKNOWN]), path)
            return
        answer = Answer(asked.transaction_id, path.remote, path.remote)
        if behaviour is None:
            self._send(self._encode(answer), path)
            return
        origin = behaviour.origin(path.local, asked.change or ChangeRequest())
        self._send_from(origin, self._told(answer, behaviour, origin, path), path, now)

    def _receive_order(self, partnership: Partnership, order: Message, path: Path, now: float) -> None:
        """Answer a client of the partner's."""
        behaviour = self._behaviour_on(path)
        if behaviour is None or self.wall_offset is None or path.remote.host != behaviour.alternate.host:
            self.drops.add("not a Binding request")
            return
        try:
            answer = partnership.take(order, now + self.wall_offset, now)
        except Refused as refusal:
            self.drops.add(str(refusal))
            return
        local = next((mine for mine in self._local if behaviour.seen(mine) == answer.origin), None)
        if local is None or answer.mapped.version != local.version:
            self.drops.add("a partner's order to answer from elsewhere")
            return
        answer = replace(answer, padding=min(answer.padding, MAX_PADDING))
        self._send(self._encode(answer), Path(local, answer.destination))

    def _behaviour_on(self, path: Path) -> Behaviour | None:
        """The configuration when ``path`` ends at one of its addresses; a stream has only one origin."""
        on = path.transport is Transport.UDP and path.local in self._local
        return self._behaviour if on else None

    def _told(self, answer: Answer, behaviour: Behaviour, origin: Address, path: Path) -> Answer:
        """``answer`` with where it comes from and where else it could (RFC 5780 §6.1)."""
        other = behaviour.origin(path.local, BOTH)
        return replace(answer, origin=behaviour.seen(origin), other=behaviour.seen(other))

    def _padded(self, answer: Answer, asked: int, size: int) -> Answer:
        """``answer`` with PADDING, as far as it stays no longer than the request of ``size`` bytes.

        Deviates from RFC 5780 §6.1, which pads every such answer to the MTU: 1500 bytes for 24 would make
        the server an amplifier.
        """
        room = size - len(self._encode(answer)) - 4
        return replace(answer, padding=max(0, min(asked, room, MAX_PADDING)) & ~3)

    def _send_from(self, origin: Address, answer: Answer, path: Path, now: float) -> None:
        """Send ``answer`` from ``origin``, or have the partner there send it."""
        if origin in self._local:
            self._send(self._encode(answer), Path(origin, answer.destination))
        elif self._partnership is None or self.wall_offset is None:
            self.drops.add("the partner cannot be asked without a wall clock")
        else:
            order = self._partnership.give(answer, now + self.wall_offset, now)
            if order is None:
                self.drops.add("too many orders to the partner")
            else:
                self._send(order, Path(path.local, origin))

    def _encode(self, answer: Answer) -> bytes:
        tid, origin, other = answer.transaction_id, answer.origin, answer.other
        if len(tid) != TRANSACTION_ID_LENGTH:
            return classic_success(tid, answer.mapped, origin, other)
        attributes: list[Attribute] = [(XOR_MAPPED_ADDRESS, answer.mapped)]
        if origin is not None and other is not None:
            attributes += [(MAPPED_ADDRESS, answer.mapped), (RESPONSE_ORIGIN, origin), (OTHER_ADDRESS, other)]
        if answer.padding:
            attributes.append((PADDING, bytes(answer.padding)))
        return encode(Message(Method.BINDING, MessageClass.SUCCESS, tid, (*attributes, *self._extra)))

    def _send(self, data: bytes, path: Path) -> None:
        if not self._outbox.put(Transmit(data, path)):
            self.drops.add("too many answers queued")

    def handle_timeout(self, now: float) -> None:
        """Nothing: the server keeps no state that ends."""

    def poll_transmit(self) -> Transmit | None:
        """The next answer to send, or None."""
        return self._outbox.poll()

    def poll_event(self) -> None:
        """None: the server has nothing to tell."""
        return None

    def next_timeout(self) -> float | None:
        """None: the server waits for nothing."""
        return None
