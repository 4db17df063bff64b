"""One encrypted, mutually authenticated connection to one peer: streams and datagrams over QUIC.

The datagrams in and out are plain bytes; which path they travel, and that they may change path, is not
this room's business. Both ends know, before they start, the fingerprint of the other's certificate and a
secret of at least 16 bytes, from the PAKE channel.

A client may open streams and send from ``start`` on: the engine holds everything back until the server has
shown the pinned certificate, and it goes out right behind the client's proof (``auth``), so the proof costs
no round trip. A server may send once it has seen that proof. Neither surfaces anything the peer's
application sent before the peer is proven: it waits in a queue of ``HELD_BACK_LIMIT`` bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Final, ParamSpec

from qh3.quic import events as quic

from natwalk.core import (
    Drops,
    LocalProtocolError,
    MalformedMessage,
    RandomBytes,
    RemoteProtocolError,
    Timers,
    earliest,
)
from natwalk.secure.accept import Acceptor
from natwalk.secure.auth import MINIMUM_KEY_LENGTH
from natwalk.secure.engine import BAD_CERTIFICATE, IDLE_REASON, STREAM_REFUSALS, Engine, EngineSettings
from natwalk.secure.events import (
    APPLICATION_CODE_LIMIT,
    CloseCode,
    DatagramReceived,
    SecureClosed,
    SecureEvent,
    StreamReset,
    StreamStopped,
)
from natwalk.secure.header import parse_header
from natwalk.secure.identity import FINGERPRINT_LENGTH, Identity
from natwalk.secure.inbox import Inbox, printable
from natwalk.secure.login import Login

BACKLOG_LIMIT: Final = 16 << 20
"""Bytes of all streams together that may wait for their first transmission."""

DATAGRAM_QUEUE_LIMIT: Final = 256 << 10
"""Bytes of unreliable datagrams that may wait; beyond it the newest are dropped."""

STREAMS_BEFORE_HANDSHAKE: Final = 16
MINIMUM_DATAGRAM_SIZE: Final = 1200  # RFC 9000 §14
GRANULARITY: Final = 0.001  # of a due timer after handle_timeout, RFC 9002 §6.1.2

PINGS_IN_FLIGHT: Final = 8
ENGINE_FAILURES_LIMIT: Final = 64
CONTROL_STREAM: Final = 0  # the client's first; it carries nothing but the two proofs

_P = ParamSpec("_P")


class State(Enum):
    """Where a connection is in its life."""

    NEW = auto()
    HANDSHAKING = auto()
    CONNECTED = auto()
    CLOSING = auto()
    CLOSED = auto()


class _Timer(Enum):
    HANDSHAKE = auto()
    KEEPALIVE = auto()


class SecureConnection:
    """A QUIC connection (RFC 9000) to the one peer with the given fingerprint and key.

    ``drops`` counts datagrams that were not QUIC or not ours. After every call with ``now``, drain
    ``poll_datagram`` (or take ``datagrams``) and ``poll_event``, then arm ``next_timeout``.
    """

    def __init__(
        self,
        *,
        is_client: bool,
        identity: Identity,
        peer_fingerprint: bytes,
        auth_key: bytes,
        random_bytes: RandomBytes,
        max_datagram_size: int = 1280,
        handshake_timeout: float = 10.0,
        idle_timeout: float = 60.0,
        keepalive: float = 15.0,
        probe_datagram_size: bool = False,
    ) -> None:
        """Set up one end; nothing happens before ``start``.

        ``max_datagram_size`` is the UDP payload that every path this connection will use can carry, from
        1200 bytes; with ``probe_datagram_size`` the client's engine looks for more, up to 1472. Times are
        seconds: ``idle_timeout`` without a sign of the peer ends the connection (the smaller of both ends
        counts), ``keepalive`` is the silence after which a ping goes out. Raises LocalProtocolError on
        values that make no sense.
        """
        if len(peer_fingerprint) != FINGERPRINT_LENGTH or len(auth_key) < MINIMUM_KEY_LENGTH:
            raise LocalProtocolError("a fingerprint has 32 bytes and a key at least 16")
        if not MINIMUM_DATAGRAM_SIZE <= max_datagram_size <= 65527:
            raise LocalProtocolError(f"max_datagram_size {max_datagram_size} is not between 1200 and 65527")
        self.is_client = is_client
        self.drops = Drops()
        self.state = State.NEW
        self.rtt: float | None = None
        self._identity = identity
        self._peer_fingerprint = peer_fingerprint
        self._settings = EngineSettings(
            idle_timeout=idle_timeout,
            max_datagram_size=max_datagram_size,
            probe_datagram_size=probe_datagram_size,
        )
        self._handshake_timeout = handshake_timeout
        self._keepalive = keepalive
        self._login = Login(is_client, identity, peer_fingerprint, auth_key, random_bytes)
        self._inbox = Inbox()
        self._engine: Engine | None = None
        self._acceptor: Acceptor | None = None
        self._timers: Timers[_Timer] = Timers()
        self._outgoing: deque[bytes] = deque()
        self._next_stream = CONTROL_STREAM + 4 if is_client else 1
        self._datagram_backlog = 0
        self._engine_failures = 0
        self._pings: dict[int, float] = {}
        self._ping_count = 0
        self._last_received = 0.0
        self._now = 0.0
        self._handled = float("-inf")

    # Life and death.

    def start(self, now: float) -> None:
        """Begin: a client sends its first flight, a server takes the first datagrams from now on."""
        if self.state is not State.NEW:
            raise LocalProtocolError("start was called before")
        self._now = now
        self.state = State.HANDSHAKING
        self._timers.set(_Timer.HANDSHAKE, now + self._handshake_timeout)
        if not self.is_client:
            self._acceptor = Acceptor(self._make_server, self.drops)
            return
        self._engine = Engine(self._settings, self._identity, pin=self._peer_fingerprint)
        self._engine.connect(now)
        self._engine.send_stream(CONTROL_STREAM, self._login.opening, True)

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """End the connection; SecureClosed follows at once, and harmless when it has ended already.

        Data not yet acknowledged by the peer is lost: agree on the end in the streams first.
        """
        _check_code(code)
        self._end(code, reason)

    def _make_server(self, original_destination: bytes) -> Engine:
        return Engine(self._settings, self._identity, original_destination=original_destination)

    def _end(self, code: int, reason: str) -> None:
        """End it from this side, telling the peer if there is one."""
        if self.state in (State.CLOSING, State.CLOSED):
            return
        reason = printable(reason)
        self._timers.clear()
        self._acceptor = None
        if self._engine is not None:
            self._engine.close(code, reason)
        self.state = State.CLOSED if self._engine is None else State.CLOSING
        self._inbox.close(SecureClosed(int(code), reason, by_peer=False))

    def _terminated(self, event: quic.ConnectionTerminated, *, by_peer: bool) -> None:
        """The engine is done: after our own close, after the peer's, or with an error of its own."""
        if self.state is not State.CLOSING:
            code, reason = self._explain(event, by_peer)
            self._inbox.close(SecureClosed(code, printable(reason), by_peer))
        self.state = State.CLOSED
        self._timers.clear()
        self._engine = None

    def _explain(self, event: quic.ConnectionTerminated, by_peer: bool) -> tuple[int, str]:
        code, reason = event.error_code, event.reason_phrase
        if by_peer and event.frame_type is None:
            known = code < APPLICATION_CODE_LIMIT or code in set(CloseCode)
            return (code if known else CloseCode.TRANSPORT_ERROR), reason
        if not by_peer and reason == IDLE_REASON:
            return CloseCode.IDLE_TIMEOUT, "nothing was heard from the peer for too long"
        if not by_peer and self.is_client and code == BAD_CERTIFICATE:
            return CloseCode.AUTHENTICATION_FAILED, "the peer did not show the expected certificate"
        return CloseCode.TRANSPORT_ERROR, f"{reason or 'QUIC error'} ({code:#x})"

    # Input.

    def receive(self, datagram: bytes, now: float) -> None:
        """Take one datagram; never raises on wire bytes."""
        self.receive_many((datagram,), now)

    def receive_many(self, datagrams: Sequence[bytes], now: float) -> None:
        """Take datagrams in the order of arrival: much cheaper than one by one."""
        self._now = now
        if self.state in (State.NEW, State.CLOSED):
            for _ in datagrams:
                self.drops.add("not started" if self.state is State.NEW else "closed")
            return
        if self._engine is None:
            datagrams = self._accept(datagrams, now)
        if self._engine is not None and datagrams:
            # of a short header, the bulk of all, only the engine can tell whose it is
            ours = [d for d in datagrams if (d and d[0] & 0xC0 == 0x40) or self._is_ours(d)]
            if self.state is State.HANDSHAKING:
                for data in ours:  # one by one, so that one the engine chokes on does not hurt the others
                    self._feed((data,), now)
            elif ours:
                self._feed(ours, now)
        self._collect(now)

    def handle_timeout(self, now: float) -> None:
        """Do what is due at ``now``."""
        self._now = self._handled = now
        for timer in self._timers.due(now):
            if timer is _Timer.HANDSHAKE:
                self._end(CloseCode.HANDSHAKE_TIMEOUT, "the peer did not prove itself in time")
            else:
                self._ping(now)
        if self._acceptor is not None:
            self._acceptor.handle_timeout(now)
        if self._engine is not None:
            self._engine.handle_timer(now)
            self._collect(now)

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` is due; always after the time it was last called with."""
        engine = self._engine.timer() if self._engine is not None else None
        acceptor = self._acceptor.next_timeout() if self._acceptor is not None else None
        due = earliest(engine, acceptor, self._timers.next_timeout())
        if due is not None and due <= self._handled:
            return self._handled + GRANULARITY
        return due

    def _accept(self, datagrams: Sequence[bytes], now: float) -> Sequence[bytes]:
        """Let the acceptor find the engine; returns the datagrams that are left for it."""
        acceptor = self._acceptor
        for index, data in enumerate(datagrams):
            if acceptor is not None and (engine := acceptor.receive(data, now)) is not None:
                self._outgoing.extend(acceptor.datagrams())
                self._engine, self._acceptor = engine, None
                return datagrams[index + 1 :]
        return ()

    def _is_ours(self, data: bytes) -> bool:
        """Whether a datagram with a long header is for this connection; counts it when not."""
        try:
            header = parse_header(data)
        except MalformedMessage as error:
            self.drops.add(str(error))
            return False
        if self._engine is None or header.destination == self._engine.connection_id or not self.is_client:
            return True
        self.drops.add("not for this connection")
        return False

    def _feed(self, datagrams: Sequence[bytes], now: float) -> None:
        if self._engine is not None and (error_name := self._engine.receive(datagrams, now)) is not None:
            self.drops.add(f"engine refused: {error_name}")

    def _collect(self, now: float) -> None:
        """Turn the engine's events into ours, and notice its end."""
        self._take_events(now, by_peer=False)
        engine = self._engine
        if engine is None or self.state is State.CLOSING:
            return
        last = engine.finish_if_closed(now)
        if last is not None:
            self._outgoing.extend(last)
            self._take_events(now, by_peer=not last)
        elif self._inbox.overflowing:
            self._end(CloseCode.OVERFLOW, "the application does not read what arrives")

    def _take_events(self, now: float, *, by_peer: bool) -> None:
        engine = self._engine
        while engine is not None and (event := engine.next_event()) is not None:
            match event:
                case quic.StreamDataReceived(data=data, end_stream=fin, stream_id=stream_id):
                    if stream_id != CONTROL_STREAM:
                        self._inbox.stream_data(stream_id, data, fin)
                    else:
                        self._take_proof(data, fin, now)
                case quic.DatagramFrameReceived(data=data):
                    self._inbox.put(DatagramReceived(data), len(data))
                case quic.StreamReset(error_code=code, stream_id=stream_id):
                    self._inbox.put(StreamReset(stream_id, code))
                case quic.StopSendingReceived(error_code=code, stream_id=stream_id):
                    self._inbox.put(StreamStopped(stream_id, code))
                case quic.PingAcknowledged(uid=uid):
                    self._pong(uid, now)
                case quic.HandshakeCompleted() if self.is_client and not engine.peer_is_pinned():
                    self._end(
                        CloseCode.AUTHENTICATION_FAILED, "the peer did not show the expected certificate"
                    )
                case quic.ConnectionTerminated():
                    self._terminated(event, by_peer=by_peer)
                    return
                case _:
                    pass  # connection IDs and negotiated protocols: the engine's own affairs

    def _take_proof(self, data: bytes, fin: bool, now: float) -> None:
        if self.state is not State.HANDSHAKING or self._engine is None:
            return
        try:
            answer = self._login.receive(data, fin)
        except RemoteProtocolError as error:
            self._end(CloseCode.AUTHENTICATION_FAILED, str(error))
            return
        if not self._login.done:
            return
        if answer:
            self._engine.send_stream(CONTROL_STREAM, answer, True)
        self.state = State.CONNECTED
        self._timers.cancel(_Timer.HANDSHAKE)
        self._inbox.release()
        self._ping(now)

    # Output.

    def poll_datagram(self) -> bytes | None:
        """The next datagram to send, or None."""
        if not self._outgoing:
            self._outgoing.extend(self.datagrams(self._now))
        return self._outgoing.popleft() if self._outgoing else None

    def datagrams(self, now: float) -> list[bytes]:
        """All datagrams to send at ``now``, in order: the cheap way for bulk."""
        self._now = now
        sent = list(self._outgoing)
        self._outgoing.clear()
        if self._acceptor is not None:
            sent += self._acceptor.datagrams()
        if self._engine is not None:
            try:
                sent += self._engine.datagrams(now)
                self._engine_failures = 0
            except STREAM_REFUSALS as error:
                # once is a passing mood (see Acceptor._send); for ever is a broken engine
                self._engine_failures += 1
                if self._engine_failures > ENGINE_FAILURES_LIMIT:
                    self._end(CloseCode.TRANSPORT_ERROR, f"the QUIC engine failed: {error}")
        self._datagram_backlog = max(0, self._datagram_backlog - sum(map(len, sent)))
        return sent

    def poll_event(self) -> SecureEvent | None:
        """The next event, or None."""
        return self._inbox.poll()

    # Streams and datagrams.

    def open_stream(self) -> int:
        """Open a bidirectional stream and return its ID; the peer hears of it with its first bytes.

        Raises LocalProtocolError when ``streams_available`` is 0.
        """
        engine = self._sendable()
        if not self.streams_available:
            raise LocalProtocolError("the peer allows no more streams at the moment")
        stream_id = self._next_stream
        engine.open_stream(stream_id)
        self._next_stream += 4
        return stream_id

    @property
    def streams_available(self) -> int:
        """How many more streams may be opened now; it grows as the peer sees streams end."""
        if self._engine is None:
            return 0
        limit = self._engine.stream_limit() or STREAMS_BEFORE_HANDSHAKE
        return max(0, limit - self._next_stream // 4)

    def send_stream(self, stream_id: int, data: bytes | bytearray | memoryview, fin: bool = False) -> None:
        """Queue bytes on a stream, the last ones with ``fin``.

        Raises LocalProtocolError when the stream takes none (ended, reset, stopped or unknown) or when
        more than BACKLOG_LIMIT bytes would wait: feed by ``send_backlog``.
        """
        engine = self._sendable()
        if engine.backlog() + len(data) > BACKLOG_LIMIT:
            raise LocalProtocolError("too much is waiting to be sent")
        self._on_stream(engine.send_stream, stream_id, data, fin)

    def send_backlog(self, stream_id: int) -> int:
        """Bytes of a stream queued and not yet sent for the first time; 0 for one that has ended."""
        return 0 if self._engine is None else self._engine.backlog(stream_id)

    def reset_stream(self, stream_id: int, code: int = 0) -> None:
        """Give up sending on a stream; raises LocalProtocolError when there is nothing to give up."""
        _check_code(code)
        self._on_stream(self._sendable().reset_stream, stream_id, code)

    def stop_stream(self, stream_id: int, code: int = 0) -> None:
        """Ask the peer to send no more on a stream; raises LocalProtocolError when it has ended."""
        _check_code(code)
        self._on_stream(self._sendable().stop_stream, stream_id, code)

    @property
    def datagram_limit(self) -> int:
        """The longest datagram that ``send_datagram`` takes, in bytes; 0 before the connection stands."""
        return self._engine.datagram_limit if self._engine and self.state is State.CONNECTED else 0

    def send_datagram(self, data: bytes) -> bool:
        """Send an unreliable datagram; False when too many wait and it was dropped.

        Raises LocalProtocolError when it is longer than ``datagram_limit``.
        """
        engine = self._sendable()
        if self.state is not State.CONNECTED or len(data) > engine.datagram_limit:
            raise LocalProtocolError(f"a datagram of {len(data)} bytes cannot be sent now")
        if self._datagram_backlog + len(data) > DATAGRAM_QUEUE_LIMIT:
            return False
        engine.send_datagram(data)
        self._datagram_backlog += len(data) + 1
        return True

    # Keeping it alive.

    def path_changed(self, now: float) -> None:
        """Tell that the path below is another, or passes again: look for losses now, not after a back-off.

        Harmless when nothing was lost; sends at least one datagram.
        """
        self._now = now
        if self.state is State.CONNECTED:
            self._ping(now)

    def _ping(self, now: float) -> None:
        """Send a ping, for the peer's and every NAT's idle timers and for ``rtt``."""
        if self._engine is None or self.state is not State.CONNECTED:
            return
        self._timers.set(_Timer.KEEPALIVE, now + self._keepalive)
        self._ping_count += 1
        self._pings[self._ping_count] = now
        if len(self._pings) > PINGS_IN_FLIGHT:
            del self._pings[next(iter(self._pings))]
        self._engine.ping(self._ping_count)

    def _pong(self, uid: int, now: float) -> None:
        """Smooth the round-trip time as RFC 9002 §5.3 does, on pings alone."""
        if (sent_at := self._pings.pop(uid, None)) is not None:
            sample = now - sent_at
            self.rtt = sample if self.rtt is None else 0.875 * self.rtt + 0.125 * sample

    def _sendable(self) -> Engine:
        """The engine, when data may be given to it; raises LocalProtocolError otherwise."""
        early = self.is_client and self.state is State.HANDSHAKING
        if self._engine is None or not (early or self.state is State.CONNECTED):
            raise LocalProtocolError(f"nothing can be sent while the connection is {self.state.name}")
        return self._engine

    def _on_stream(self, command: Callable[_P, None], *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Apply a command of the engine to a stream that it may refuse."""
        if args[0] == CONTROL_STREAM:
            raise LocalProtocolError("stream 0 is not the application's")
        try:
            command(*args, **kwargs)
        except STREAM_REFUSALS as error:
            raise LocalProtocolError(f"stream {args[0]}: {error}") from error


def _check_code(code: int) -> None:
    if not 0 <= code < APPLICATION_CODE_LIMIT:
        raise LocalProtocolError(f"code {code} is not between 0 and 2**32 - 1")
