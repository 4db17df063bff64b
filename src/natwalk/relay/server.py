"""The relay server: knows clients by their keys and moves packets between them, whatever is in them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from struct import Struct
from typing import Final

from natwalk.core import Deadlines, Drops, IntegrityError, MalformedMessage, Outbox, RandomBytes
from natwalk.relay.config import RelayServerConfig
from natwalk.relay.connection import ServerConnection, Stage
from natwalk.relay.events import CloseWanted, GoneReason
from natwalk.relay.frames import KEY_LENGTH, FrameType, frame
from natwalk.relay.handshake import (
    NONCE_LENGTH,
    VERSION,
    Challenge,
    Proof,
    RefusalCode,
    refusal,
    welcome,
)
from natwalk.relay.keys import RelayIdentity
from natwalk.relay.routes import Routes

_MILLISECONDS: Final = Struct("!II")
_FRAME_COST: Final = 64
"""Bytes that a frame counts beside its own: small ones cost as much work as large ones."""
_ACTIVE, _STANDBY = frame(FrameType.STANDING, b"\1"), frame(FrameType.STANDING, b"\0")


@dataclass(slots=True)
class RelayStats:
    """What a server did, in numbers that only grow, and how many are there."""

    packets: int = 0
    bytes: int = 0
    dropped: int = 0
    """Packets dropped because a receiver reads too slowly."""
    undeliverable: int = 0
    """Packets to keys that are not here."""
    notices: int = 0
    welcomed: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By the name of the code."""


