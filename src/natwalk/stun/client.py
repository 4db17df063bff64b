"""A Binding client: asks one server how it sees one socket (RFC 8489 §6, §13)."""

from __future__ import annotations

from dataclasses import dataclass

from natwalk.core import Address, Drops, MalformedMessage, Outbox, Path, RandomBytes, Transmit
from natwalk.stun.attributes import ERROR_CODE, MAPPED_ADDRESS, XOR_MAPPED_ADDRESS
from natwalk.stun.codec import decode, encode
from natwalk.stun.message import TRANSACTION_ID_LENGTH, Message, MessageClass, Method, request
from natwalk.stun.transactions import RC, RM, RTO, Transactions


@dataclass(frozen=True, slots=True)
class MappedAddress:
    """``server`` saw our socket as ``address``; the answer took ``rtt`` seconds."""

    address: Address
    server: Address
    rtt: float


@dataclass(frozen=True, slots=True)
class BindingFailed:
    """No address was learned, and why in one phrase."""

    reason: str


BindingEvent = MappedAddress | BindingFailed


class BindingClient:
    """Learns one reflexive address from one server (RFC 8489 §6): one request, one event, then silence.

    A Binding request needs no credentials, so its answer is as trustworthy as the path: 96 random bits
    and the server's address are what tells it from a forgery.
    """

    def __init__(
        self,
        server: Address,
        local: Address,
        *,
        random_bytes: RandomBytes,
        now: float,
        rto: float = RTO,
        rc: int = RC,
        rm: int = RM,
    ) -> None:
        self.drops = Drops()
        self.server = server
        self._events: Outbox[BindingEvent] = Outbox(1)
        self._transactions: Transactions[None] = Transactions(limit=1)
        transaction_id = random_bytes(TRANSACTION_ID_LENGTH)
        data = encode(request(Method.BINDING, transaction_id))
        self._transactions.start(transaction_id, data, Path(local, server), now, None, rto=rto, rc=rc, rm=rm)

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take a datagram: the awaited response ends the client, anything else is dropped."""
        try:
            message = decode(datagram)
        except MalformedMessage:
            self.drops.add("malformed")
            return
        pending = self._transactions.match(message, path)
        if pending is None or message.method != Method.BINDING:
            self.drops.add("not the awaited response")
            return
        self._transactions.finish(pending.transaction_id)
        self._events.put(self._outcome(message, pending.rtt(now)))

    def _outcome(self, message: Message, rtt: float) -> BindingEvent:
        if message.message_class is MessageClass.ERROR:
            code = message.get(ERROR_CODE)
            return BindingFailed(f"the server answered {code.code}" if code else "the server refused")
        if message.unknown_required:
            # RFC 8489 §6.3.3: a response that cannot be understood fails the transaction
            return BindingFailed("the server's answer needs an extension unknown here")
        address = message.get(XOR_MAPPED_ADDRESS) or message.get(MAPPED_ADDRESS)
        if address is None:
            return BindingFailed("the server's answer has no address")
        return MappedAddress(address, self.server, rtt)

    def handle_timeout(self, now: float) -> None:
        """Send again, or give up."""
        if self._transactions.handle_timeout(now):
            self._events.put(BindingFailed("the server did not answer"))

    def poll_transmit(self) -> Transmit | None:
        """The next datagram to send, or None."""
        return self._transactions.poll_transmit()

    def poll_event(self) -> BindingEvent | None:
        """The outcome, once."""
        return self._events.poll()

    def next_timeout(self) -> float | None:
        """When to send again or give up; None when done."""
        return self._transactions.next_timeout()
