"""The server's side before a connection exists: which first datagrams are worth a session.

Anyone on the path can send the server something that looks like an Initial. An engine takes the first one
it sees for the client, so one forged datagram would lock the real client out. Therefore every new
destination connection ID gets a session of its own (at most ``TRIALS``), which is kept only when it could
decrypt what it got.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from natwalk.core import Drops
from natwalk.secure.attempts import Attempts
from natwalk.secure.header import CONNECTION_ID_LENGTH, MINIMUM_INITIAL, Header, PacketType
from natwalk.secure.session import Session

TRIALS: Final = 4


class Acceptor(Attempts):
    """Answers every client that can make an Initial, until one has proven itself."""

    def __init__(self, make_session: Callable[[bytes], Session], drops: Drops) -> None:
        super().__init__(drops)
        self._make_session = make_session

    def _find(self, header: Header, datagram: bytes) -> tuple[bytes, Session] | None:
        """The session by the client's first choice of ID, by the engine's own, or a new one."""
        if header.type is PacketType.INITIAL and header.destination in self._sessions:
            return header.destination, self._sessions[header.destination]
        found = super()._find(header, datagram)
        if found is not None or header.type is not PacketType.INITIAL:
            return found
        if len(datagram) < MINIMUM_INITIAL or len(header.destination) < CONNECTION_ID_LENGTH:
            return None  # RFC 9000 §14.1 and §7.2
        return self._new_trial(header.destination)

    def _new_trial(self, destination: bytes) -> tuple[bytes, Session]:
        if len(self._sessions) >= TRIALS:
            self._drops.add("too many handshakes at once")
            self._sessions.pop(self._least_promising())
        session = self._sessions[destination] = self._make_session(destination)
        return destination, session

    def _least_promising(self) -> bytes:
        """The oldest that has not completed the TLS handshake, or the oldest of all."""
        unsecured = (key for key, session in self._sessions.items() if not session.secured)
        return next(unsecured, next(iter(self._sessions)))

    def _judge(self, key: bytes, session: Session, now: float) -> Session | None:
        decided = super()._judge(key, session, now)
        if decided is None and not session.heard and key in self._sessions:
            sent = session.datagrams(now)
            self._outgoing += sent
            session.heard = bool(sent)
            if not sent:  # an engine acknowledges every Initial it can read
                self._drops.add("undecryptable Initial")
                self._sessions.pop(key, None)
        return decided
