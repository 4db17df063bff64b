"""The client's side of TCP allocations: connections between the relayed address and peers (RFC 6062 §4).

On the control connection the client asks for a connection, or hears of one that a peer has opened. To carry
its bytes the client opens one more connection to the server and names it there: :class:`ConnectionBind`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from natwalk.core import Address, Drops, LocalProtocolError, MalformedMessage, Outbox, Path, Transmit
from natwalk.stun import CONNECTION_ID, XOR_PEER_ADDRESS, Method, decode
from natwalk.turn.client_events import ConnectFailed, PeerConnected, TurnClientEvent
from natwalk.turn.client_requests import Answer, Request, Requester

MAX_CONNECTING: Final = 64
"""Most Connect requests without an answer."""


@dataclass(frozen=True, slots=True)
class ConnectionBound:
    """From here on the connection to the server carries the peer's bytes and nothing else."""


@dataclass(frozen=True, slots=True)
class ConnectionBindFailed:
    """The server does not join the connections; ``code`` None: it did not answer."""

    code: int | None
    reason: str


ConnectionBindEvent = ConnectionBound | ConnectionBindFailed


class ConnectTable:
    """The Connect requests of one TCP allocation."""

    def __init__(self, events: Outbox[TurnClientEvent]) -> None:
        self._events = events
        self._connecting: set[Address] = set()

    def connect(self, requester: Requester, peer: Address, now: float) -> None:
        """Ask the server for a connection to ``peer`` (RFC 6062 §4.3).

        Raises :class:`LocalProtocolError` while one to the same peer is being asked for (there can be
        one between two addresses only), and beyond ``MAX_CONNECTING``.
        """
        if peer in self._connecting:
            raise LocalProtocolError(f"already connecting to {peer}")
        if len(self._connecting) >= MAX_CONNECTING:
            raise LocalProtocolError(f"already connecting to {MAX_CONNECTING} peers")
        self._connecting.add(peer)
        requester.send(Request(Method.CONNECT, ((XOR_PEER_ADDRESS, peer),), peer), now)

    def on_answer(self, answer: Answer) -> None:
        """Take the end of a Connect request."""
        peer = answer.request.subject
        if not isinstance(peer, Address):
            return
        self._connecting.discard(peer)
        connection_id = answer.message.get(CONNECTION_ID) if answer.message is not None else None
        if connection_id is not None:
            self._events.put(PeerConnected(peer, connection_id))
        else:
            reason = answer.reason or "the server's answer lacks CONNECTION-ID"
            self._events.put(ConnectFailed(peer, answer.code, reason))

    def forget(self) -> None:
        """Drop every request."""
        self._connecting.clear()


class ConnectionBind:
    """A core that names a fresh connection to the server as the carrier of a peer connection (RFC 6062 §4.3).

    Made by :meth:`TurnClient.bind_connection`. ``receive`` takes whole STUN messages; after
    :class:`ConnectionBound` the bytes that follow are the peer's.
    """

    def __init__(self, requester: Requester, connection_id: int, drops: Drops, now: float) -> None:
        self.drops = drops
        self._requester = requester
        self._events: Outbox[ConnectionBindEvent] = Outbox(1)
        requester.send(Request(Method.CONNECTION_BIND, ((CONNECTION_ID, connection_id),)), now)

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take a message from the server; anything but the awaited response is dropped."""
        try:
            message = decode(datagram)
        except MalformedMessage:
            self.drops.add("malformed STUN message")
            return
        answer = self._requester.receive(message, path, now)
        if answer is not None:
            self._end(answer)

    def handle_timeout(self, now: float) -> None:
        """Give up when it is time."""
        for answer in self._requester.handle_timeout(now):
            self._end(answer)

    def poll_transmit(self) -> Transmit | None:
        """The next message to send, or None."""
        return self._requester.poll_transmit()

    def poll_event(self) -> ConnectionBindEvent | None:
        """The outcome, once."""
        return self._events.poll()

    def next_timeout(self) -> float | None:
        """When to give up, or None when done."""
        return self._requester.next_timeout()

    def _end(self, answer: Answer) -> None:
        if answer.message is not None:
            self._events.put(ConnectionBound())
        else:
            self._events.put(ConnectionBindFailed(answer.code, answer.reason))
