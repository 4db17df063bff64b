"""The rendezvous server: who may meet whom in which mailbox, and nothing about what they say there.

It sees addresses of connections, nameplates, random ids, sizes and times; never a candidate, a name or a
word of a code. Every refusal ends its connection, so a driver has one way to treat all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from natwalk.core import Deadlines, Drops, IPAddress, MalformedMessage, Outbox, RandomBytes, earliest
from natwalk.rendezvous.limits import Rate, RendezvousLimits, SourceRates, TokenBucket, source_of
from natwalk.rendezvous.mailboxes import Kind, Mailbox, Put
from natwalk.rendezvous.messages import (
    Ack,
    Add,
    Allocate,
    Allocated,
    Claim,
    ClientMessage,
    Close,
    Closed,
    FailureCode,
    Mood,
    Open,
    Opened,
    PeerAway,
    PeerClosed,
    Refused,
    Reopen,
    Seen,
    ServerMessage,
    Slot,
    decode_client,
    encode,
)
from natwalk.rendezvous.nameplates import Nameplates
from natwalk.rendezvous.store import MailboxStore

_OUTBOX_LIMIT = 65_536


@dataclass(slots=True)
class _Connection:
    """One client's connection: whom it counts as, and where it is."""

    id: int
    source: str
    frames: TokenBucket
    mailbox: Mailbox | None = None
    slot: Slot = Slot.A
    closing: bool = field(default=False)


class _Timer(Enum):
    JOIN = "join"
    NAMEPLATE = "nameplate"


