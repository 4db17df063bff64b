"""The server's side before a connection exists: which first datagrams are worth an engine.

Anyone on the path can send the server something that looks like an Initial. An engine takes the first one
it sees for the client, so one forged datagram would lock the real client out. Therefore every new
destination connection ID gets a trial engine of its own (at most ``TRIALS``); it is kept only when it could
decrypt what it got, and the first to complete the TLS handshake is the connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from qh3.quic.events import ConnectionTerminated, HandshakeCompleted

from natwalk.core import Drops, MalformedMessage, earliest
from natwalk.secure.engine import STREAM_REFUSALS, Engine
from natwalk.secure.header import CONNECTION_ID_LENGTH, MINIMUM_INITIAL, Header, PacketType, parse_header

TRIALS: Final = 4


class Acceptor:
    """Finds the engine of the client that completes a handshake."""

    def __init__(self, make_engine: Callable[[bytes], Engine], drops: Drops) -> None:
        self._make_engine = make_engine
        self._drops = drops
        self._trials: dict[bytes, Engine] = {}  # by the destination of the client's first Initial
        self._outgoing: deque[bytes] = deque(maxlen=64)

    def receive(self, datagram: bytes, now: float) -> Engine | None:
        """Take one datagram; the engine when this one completed its handshake."""
        try:
            header = parse_header(datagram)
        except MalformedMessage as error:
            self._drops.add(str(error))
            return None
        engine = self._known(header)
        if is_new := engine is None:
            engine = self._new_trial(header, datagram)
        if engine is None:
            return None
        if (error_name := engine.receive([datagram], now)) is not None:
            self._drops.add(f"engine refused: {error_name}")
            self._forget(engine)
            return None
        sent = self._send(engine, now)
        if is_new and not sent:
            self._drops.add("undecryptable Initial")  # an engine acknowledges every Initial it can read
            self._forget(engine)
        return engine if self._completed(engine) else None

    def handle_timeout(self, now: float) -> None:
        """Let every trial engine retransmit or give up."""
        for engine in list(self._trials.values()):
            engine.handle_timer(now)
            self._send(engine, now)
            self._completed(engine)

    def next_timeout(self) -> float | None:
        """The earliest timer of a trial engine."""
        return earliest(*(engine.timer() for engine in self._trials.values()))

    def datagrams(self) -> list[bytes]:
        """What the trial engines want sent."""
        taken = list(self._outgoing)
        self._outgoing.clear()
        return taken

    def _known(self, header: Header) -> Engine | None:
        """The trial engine this packet is for, by the client's first choice of ID or the engine's own."""
        if header.type is PacketType.INITIAL and header.destination in self._trials:
            return self._trials[header.destination]
        for engine in self._trials.values():
            if engine.connection_id == header.destination:
                return engine
        return None

    def _new_trial(self, header: Header, datagram: bytes) -> Engine | None:
        if header.type is not PacketType.INITIAL:
            self._drops.add("no connection for this datagram")
            return None
        if len(datagram) < MINIMUM_INITIAL or len(header.destination) < CONNECTION_ID_LENGTH:
            self._drops.add("Initial too short")  # RFC 9000 §14.1 and §7.2
            return None
        if len(self._trials) >= TRIALS:
            self._drops.add("too many handshakes at once")
            del self._trials[next(iter(self._trials))]
        engine = self._trials[header.destination] = self._make_engine(header.destination)
        return engine

    def _send(self, engine: Engine, now: float) -> bool:
        """Take what the engine has to send; whether that was anything."""
        try:
            sent = engine.datagrams(now)
        except STREAM_REFUSALS:
            # So the engine says that what is left of three times the bytes received (RFC 9000 §8.1) holds
            # no packet. It goes on when more comes.
            return False
        self._outgoing.extend(sent)
        return bool(sent)

    def _completed(self, engine: Engine) -> bool:
        while (event := engine.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                return True
            if isinstance(event, ConnectionTerminated):
                self._drops.add("handshake given up")
                self._forget(engine)
                return False
        return False

    def _forget(self, engine: Engine) -> None:
        for key, value in list(self._trials.items()):
            if value is engine:
                del self._trials[key]
