"""The client of a relay: one connection that comes back, and packets to and from peers by key."""

from __future__ import annotations

from enum import Enum, auto
from struct import Struct
from typing import Final

from natwalk.core import (
    Drops,
    IntegrityError,
    LocalProtocolError,
    MalformedMessage,
    Outbox,
    RandomBytes,
    Timers,
)
from natwalk.relay.config import RelayClientConfig
from natwalk.relay.events import (
    ConnectWanted,
    DisconnectWanted,
    GoneReason,
    PacketReceived,
    PeerGone,
    RelayClientEvent,
    RelayLost,
    RelayReady,
    RelayRestarting,
    Standing,
)
from natwalk.relay.frames import KEY_LENGTH, PACKET_LIMIT, PING_LENGTH, FrameReader, FrameType, frame
from natwalk.relay.handshake import (
    LASTING,
    NONCE_LENGTH,
    VERSION,
    Challenge,
    Channel,
    RefusalCode,
    prove,
    refused,
    welcomed,
)
from natwalk.relay.keys import RelayIdentity
from natwalk.relay.queue import SendQueue

_MILLISECONDS: Final = Struct("!II")
_WELCOME_PINGS: Final = 3  # pings in the silence that the server allows


class _Stage(Enum):
    CLOSED = auto()
    """``close`` was called, or ``start`` was not."""
    WAITING = auto()
    CONNECTING = auto()
    CHALLENGE = auto()
    WELCOME = auto()
    READY = auto()


class _Timer(Enum):
    CONNECT = auto()
    HANDSHAKE = auto()
    PING = auto()
    PONG = auto()