class RendezvousServer:
    """All mailboxes of one server; connection ids are the driver's and never used twice."""

    def __init__(self, config: RendezvousLimits, *, random_bytes: RandomBytes) -> None:
        self._limits = config
        self._random_bytes = random_bytes
        self._store = MailboxStore(config, random_bytes=random_bytes)
        self._nameplates = Nameplates(random_bytes, resting_limit=config.mailboxes)
        self._rates = SourceRates(
            {
                Rate.ALLOCATION: config.allocations_per_minute,
                Rate.CLAIM: config.claims_per_minute,
                Rate.REOPEN: config.reopens_per_minute,
            },
            config.sources,
        )
        self._connections: dict[int, _Connection] = {}
        self._per_source: dict[str, int] = {}
        self._allocators: dict[str, str] = {}
        self._timers: Deadlines[tuple[_Timer, int]] = Deadlines()
        self._messages: Outbox[tuple[int, str]] = Outbox(_OUTBOX_LIMIT)
        self._closes: Outbox[tuple[int, str]] = Outbox(_OUTBOX_LIMIT)
        self.drops = Drops()

    @property
    def mailboxes(self) -> int:
        """How many mailboxes there are."""
        return len(self._store)

    @property
    def nameplates(self) -> int:
        """How many nameplates are in use or resting."""
        return len(self._nameplates)

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    @property
    def stored_bytes(self) -> int:
        """How many bytes of bodies wait in all mailboxes."""
        return self._store.stored

    def connection_made(self, conn: int, address: IPAddress, now: float) -> None:
        """A client at ``address`` connected; it has ``join_timeout`` seconds to ask for a mailbox."""
        limits, source = self._limits, source_of(address)
        frames = TokenBucket(limits.frames_per_second, limits.frame_burst, now)
        connection = self._connections[conn] = _Connection(conn, source, frames)
        self._per_source[source] = self._per_source.get(source, 0) + 1
        self._timers.set((_Timer.JOIN, conn), now + limits.join_timeout)
        if self._per_source[source] > limits.connections_per_source:
            self._refuse(connection, FailureCode.TOO_MANY, now)
        elif len(self._connections) > limits.connections:
            self._refuse(connection, FailureCode.SERVER_FULL, now)

    def connection_lost(self, conn: int, now: float) -> None:
        """The connection is gone; its side of the mailbox stays for the client to come back to."""
        connection = self._connections.pop(conn, None)
        if connection is None:
            return
        self._per_source[connection.source] -= 1
        if not self._per_source[connection.source]:
            del self._per_source[connection.source]
        self._timers.cancel((_Timer.JOIN, conn))
        self._tell_away(connection)
        self._leave(connection, now)

    def receive_message(self, conn: int, text: str, now: float) -> None:
        """Take one text frame; never raises on what a client sent."""
        connection = self._connections.get(conn)
        if connection is None or connection.closing:
            self.drops.add("frame of a closed connection")
            return
        if wait := connection.frames.take(now):
            self._refuse(connection, FailureCode.RATE_LIMITED, now, retry_after=wait)
            return
        try:
            message = decode_client(text)
        except MalformedMessage as error:
            self.drops.add(str(error))
            self._refuse(connection, FailureCode.MALFORMED, now)
            return
        self._dispatch(connection, message, now)

    def poll_message(self) -> tuple[int, str] | None:
        """The next frame to send, with its connection, or None."""
        return self._messages.poll()

    def poll_close(self) -> tuple[int, str] | None:
        """The next connection to close once its frames are sent, with the reason, or None."""
        return self._closes.poll()

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` wants to be called, or None."""
        return earliest(self._timers.next_timeout(), self._store.next_timeout())

    def handle_timeout(self, now: float) -> None:
        """End what is over: idle mailboxes, unused nameplates, connections that never asked."""
        while (due := self._timers.pop_due(now)) is not None:
            timer, number = due
            if timer is _Timer.NAMEPLATE:
                self._nameplates.release_resting(number)
            elif (connection := self._connections.get(number)) is not None:
                self._refuse(connection, FailureCode.IDLE, now)
        while (mailbox := self._store.pop_due(now)) is not None:
            self._end(mailbox, FailureCode.EXPIRED, now)

    def _dispatch(self, connection: _Connection, message: ClientMessage, now: float) -> None:
        joining = isinstance(message, Allocate | Claim | Open | Reopen)
        if joining != (connection.mailbox is None):
            self.drops.add("message out of place")
            self._refuse(connection, FailureCode.MISPLACED, now)
            return
        match message:
            case Allocate():
                self._allocate(connection, message, now)
            case Claim():
                self._claim(connection, message, now)
            case Open():
                self._open(connection, message, now)
            case Reopen():
                self._reopen(connection, message, now)
            case Add():
                self._add(connection, message, now)
            case Seen():
                assert connection.mailbox is not None
                self._store.seen(connection.mailbox, connection.slot, message.seq)
            case Close():
                self._close(connection, message.mood, now)
            case _:
                assert_never(message)

    def _allowed(self, connection: _Connection, rate: Rate, now: float) -> bool:
        wait = self._rates.take(connection.source, rate, now)
        if wait:
            self._refuse(connection, FailureCode.RATE_LIMITED, now, retry_after=wait)
        return not wait

    def _create(
        self, connection: _Connection, kind: Kind, now: float, mailbox_id: str = ""
    ) -> Mailbox | None:
        if not self._allowed(connection, Rate.ALLOCATION, now):
            return None
        made = self._store.create(kind, connection.source, now, mailbox_id)
        if isinstance(made, FailureCode):
            self._refuse(connection, made, now)
            return None
        return made

    def _allocate(self, connection: _Connection, message: Allocate, now: float) -> None:
        if not self._allowed(connection, Rate.REOPEN, now):
            return
        mailbox = self._store.get(self._allocators.get(message.side, ""))
        if mailbox is None:
            mailbox = self._create(connection, Kind.NAMEPLATE, now)
            if mailbox is None:
                return
            mailbox.nameplate = self._nameplates.allocate(mailbox.id)
            if mailbox.nameplate is None:
                self._store.remove(mailbox)
                self._refuse(connection, FailureCode.SERVER_FULL, now)
                return
            self._allocators[message.side] = mailbox.id
            self._store.take(mailbox, Slot.A, message.side)
        assert mailbox.nameplate is not None
        self._send(connection.id, Allocated(nameplate=mailbox.nameplate, mailbox=mailbox.id))
        self._enter(connection, mailbox, Slot.A, 0, now)

    def _claim(self, connection: _Connection, message: Claim, now: float) -> None:
        if not self._allowed(connection, Rate.CLAIM, now):
            return
        nameplate = self._nameplates.get(message.nameplate)
        if nameplate is None:
            self._refuse(connection, FailureCode.UNKNOWN_NAMEPLATE, now)
            return
        mailbox = self._store.get(nameplate.mailbox)
        slot = None if mailbox is None else mailbox.slot_of(message.side)
        if mailbox is None or (slot is None and nameplate.refusal is not None):
            self._refuse(connection, nameplate.refusal or FailureCode.UNKNOWN_NAMEPLATE, now)
            return
        if slot is None:
            slot = Slot.B
            self._store.take(mailbox, slot, message.side)
            self._rest(message.nameplate, FailureCode.CROWDED, now)
            self._store.claimed(mailbox, now)
        self._enter(connection, mailbox, slot, 0, now)

    def _open(self, connection: _Connection, message: Open, now: float) -> None:
        if not self._allowed(connection, Rate.REOPEN, now):
            return
        mailbox = self._store.get(message.mailbox)
        if mailbox is None:
            mailbox = self._create(connection, Kind.RESUME, now, message.mailbox)
            if mailbox is None:
                return
        elif mailbox.kind is Kind.NAMEPLATE:
            self._refuse(connection, FailureCode.CROWDED, now)
            return
        side = mailbox.sides[message.slot]
        if side.conn is not None and side.token != message.side:
            self._refuse(self._connections[side.conn], FailureCode.REPLACED, now)
        self._store.take(mailbox, message.slot, message.side)
        after = message.after if message.epoch == mailbox.epoch else 0
        self._enter(connection, mailbox, message.slot, after, now)

    def _reopen(self, connection: _Connection, message: Reopen, now: float) -> None:
        if not self._allowed(connection, Rate.REOPEN, now):
            return
        mailbox = self._store.get(message.mailbox)
        slot = None if mailbox is None else mailbox.slot_of(message.side)
        if mailbox is None or slot is None:
            self._refuse(connection, FailureCode.GONE, now)
            return
        self._enter(connection, mailbox, slot, message.after, now)

    def _enter(self, connection: _Connection, mailbox: Mailbox, slot: Slot, after: int, now: float) -> None:
        """Put ``connection`` into ``mailbox`` as ``slot`` and give it what it has not seen."""
        side, other = mailbox.sides[slot], mailbox.sides[slot.other]
        if side.conn is not None:
            superseded = self._connections[side.conn]
            self._leave(superseded, now)
            self._finish(superseded, "superseded by a newer connection of the same side")
        connection.mailbox, connection.slot, side.conn = mailbox, slot, connection.id
        self._timers.cancel((_Timer.JOIN, connection.id))
        self._store.reschedule(mailbox, now)
        self._send(connection.id, Opened(mailbox=mailbox.id, epoch=mailbox.epoch))
        self._store.seen(mailbox, slot, after)
        for message in side.inbox:
            self._send(connection.id, message)
        if mailbox.burned:
            self._tell_burned(mailbox, slot, now)
        elif other.closed is not None:
            self._send(connection.id, PeerClosed(mood=other.closed))

    def _add(self, connection: _Connection, message: Add, now: float) -> None:
        mailbox = connection.mailbox
        assert mailbox is not None
        put = self._store.put(mailbox, connection.slot, message.phase, message.body)
        if put is Put.FULL:
            self._refuse(connection, FailureCode.MAILBOX_FULL, now)
            return
        self._send(connection.id, Ack(phase=message.phase))
        other = mailbox.sides[connection.slot.other]
        if put is Put.STORED and other.conn is not None:
            self._send(other.conn, other.inbox[-1])

    def _close(self, connection: _Connection, mood: Mood, now: float) -> None:
        mailbox, slot = connection.mailbox, connection.slot
        assert mailbox is not None
        mailbox.sides[slot].closed = mood
        self._send(connection.id, Closed())
        self._leave(connection, now)
        self._finish(connection, "done")
        if mood is Mood.SCARY and not mailbox.burned:
            self._store.burn(mailbox)
        other = mailbox.sides[slot.other]
        if mailbox.burned and other.conn is not None:
            self._tell_burned(mailbox, slot.other, now)
        elif mailbox.finished:
            self._end(mailbox, FailureCode.UNKNOWN_NAMEPLATE, now)
        elif other.conn is not None:
            self._send(other.conn, PeerClosed(mood=mood))

    def _tell_burned(self, mailbox: Mailbox, slot: Slot, now: float) -> None:
        """Tell the side in ``slot`` that a wrong guess burned the code, and end with it."""
        side = mailbox.sides[slot]
        assert side.conn is not None
        connection = self._connections[side.conn]
        side.closed = side.closed or Mood.SCARY
        self._send(connection.id, PeerClosed(mood=Mood.SCARY))
        self._send(connection.id, Closed())
        self._leave(connection, now)
        self._finish(connection, "burned")
        if mailbox.finished:
            self._end(mailbox, FailureCode.CROWDED, now)

    def _tell_away(self, connection: _Connection) -> None:
        """Let the other side know that this one's connection broke, unless it had said goodbye."""
        mailbox = connection.mailbox
        if mailbox is None or mailbox.sides[connection.slot].closed is not None:
            return
        other = mailbox.sides[connection.slot.other]
        if other.conn is not None and mailbox.sides[connection.slot].conn == connection.id:
            self._send(other.conn, PeerAway())

    def _leave(self, connection: _Connection, now: float) -> None:
        """Take ``connection`` out of its mailbox, which stays."""
        mailbox = connection.mailbox
        if mailbox is None:
            return
        connection.mailbox = None
        mailbox.sides[connection.slot].conn = None
        for idle in self._store.reschedule(mailbox, now):
            self._end(idle, FailureCode.EXPIRED, now)

    def _end(self, mailbox: Mailbox, refusal: FailureCode, now: float) -> None:
        """Remove ``mailbox``; whoever is still in it is told ``refusal``, as are late claimers."""
        for side in mailbox.sides.values():
            if side.conn is not None:
                self._refuse(self._connections[side.conn], refusal, now)
            self._allocators.pop(side.token, None)
        if self._store.get(mailbox.id) is mailbox:
            self._store.remove(mailbox)
        nameplate = self._nameplates.get(mailbox.nameplate or 0)
        if nameplate is not None and nameplate.mailbox == mailbox.id and nameplate.refusal is None:
            assert mailbox.nameplate is not None
            self._rest(mailbox.nameplate, refusal, now)

    def _rest(self, nameplate: int, refusal: FailureCode, now: float) -> None:
        self._nameplates.rest(nameplate, refusal)
        self._timers.set((_Timer.NAMEPLATE, nameplate), now + self._limits.nameplate_rest)

    def _refuse(
        self, connection: _Connection, code: FailureCode, now: float, *, retry_after: float | None = None
    ) -> None:
        if connection.closing:
            return
        self._send(connection.id, Refused(code=code.value, retry_after=retry_after))
        self._finish(connection, code.value)
        self._leave(connection, now)

    def _finish(self, connection: _Connection, reason: str) -> None:
        """Have the driver close ``connection`` after what was queued for it."""
        connection.closing = True
        self._timers.cancel((_Timer.JOIN, connection.id))
        self._closes.put((connection.id, reason))

    def _send(self, conn: int, message: ServerMessage) -> None:
        self._messages.put((conn, encode(message)))
