"""One attempt at a connection, and in the end the connection: an engine, the proof, and what arrived.

Several sessions may be under way until one is *proven*: its engine has completed the TLS handshake and the
peer's proof on the control stream is right. Nothing that a session received surfaces before that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qh3.quic import events as quic

from natwalk.core import Drops, RemoteProtocolError, earliest
from natwalk.secure.early import EarlyData
from natwalk.secure.endings import WRONG_CERTIFICATE, explain
from natwalk.secure.engine import STREAM_REFUSALS, Engine
from natwalk.secure.events import CloseCode, DatagramReceived, SecureClosed, StreamReset, StreamStopped
from natwalk.secure.inbox import Inbox, printable
from natwalk.secure.login import Login
from natwalk.secure.pinger import Pinger

CONTROL_STREAM: Final = 0  # the client's first; it carries nothing but the two proofs
ENGINE_FAILURES_LIMIT: Final = 64


class Session:
    """An engine with its proof and its inbox.

    ``proven`` when the peer is; ``ending`` when it is over for the application; ``finished`` when the
    engine has nothing left to do either.
    """

    def __init__(
        self, engine: Engine, login: Login, drops: Drops, *, early: EarlyData | None, keepalive: float
    ) -> None:
        """A client's session has ``early`` data, perhaps none; a server's has None."""
        self.engine = engine
        self.inbox = Inbox()
        self.pinger = Pinger(keepalive)
        self.secured = False
        self.proven = False
        self.heard = False  # the server's note that the engine could read something
        self.ending: SecureClosed | None = None
        self.finished = False
        self._login = login
        self._early = early
        self._drops = drops
        self._last: list[bytes] = []
        self._failures = 0

    # Input.

    def feed(self, datagrams: Sequence[bytes], now: float) -> None:
        """Take datagrams of this session."""
        if self.finished:
            for _ in datagrams:
                self._drops.add("closed")
            return
        if (error_name := self.engine.receive(datagrams, now)) is not None:
            self._drops.add(f"engine refused: {error_name}")
        self._collect(now)

    def handle_timeout(self, now: float) -> None:
        """Do what is due at ``now``."""
        if self.finished:
            return
        if self.proven and self.ending is None:
            self.pinger.handle_timeout(self.engine, now)
        self.engine.handle_timer(now)
        self._collect(now)

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` is due."""
        if self.finished:
            return None
        ping = self.pinger.next_timeout() if self.proven and self.ending is None else None
        return earliest(self.engine.timer(), ping)

    # Output.

    def datagrams(self, now: float) -> list[bytes]:
        """Everything to send at ``now``."""
        sent, self._last = self._last, []
        if self.finished:
            return sent
        try:
            sent += self.engine.datagrams(now)
            self._failures = 0
        except STREAM_REFUSALS as error:
            # So the engine also says that what is left of three times the bytes received (RFC 9000 §8.1)
            # holds no packet; it goes on when more comes. One that fails for ever is broken.
            self._failures += 1
            if self._failures > ENGINE_FAILURES_LIMIT:
                self.close(CloseCode.TRANSPORT_ERROR, f"the QUIC engine failed: {error}")
        return sent

    def close(self, code: int, reason: str) -> None:
        """End it from this side and tell the peer; harmless when it has ended."""
        if self.ending is None:
            ending = SecureClosed(int(code), printable(reason), by_peer=False)
            self.engine.close(ending.code, ending.reason)
            self._end(ending)

    def _end(self, ending: SecureClosed) -> None:
        if self.ending is None:
            self.ending = ending
            self.inbox.close(ending)

    # The engine's events.

    def _collect(self, now: float) -> None:
        """Turn the engine's events into ours, and notice its end."""
        self._take_events(now, by_peer=False)
        if self.ending is not None:
            return
        last = self.engine.finish_if_closed(now)
        if last is not None:
            self._last += last
            self._take_events(now, by_peer=not last)
        elif self.inbox.overflowing:
            self.close(CloseCode.OVERFLOW, "the application does not read what arrives")

    def _take_events(self, now: float, *, by_peer: bool) -> None:
        while (event := self.engine.next_event()) is not None:
            match event:
                case quic.StreamDataReceived(data=data, end_stream=fin, stream_id=stream_id):
                    if stream_id != CONTROL_STREAM:
                        self.inbox.stream_data(stream_id, data, fin)
                    elif not self.proven and self.ending is None:
                        self._take_proof(data, fin, now)
                case quic.DatagramFrameReceived(data=data):
                    self.inbox.put(DatagramReceived(data), len(data))
                case quic.StreamReset(error_code=code, stream_id=stream_id):
                    self.inbox.put(StreamReset(stream_id, code))
                case quic.StopSendingReceived(error_code=code, stream_id=stream_id):
                    self.inbox.put(StreamStopped(stream_id, code))
                case quic.PingAcknowledged(uid=uid):
                    self.pinger.answered(uid, now)
                case quic.HandshakeCompleted():
                    self._handshake_completed()
                case quic.ConnectionTerminated():
                    self.finished = True
                    self._end(explain(event, by_peer=by_peer))
                case _:
                    pass  # connection IDs and negotiated protocols: the engine's own affairs

    def _handshake_completed(self) -> None:
        self.secured = True
        if self._early is None:
            return
        if not self.engine.peer_is_pinned():
            self.close(WRONG_CERTIFICATE.code, WRONG_CERTIFICATE.reason)
            return
        self.engine.send_stream(CONTROL_STREAM, self._login.opening, True)
        self._early.replay(self.engine)

    def _take_proof(self, data: bytes, fin: bool, now: float) -> None:
        try:
            answer = self._login.receive(data, fin)
        except RemoteProtocolError as error:
            self.close(CloseCode.AUTHENTICATION_FAILED, str(error))
            return
        if not self._login.done:
            return
        if answer:
            self.engine.send_stream(CONTROL_STREAM, answer, True)
        self.proven = True
        self.inbox.release()
        self.pinger.ping(self.engine, now)
