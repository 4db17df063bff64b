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

from natwalk.core import Drops, LocalProtocolError, MalformedMessage, RandomBytes, earliest
from natwalk.secure.accept import Acceptor
from natwalk.secure.attempts import Attempts
from natwalk.secure.auth import MINIMUM_KEY_LENGTH
from natwalk.secure.dial import Dialler
from natwalk.secure.early import EarlyData
from natwalk.secure.endings import check_code
from natwalk.secure.engine import STREAM_REFUSALS, Engine, EngineSettings
from natwalk.secure.events import CloseCode, SecureClosed, SecureEvent
from natwalk.secure.header import parse_header
from natwalk.secure.identity import FINGERPRINT_LENGTH, Identity
from natwalk.secure.inbox import printable
from natwalk.secure.login import Login
from natwalk.secure.session import CONTROL_STREAM, Session

BACKLOG_LIMIT: Final = 16 << 20
"""Bytes of all streams together that may wait for their first transmission."""

EARLY_LIMIT: Final = 4 << 20
"""Bytes a client may write before the handshake is decided: they may have to be sent more than once."""

DATAGRAM_QUEUE_LIMIT: Final = 256 << 10
"""Bytes of unreliable datagrams that may wait; beyond it the newest are dropped."""

STREAMS_BEFORE_HANDSHAKE: Final = 16
MINIMUM_DATAGRAM_SIZE: Final = 1200  # RFC 9000 §14
GRANULARITY: Final = 0.001  # of a due timer after handle_timeout, RFC 9002 §6.1.2

_P = ParamSpec("_P")


