"""What both ends share before a connection exists: several sessions at once, the first proven one wins.

One handshake may fail for reasons that say nothing about the peer: a forged Initial, a flight lost so often
that it backs off for half a minute, an engine that takes a reordered packet for a violation or forgets to
repeat its Finished. Therefore a client makes several attempts and a server answers several, all bounded.
Both ends agree on the winner: the server takes the first session with a right proof and forgets the others,
and only over that one the client gets its answer.
"""

from __future__ import annotations

from natwalk.core import Drops, MalformedMessage, earliest
from natwalk.secure.events import CloseCode
from natwalk.secure.header import Header, parse_header
from natwalk.secure.session import Session

PASSING: frozenset[int] = frozenset({CloseCode.TRANSPORT_ERROR, CloseCode.IDLE_TIMEOUT})
"""Endings of one attempt that leave the others alone; any other is the peer's word or the proof's."""


class Attempts:
    """Sessions of which none is proven yet."""

    def __init__(self, drops: Drops) -> None:
        self._drops = drops
        self._sessions: dict[bytes, Session] = {}
        self._outgoing: list[bytes] = []

    def start(self, now: float) -> None:
        """Begin."""

    def receive(self, datagram: bytes, now: float) -> Session | None:
        """Take one datagram; the session when that decided the matter, by a proof or by an ending."""
        try:
            header = parse_header(datagram)
        except MalformedMessage as error:
            self._drops.add(str(error))
            return None
        found = self._find(header, datagram)
        if found is None:
            self._drops.add("no connection for this datagram")
            return None
        key, session = found
        session.feed((datagram,), now)
        return self._judge(key, session, now)

    def handle_timeout(self, now: float) -> Session | None:
        """Let every session retransmit or give up; a session that this decided."""
        decided = None
        for key, session in list(self._sessions.items()):
            session.handle_timeout(now)
            decided = decided or self._judge(key, session, now)
        return decided

    def next_timeout(self) -> float | None:
        """The earliest timer of a session."""
        return earliest(*(session.next_timeout() for session in self._sessions.values()))

    def datagrams(self, now: float) -> list[bytes]:
        """What the sessions want sent."""
        sent, self._outgoing = self._outgoing, []
        for session in self._sessions.values():
            sent += session.datagrams(now)
        return sent

    def secured(self) -> list[Session]:
        """Those whose TLS handshake is complete."""
        return [session for session in self._sessions.values() if session.secured]

    def clear(self) -> None:
        """Forget every attempt: one has won, or all is over."""
        self._sessions.clear()
        self._outgoing.clear()

    def _find(self, header: Header, datagram: bytes) -> tuple[bytes, Session] | None:
        """The session that chose the destination ID of a packet."""
        for key, session in self._sessions.items():
            if session.engine.connection_id == header.destination:
                return key, session
        return None

    def _judge(self, key: bytes, session: Session, now: float) -> Session | None:
        if session.ending is not None and session.ending.code in PASSING:
            self._drops.add("handshake given up")
            self._outgoing += session.datagrams(now)
            self._sessions.pop(key, None)
            return None
        return session if session.proven or session.ending is not None else None