class RelayClient:
    """Keeps a connection to one relay server and speaks for ``identity`` on it.

    The driver opens a connection at every ConnectWanted and calls :meth:`connection_made`, with what
    identifies the channel, or :meth:`connect_failed`; it feeds what arrives to :meth:`receive`, writes what
    :meth:`poll_transmit` yields, and says when the stream takes no more (:meth:`pause`, :meth:`resume`).
    """

    packet_limit: Final = PACKET_LIMIT

    def __init__(
        self,
        identity: RelayIdentity,
        config: RelayClientConfig | None = None,
        *,
        random_bytes: RandomBytes,
    ) -> None:
        self.identity = identity
        self.drops = Drops()
        self.server_key: bytes | None = None
        """The key that the server of this connection has proved."""
        self.rtt: float | None = None
        """Seconds from a ping to its pong, the latest."""
        self._config = config or RelayClientConfig()
        self._random_bytes = random_bytes
        self._events: Outbox[RelayClientEvent] = Outbox()
        self._timers: Timers[_Timer] = Timers()
        self._stage = _Stage.CLOSED
        self._reader = FrameReader()
        self._queue = SendQueue()
        self._channel: Channel | None = None
        self._binding = b""
        self._attempt = 0
        self._keepalive = self._config.keepalive
        self._ping: tuple[bytes, float] | None = None
        self._come_back: float | None = None

    @property
    def ready(self) -> bool:
        """Whether packets may be sent."""
        return self._stage is _Stage.READY

    def _connected(self) -> bool:
        return self._stage in (_Stage.CHALLENGE, _Stage.WELCOME, _Stage.READY)

    # Commands.

    def start(self, now: float) -> None:
        """Want a connection from now on; harmless when repeated."""
        if self._stage is _Stage.CLOSED:
            self._stage = _Stage.CONNECTING
            self._events.put(ConnectWanted())

    def close(self, now: float) -> None:
        """Want none any more."""
        there = self._stage not in (_Stage.CLOSED, _Stage.WAITING)
        self._reset(_Stage.CLOSED)
        if there:
            self._events.put(DisconnectWanted("the client closed it"))

    def send(self, data: bytes, peer: bytes, now: float) -> bool:
        """Send a packet to the holder of ``peer``; False when there is no connection to send it on.

        When the connection takes no more, older packets are dropped for newer ones. Raises
        LocalProtocolError when the packet is too long or ``peer`` can be nobody's key.
        """
        if len(data) > PACKET_LIMIT or len(peer) != KEY_LENGTH:
            raise LocalProtocolError(f"a packet of {len(data)} bytes to a key of {len(peer)}")
        if self._stage is not _Stage.READY:
            self.drops.add("no connection to the relay")
            return False
        for _ in range(self._queue.put_packet(frame(FrameType.SEND, peer, data))):
            self.drops.add("the relay takes too little")
        return True

    # What the driver says.

    def connection_made(self, now: float, *, binding: bytes = b"") -> None:
        """There is a connection; ``binding`` identifies its channel, empty where nothing does."""
        if self._stage is _Stage.CONNECTING:
            self._reset(_Stage.CHALLENGE)
            self._binding = binding
            self._timers.set(_Timer.HANDSHAKE, now + self._config.handshake_timeout)

    def connect_failed(self, now: float, reason: str = "the relay cannot be reached") -> None:
        """No connection came about."""
        if self._stage is _Stage.CONNECTING:
            self._lose(reason, now)

    def connection_lost(self, now: float) -> None:
        """The connection is over."""
        if self._stage not in (_Stage.CLOSED, _Stage.WAITING):
            self._lose("the connection ended", now)

    def pause(self) -> None:
        """The stream takes no more: packets wait, and the oldest are dropped when they are too many."""
        self._queue.paused = True

    def resume(self) -> None:
        """The stream takes more again."""
        self._queue.paused = False

    def receive(self, data: bytes, now: float) -> None:
        """Take what arrived on the connection; what is no relay's speech ends it."""
        if not self._connected():
            self.drops.add("no connection")
            return
        try:
            for kind, contents in self._reader.feed(data):
                self._take(kind, contents, now)
                if not self._connected():
                    return
        except (MalformedMessage, IntegrityError) as error:
            self.drops.add(f"{type(error).__name__} from the relay")
            self._hang_up(str(error), now, lasting=isinstance(error, IntegrityError))

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        for timer in self._timers.due(now):
            match timer:
                case _Timer.CONNECT:
                    self._stage = _Stage.CONNECTING
                    self._events.put(ConnectWanted())
                case _Timer.HANDSHAKE:
                    self._hang_up("the relay did not prove itself in time", now)
                case _Timer.PING:
                    self._send_ping(now)
                case _Timer.PONG:
                    self._hang_up("the relay does not answer", now)

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` wants to be called."""
        return self._timers.next_timeout()

    def poll_transmit(self) -> bytes | None:
        """The next bytes for the connection, or None."""
        return self._queue.take()

    def poll_event(self) -> RelayClientEvent | None:
        """The next event, or None."""
        return self._events.poll()

    # Frames.

    def _take(self, kind: int, contents: bytes, now: float) -> None:
        if kind == FrameType.REFUSED:
            code, reason = refused(contents)
            self._hang_up(f"the relay refuses: {reason}", now, lasting=code in LASTING, code=code)
        elif self._stage is _Stage.CHALLENGE and kind == FrameType.CHALLENGE:
            self._answer(Challenge.decode(contents), now)
        elif self._stage is _Stage.WELCOME and kind == FrameType.WELCOME:
            self._begin(contents, now)
        elif self._stage is _Stage.READY:
            self._take_ready(kind, contents, now)
        else:
            raise MalformedMessage(f"a frame of type {kind:#04x} out of turn")

    def _answer(self, challenge: Challenge, now: float) -> None:
        wanted = self._config.server_key
        if challenge.version != VERSION:
            self._hang_up(f"the relay speaks version {challenge.version}", now, lasting=True)
        elif wanted is not None and challenge.key != wanted:
            raise IntegrityError("the relay has another key than it should have")
        else:
            nonce = self._random_bytes(NONCE_LENGTH)
            proof, self._channel = prove(self.identity, challenge, nonce, self._binding)
            self._queue.put_control(FrameType.PROOF, proof.encode())
            self._stage = _Stage.WELCOME

    def _begin(self, contents: bytes, now: float) -> None:
        assert self._channel is not None
        patience = welcomed(self._channel, contents)
        self._keepalive = min(self._config.keepalive, patience / _WELCOME_PINGS)
        self._timers.cancel(_Timer.HANDSHAKE)
        self._stage = _Stage.READY
        self._come_back = None
        self.server_key = self._channel.server_key
        self._events.put(RelayReady(self.server_key))
        self._ping_later(now)

    def _take_ready(self, kind: int, contents: bytes, now: float) -> None:
        match kind:
            case FrameType.PACKET:
                event: RelayClientEvent = PacketReceived(contents[:KEY_LENGTH], contents[KEY_LENGTH:])
            case FrameType.PING:
                self._queue.put_control(FrameType.PONG, frame(FrameType.PONG, contents))
                return
            case FrameType.PONG:
                self._take_pong(contents, now)
                return
            case FrameType.GONE:
                here_before = contents[KEY_LENGTH] == GoneReason.DISCONNECTED  # else, or of a newer version
                reason = GoneReason.DISCONNECTED if here_before else GoneReason.NOT_HERE
                event = PeerGone(contents[:KEY_LENGTH], reason)
            case FrameType.STANDING:
                event = Standing(bool(contents[0]))
            case FrameType.RESTARTING:
                event = self._restarting(contents)
            case _:
                raise MalformedMessage(f"a frame of type {kind:#04x} out of turn")
        if not self._events.put(event):
            self.drops.add("events that nobody takes")

    def _restarting(self, contents: bytes) -> RelayRestarting:
        longest = self._config.longest_restart
        come_back, try_for = (min(value / 1000, longest) for value in _MILLISECONDS.unpack_from(contents))
        self._come_back = come_back
        return RelayRestarting(come_back, try_for)

    # Keeping it alive.

    def _ping_later(self, now: float) -> None:
        self._timers.set(_Timer.PING, now + self._keepalive * (0.75 + self._random() / 2))

    def _send_ping(self, now: float) -> None:
        self._ping = (self._random_bytes(PING_LENGTH), now)
        self._queue.put_control(FrameType.PING, frame(FrameType.PING, self._ping[0]))
        self._timers.set(_Timer.PONG, now + self._config.pong_timeout)

    def _take_pong(self, contents: bytes, now: float) -> None:
        if self._ping is None or contents != self._ping[0]:
            self.drops.add("an answer to no ping")
            return
        self.rtt = now - self._ping[1]
        self._ping = None
        self._attempt = 0  # only now: a server that lets everybody in and falls over is not called at once
        self._timers.cancel(_Timer.PONG)
        self._ping_later(now)

    # Losing it.

    def _hang_up(
        self, reason: str, now: float, *, lasting: bool = False, code: RefusalCode | None = None
    ) -> None:
        self._events.put(DisconnectWanted(reason))
        self._lose(reason, now, lasting=lasting, code=code)

    def _lose(
        self, reason: str, now: float, *, lasting: bool = False, code: RefusalCode | None = None
    ) -> None:
        """Try again later: as the server said before it ended, else after a delay that doubles."""
        config = self._config
        if self._come_back is not None:
            delay = self._come_back
        elif lasting:
            delay = config.longest_delay
        else:
            delay = min(config.longest_delay, config.first_delay * 2.0 ** min(self._attempt, 16))
            delay *= 0.5 + self._random() / 2
        self._attempt += 1
        self._reset(_Stage.WAITING)
        self._timers.set(_Timer.CONNECT, now + delay)
        self._events.put(RelayLost(reason, delay, code))

    def _reset(self, stage: _Stage) -> None:
        self._stage = stage
        self._timers.clear()
        self._reader = FrameReader()
        self._queue = SendQueue()
        self._channel = self._ping = self.server_key = None
        if stage is _Stage.WAITING:
            self._come_back = None

    def _random(self) -> float:
        """From 0 to 1."""
        return int.from_bytes(self._random_bytes(4), "big") / 2**32