class State(Enum):
    """Where a connection is in its life."""

    NEW = auto()
    HANDSHAKING = auto()
    CONNECTED = auto()
    CLOSING = auto()
    CLOSED = auto()


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
        receive_window: int = 32 << 20,
    ) -> None:
        """Set up one end; nothing happens before ``start``.

        ``max_datagram_size`` is the UDP payload that every path this connection will use can carry, from
        1200 bytes; with ``probe_datagram_size`` the client's engine looks for more, up to 1472. Times are
        seconds: ``idle_timeout`` without a sign of the peer ends the connection (the smaller of both ends
        counts), ``keepalive`` is the time between two pings, which also measure ``rtt``.
        ``receive_window`` is the bytes the peer may have under way on one stream; all streams together
        get twice that. Raises LocalProtocolError on values that make no sense.
        """
        if len(peer_fingerprint) != FINGERPRINT_LENGTH or len(auth_key) < MINIMUM_KEY_LENGTH:
            raise LocalProtocolError("a fingerprint has 32 bytes and a key at least 16")
        if not MINIMUM_DATAGRAM_SIZE <= max_datagram_size <= 65527:
            raise LocalProtocolError(f"max_datagram_size {max_datagram_size} is not between 1200 and 65527")
        self.is_client = is_client
        self.drops = Drops()
        engine_settings = EngineSettings(
            idle_timeout=idle_timeout,
            max_datagram_size=max_datagram_size,
            probe_datagram_size=probe_datagram_size,
            max_stream_data=receive_window,
            max_data=2 * receive_window,
        )

        def make_session(original_destination: bytes | None = None) -> Session:  # hides the key from repr
            pin = peer_fingerprint if is_client else None
            return Session(
                Engine(engine_settings, identity, pin=pin, original_destination=original_destination),
                Login(is_client, identity, peer_fingerprint, auth_key, random_bytes),
                self.drops,
                early=self._early if is_client else None,
                keepalive=keepalive,
            )

        self._attempts: Attempts = (
            Dialler(make_session, self.drops) if is_client else Acceptor(make_session, self.drops)
        )
        self._session: Session | None = None  # the one that decided the handshake
        self._early = EarlyData()
        self._handshake_timeout = handshake_timeout
        self._deadline: float | None = None
        self._started = False
        self._ended_without: SecureClosed | None = None  # an ending without any session, until polled
        self._over = False
        self._outgoing: deque[bytes] = deque()
        self._next_stream = CONTROL_STREAM + 4 if is_client else 1
        self._datagram_backlog = 0
        self._now = 0.0
        self._handled = float("-inf")

    # Life and death.

    @property
    def state(self) -> State:
        """Where the connection is in its life."""
        if self._session is not None:
            if self._session.finished:
                return State.CLOSED
            return State.CLOSING if self._session.ending else State.CONNECTED
        if self._over:
            return State.CLOSED
        return State.HANDSHAKING if self._started else State.NEW

    def start(self, now: float) -> None:
        """Begin: a client sends its first flight, a server takes the first datagrams from now on."""
        if self.state is not State.NEW:
            raise LocalProtocolError("start was called before")
        self._now = now
        self._started = True
        self._deadline = now + self._handshake_timeout
        self._attempts.start(now)

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """End the connection; SecureClosed follows at once, and harmless when it has ended already.

        Data not yet acknowledged by the peer is lost: agree on the end in the streams first.
        """
        check_code(code)
        self._end(code, reason)

    def _end(self, code: int, reason: str) -> None:
        """End it from this side, telling the peer if there is one."""
        if self.state in (State.CLOSING, State.CLOSED):
            return
        if self._session is None and (secured := self._attempts.secured()):
            self._decide(secured[0])
        if self._session is not None:
            self._session.close(code, reason)
        else:
            self._ended_without = SecureClosed(int(code), printable(reason), by_peer=False)
            self._over = True
        self._deadline = None
        self._attempts.clear()

    def _decide(self, session: Session) -> None:
        """The handshake is decided: this session is the connection, or the end of it."""
        self._session = session
        self._deadline = None
        self._attempts.clear()
        self._early = EarlyData()

    # Input.

    def receive(self, datagram: bytes, now: float) -> None:
        """Take one datagram; never raises on wire bytes."""
        self.receive_many((datagram,), now)

    def receive_many(self, datagrams: Sequence[bytes], now: float) -> None:
        """Take datagrams in the order of arrival: much cheaper than one by one."""
        self._now = now
        if self._session is None:
            datagrams = self._receive_early(datagrams, now)
        if self._session is not None and datagrams:
            # of a short header, the bulk of all, only the engine can tell whose it is
            ours = [data for data in datagrams if (data and data[0] & 0xC0 == 0x40) or self._is_ours(data)]
            if ours:
                self._session.feed(ours, now)

    def handle_timeout(self, now: float) -> None:
        """Do what is due at ``now``."""
        self._now = self._handled = now
        if self._deadline is not None and self._deadline <= now:
            self._end(CloseCode.HANDSHAKE_TIMEOUT, "the peer did not prove itself in time")
        if self._session is not None:
            self._session.handle_timeout(now)
        elif self.state is State.HANDSHAKING:
            decided = self._attempts.handle_timeout(now)
            if decided is not None:
                self._decide(decided)

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` is due; always after the time it was last called with."""
        parts = self._attempts if self._session is None else self._session
        due = earliest(self._deadline, parts.next_timeout())
        if due is not None and due <= self._handled:
            return self._handled + GRANULARITY
        return due

    def _receive_early(self, datagrams: Sequence[bytes], now: float) -> Sequence[bytes]:
        """Datagrams before the handshake is decided; returns those after the one that decided it."""
        for index, data in enumerate(datagrams):
            if self.state is not State.HANDSHAKING:
                self.drops.add("closed" if self._over else "not started")
            elif (decided := self._attempts.receive(data, now)) is not None:
                self._decide(decided)
                return datagrams[index + 1 :]
        return ()

    def _is_ours(self, data: bytes) -> bool:
        """Whether a datagram with a long header may be for this connection; counts it when not."""
        try:
            header = parse_header(data)
        except MalformedMessage as error:
            self.drops.add(str(error))
            return False
        # to a server, a client's Initials may still carry the ID that the client chose for it
        if not self.is_client or self._session is None:
            return True
        if header.destination == self._session.engine.connection_id:
            return True
        self.drops.add("no connection for this datagram")
        return False

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
        sent += self._attempts.datagrams(now) if self._session is None else self._session.datagrams(now)
        self._datagram_backlog = max(0, self._datagram_backlog - sum(map(len, sent)))
        return sent

    def poll_event(self) -> SecureEvent | None:
        """The next event, or None."""
        if self._session is not None:
            return self._session.inbox.poll()
        event, self._ended_without = self._ended_without, None
        return event

    # Streams and datagrams.

    def open_stream(self) -> int:
        """Open a bidirectional stream and return its ID; the peer hears of it with its first bytes.

        Raises LocalProtocolError when ``streams_available`` is 0.
        """
        self._check_sendable()
        if not self.streams_available:
            raise LocalProtocolError("the peer allows no more streams at the moment")
        stream_id = self._next_stream
        if self._session is not None:
            self._session.engine.open_stream(stream_id)
        else:
            self._early.open(stream_id)
            for session in self._attempts.secured():
                session.engine.open_stream(stream_id)
        self._next_stream += 4
        return stream_id

    @property
    def streams_available(self) -> int:
        """How many more streams may be opened now; it grows as the peer sees streams end."""
        if self.state is State.CONNECTED:
            return max(0, self._connected().stream_limit() - self._next_stream // 4)
        early = self.is_client and self.state is State.HANDSHAKING
        return max(0, STREAMS_BEFORE_HANDSHAKE - self._next_stream // 4) if early else 0

    def send_stream(self, stream_id: int, data: bytes | bytearray | memoryview, fin: bool = False) -> None:
        """Queue bytes on a stream, the last ones with ``fin``.

        Raises LocalProtocolError when the stream takes none (ended, reset, stopped or unknown) or when
        more than BACKLOG_LIMIT bytes (EARLY_LIMIT, before it stands) would wait: feed by ``send_backlog``.
        """
        self._check_sendable()
        if self._session is not None:
            if self._session.engine.backlog() + len(data) > BACKLOG_LIMIT:
                raise LocalProtocolError("too much is waiting to be sent")
            self._on_stream(self._session.engine.send_stream, stream_id, data, fin)
            return
        if self._early.size() + len(data) > EARLY_LIMIT:
            raise LocalProtocolError("too much is waiting for the handshake")
        self._early.write(stream_id, data, fin)
        for session in self._attempts.secured():
            session.engine.send_stream(stream_id, data, fin)

    def send_backlog(self, stream_id: int) -> int:
        """Bytes of a stream queued and not yet sent for the first time; 0 for one that has ended.

        Before the peer is proven, all that was written: it may have to be sent again.
        """
        if self._session is None:
            return self._early.size(stream_id)
        return self._session.engine.backlog(stream_id)

    def reset_stream(self, stream_id: int, code: int = 0) -> None:
        """Give up sending on a stream; raises LocalProtocolError when there is nothing to give up."""
        check_code(code)
        self._on_stream(self._connected().reset_stream, stream_id, code)

    def stop_stream(self, stream_id: int, code: int = 0) -> None:
        """Ask the peer to send no more on a stream; raises LocalProtocolError when it has ended."""
        check_code(code)
        self._on_stream(self._connected().stop_stream, stream_id, code)

    @property
    def datagram_limit(self) -> int:
        """The longest datagram that ``send_datagram`` takes, in bytes; 0 before the connection stands."""
        return self._connected().datagram_limit if self.state is State.CONNECTED else 0

    def send_datagram(self, data: bytes) -> bool:
        """Send an unreliable datagram; False when too many wait and it was dropped.

        Raises LocalProtocolError when it is longer than ``datagram_limit``.
        """
        engine = self._connected()
        if len(data) > engine.datagram_limit:
            raise LocalProtocolError(f"a datagram of {len(data)} bytes cannot be sent now")
        if self._datagram_backlog + len(data) > DATAGRAM_QUEUE_LIMIT:
            return False
        engine.send_datagram(data)
        self._datagram_backlog += len(data) + 1
        return True

    # Keeping it alive.

    @property
    def rtt(self) -> float | None:
        """The smoothed round-trip time in seconds, with the peer's delays; None before the first sample."""
        return None if self._session is None else self._session.pinger.rtt

    def path_changed(self, now: float) -> None:
        """Tell that the path below is another, or passes again: look for losses now, not after a back-off.

        Harmless when nothing was lost; sends at least one datagram.
        """
        self._now = now
        if self._session is not None and self.state is State.CONNECTED:
            self._session.pinger.ping(self._session.engine, now)

    # What may be done when.

    def _check_sendable(self) -> None:
        early = self.is_client and self.state is State.HANDSHAKING
        if not early and self.state is not State.CONNECTED:
            raise LocalProtocolError(f"nothing can be sent while the connection is {self.state.name}")

    def _connected(self) -> Engine:
        """The engine of a connection that stands; raises LocalProtocolError otherwise."""
        if self._session is None or self.state is not State.CONNECTED:
            raise LocalProtocolError(f"the connection is {self.state.name}, not CONNECTED")
        return self._session.engine

    def _on_stream(self, command: Callable[_P, None], *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Apply a command of the engine to a stream that it may refuse."""
        if args[0] == CONTROL_STREAM:
            raise LocalProtocolError("stream 0 is not the application's")
        try:
            command(*args, **kwargs)
        except STREAM_REFUSALS as error:
            raise LocalProtocolError(f"stream {args[0]}: {error}") from error