class RelayServer:
    """A relay. Drivers name connections by numbers they never use again.

    :meth:`receive` returns for how many seconds nothing more may be read from that connection: the rate of a
    client is kept by TCP's own back-pressure, nothing of it is dropped. Every key may come, or those that the
    configuration allows.
    """

    def __init__(
        self, identity: RelayIdentity, config: RelayServerConfig, *, random_bytes: RandomBytes
    ) -> None:
        self.identity = identity
        self.config = config
        self.drops = Drops()
        self.stats = RelayStats()
        self.draining = False
        self._random_bytes = random_bytes
        self._connections: dict[int, ServerConnection] = {}
        self._routes = Routes()
        self._sources: Counter[Hashable] = Counter()
        self._deadlines: Deadlines[int] = Deadlines()
        self._ready: deque[ServerConnection] = deque()
        # one for each connection at most, plus those of this input
        self._events: Outbox[CloseWanted] = Outbox(limit=1 << 20)

    @property
    def connections(self) -> int:
        """Connections there are, those that have proved nothing yet included."""
        return len(self._connections)

    @property
    def clients(self) -> int:
        """Connections that have proved a key."""
        return self._routes.connections

    # What the driver says.

    def connection_made(self, number: int, source: Hashable, now: float, *, binding: bytes = b"") -> None:
        """A client from ``source`` connected; ``binding`` identifies its channel, if anything does."""
        nonce = self._random_bytes(NONCE_LENGTH)
        connection = ServerConnection(number, source, nonce, binding, now)
        self._connections[number] = connection
        self._sources[source] += 1
        config = self.config
        if self.draining:
            self._refuse(connection, RefusalCode.DRAINING, "this relay is about to end")
        elif len(self._connections) > config.connections:
            self._refuse(connection, RefusalCode.FULL, "this relay has too many clients")
        elif self._sources[source] > config.connections_per_source:
            self._refuse(connection, RefusalCode.FULL, "too many connections from one source")
        else:
            self._put(connection, FrameType.CHALLENGE, Challenge(self.identity.public, nonce).encode())
            self._deadlines.set(number, now + config.handshake_timeout)

    def connection_lost(self, number: int, now: float) -> None:
        """Connection ``number`` is over; harmless when it is not known any more."""
        connection = self._connections.pop(number, None)
        if connection is None:
            return
        self._sources[connection.source] -= 1
        if not self._sources[connection.source]:
            del self._sources[connection.source]
        self._deadlines.cancel(number)
        if connection.stage is Stage.SERVED:
            self._leave(connection, now)
        connection.stage = Stage.CLOSING
        connection.queue.clear()

    def receive(self, number: int, data: bytes, now: float) -> float:
        """Take what arrived; returns the seconds for which nothing more is to be read from ``number``."""
        connection = self._connections.get(number)
        if connection is None or connection.stage is Stage.CLOSING:
            self.drops.add("bytes on a connection that is closed")
            return 0.0
        cost = len(data)
        if connection.stage is Stage.SERVED:
            connection.heard = now
        try:
            for kind, contents in connection.reader.feed(data):
                cost += _FRAME_COST
                self._take(connection, kind, contents, now)
                if connection.closing:
                    return 0.0
        except MalformedMessage:
            self._refuse(connection, RefusalCode.MALFORMED, "that is no frame of a client", now)
            return 0.0
        config = self.config
        return connection.traffic.spend(cost, now, rate=config.rate, burst=config.burst_bytes)

    def pause(self, number: int, now: float) -> None:
        """The stream of ``number`` takes no more."""
        connection = self._connections.get(number)
        if connection is not None and not connection.queue.paused:
            connection.queue.paused = True
            connection.stuck_since = now
            if connection.stage is not Stage.CLOSING:
                due = self._deadlines.get(number)
                at = now + self.config.write_timeout
                self._deadlines.set(number, at if due is None else min(due, at))

    def resume(self, number: int) -> None:
        """The stream of ``number`` takes more again."""
        connection = self._connections.get(number)
        if connection is not None:
            connection.queue.paused = False
            connection.stuck_since = None
            self._line_up(connection)

    def reconfigure(self, config: RelayServerConfig, now: float) -> None:
        """Use ``config`` from now on, for those who are here, too; keys it does not allow have to go."""
        self.config = config
        if config.allow:
            for connection in [each for each in self._routes if each.key not in config.allow]:
                self._refuse(connection, RefusalCode.NOT_ALLOWED, "this relay is not for this key", now)

    def drain(self) -> None:
        """Take no new clients; those who are here stay."""
        self.draining = True

    def restart(self, now: float) -> None:
        """Tell each client when to come back once this server is gone: spread out evenly, with jitter."""
        self.draining = True
        clients = list(self._routes)
        spread = self.config.restart_spread
        for place, connection in enumerate(clients):
            jitter = int.from_bytes(self._random_bytes(2), "big") / 65536
            come_back = (place + jitter) * spread / len(clients)
            times = _MILLISECONDS.pack(int(come_back * 1000), int(spread * 2000))
            self._put(connection, FrameType.RESTARTING, frame(FrameType.RESTARTING, times))

    def handle_timeout(self, now: float) -> None:
        """Close who has been silent or has read nothing for too long."""
        for number in self._deadlines.due(now):
            connection = self._connections[number]
            config = self.config
            if connection.stage is Stage.PROVING:
                self._refuse(connection, RefusalCode.SILENT, "no key was proved in time")
                continue
            silent = connection.heard + config.idle_timeout
            stuck = None if connection.stuck_since is None else connection.stuck_since + config.write_timeout
            if stuck is not None and stuck <= now:
                self._close(connection, "the client does not read", now)
            elif silent <= now:
                self._close(connection, "the client is silent", now)
            else:
                self._deadlines.set(number, silent if stuck is None else min(silent, stuck))

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` wants to be called."""
        return self._deadlines.next_timeout()

    def poll_transmit(self) -> tuple[int, bytes] | None:
        """The next bytes and the connection they are for, or None."""
        while self._ready:
            connection = self._ready[0]
            data = connection.queue.take()
            if data is not None:
                return connection.number, data
            self._ready.popleft()
            connection.waiting = False
        return None

    def poll_event(self) -> CloseWanted | None:
        """The next event, or None."""
        return self._events.poll()

    # Frames.

    def _take(self, connection: ServerConnection, kind: int, contents: bytes, now: float) -> None:
        if connection.stage is Stage.PROVING:
            if kind != FrameType.PROOF:
                raise MalformedMessage("a frame before the proof")
            self._take_proof(connection, contents, now)
        elif kind == FrameType.SEND:
            self._forward(connection, contents, now)
        elif kind == FrameType.PING:
            self._put(connection, FrameType.PONG, frame(FrameType.PONG, contents))
        elif kind != FrameType.PONG:
            raise MalformedMessage("a frame that clients do not send")

    def _forward(self, sender: ServerConnection, contents: bytes, now: float) -> None:
        key = contents[:KEY_LENGTH]
        receiver = self._routes.active(key)
        if receiver is None:
            self.stats.undeliverable += 1
            self._tell_gone(sender, key, GoneReason.NOT_HERE, now)
            return
        limit = self.config.remembered_peers
        sender.remember(key, limit)
        receiver.remember(sender.key, limit)
        stats = self.stats
        stats.packets += 1
        stats.bytes += len(contents) - KEY_LENGTH
        stats.dropped += receiver.queue.put_packet(frame(FrameType.PACKET, sender.key, contents[KEY_LENGTH:]))
        self._line_up(receiver)

    def _take_proof(self, connection: ServerConnection, contents: bytes, now: float) -> None:
        config = self.config
        proof = Proof.decode(contents)
        if proof.version != VERSION:
            self._refuse(connection, RefusalCode.VERSION, f"this relay speaks version {VERSION}")
            return
        if self.draining:
            self._refuse(connection, RefusalCode.DRAINING, "this relay is about to end")
            return
        try:
            answer = welcome(self.identity, connection.nonce, proof, connection.binding, config.idle_timeout)
        except IntegrityError:
            self._refuse(connection, RefusalCode.PROOF, "the proof is not for this key and this connection")
            return
        if config.allow and proof.key not in config.allow:
            self._refuse(connection, RefusalCode.NOT_ALLOWED, "this relay is not for this key")
            return
        connection.key, connection.nonce, connection.binding = proof.key, b"", b""
        connection.stage = Stage.SERVED
        connection.heard = now
        self._deadlines.set(connection.number, now + config.idle_timeout)
        self.stats.welcomed += 1
        self._put(connection, FrameType.WELCOME, answer)
        before = self._routes.add(connection)
        if before is not None:
            self._put(before, FrameType.STANDING, _STANDBY)
            there = self._routes.all_of(connection.key)
            if len(there) > config.connections_per_key:
                self._refuse(there[0], RefusalCode.SUPERSEDED, "this key has newer connections", now)

    # Who comes and goes.

    def _leave(self, connection: ServerConnection, now: float) -> None:
        """Take ``connection`` out of the routes, and tell those whom it concerns."""
        promoted = self._routes.remove(connection)
        if promoted is not None:
            self._put(promoted, FrameType.STANDING, _ACTIVE)
        elif self._routes.active(connection.key) is None:
            for peer in connection.peers or ():
                other = self._routes.active(peer)
                if other is not None:
                    self._tell_gone(other, connection.key, GoneReason.DISCONNECTED, now)
        connection.peers = None

    def _tell_gone(self, connection: ServerConnection, key: bytes, reason: GoneReason, now: float) -> None:
        config = self.config
        if connection.notices.take(now, rate=config.notices_per_second, burst=config.notices_at_once):
            self.stats.notices += 1
            connection.queue.put_notice(frame(FrameType.GONE, key, bytes([reason])))
            self._line_up(connection)

    def _refuse(self, connection: ServerConnection, code: RefusalCode, reason: str, now: float = 0.0) -> None:
        self.stats.refused[code.name.lower()] += 1
        connection.queue.clear()
        self._put(connection, FrameType.REFUSED, refusal(code, reason))
        self._close(connection, reason, now)

    def _close(self, connection: ServerConnection, reason: str, now: float) -> None:
        served, connection.stage = connection.stage is Stage.SERVED, Stage.CLOSING
        self.drops.add(reason)
        self._deadlines.cancel(connection.number)
        if served:
            self._leave(connection, now)
        self._events.put(CloseWanted(connection.number, reason))

    def _put(self, connection: ServerConnection, kind: FrameType, data: bytes) -> None:
        connection.queue.put_control(kind, data)
        self._line_up(connection)

    def _line_up(self, connection: ServerConnection) -> None:
        if not connection.waiting and connection.queue and not connection.queue.paused:
            connection.waiting = True
            self._ready.append(connection)
