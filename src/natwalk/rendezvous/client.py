"""The client's side of one mailbox: joins it, survives lost connections, delivers each message once.

The driver owns the WebSocket: it calls ``connection_made`` and ``connection_lost``, passes text frames to
``receive_message`` and sends what ``poll_message`` yields. Commands may come before the first connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, assert_never

from natwalk.core import Drops, LocalProtocolError, MalformedMessage, Outbox, RandomBytes
from natwalk.rendezvous.codes import MAX_NAMEPLATE
from natwalk.rendezvous.messages import (
    FAILURES,
    MAX_BODY,
    MAX_MESSAGES,
    Ack,
    Add,
    Allocate,
    Allocated,
    Claim,
    ClientMessage,
    Close,
    Closed,
    Delivered,
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
    decode_server,
    encode,
)

ANSWER_TIMEOUT: Final = 10.0
"""Seconds the server has to answer a request to join."""


@dataclass(frozen=True, slots=True)
class NameplateAllocated:
    """The server gave this nameplate, leading to this mailbox."""

    nameplate: int
    mailbox: str


@dataclass(frozen=True, slots=True)
class MailboxOpened:
    """In the mailbox, for the first time or again; ``renewed`` when all that was in it before is lost."""

    mailbox: str
    renewed: bool = False


@dataclass(frozen=True, slots=True)
class PeerMessage:
    """A message of the other side, each once and in the order added."""

    phase: str
    body: bytes


@dataclass(frozen=True, slots=True)
class PeerClosedMailbox:
    """The other side closed the mailbox in this mood; SCARY means a wrong guess burned the code."""

    mood: Mood


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """The other side's connection to the server broke: it may come back, or may have been killed."""


@dataclass(frozen=True, slots=True)
class RendezvousFailed:
    """It is over: why (for people) and what to do; ``retry_after`` in seconds when waiting helps."""

    code: FailureCode
    message: str
    hint: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class MailboxClosed:
    """The server knows that this side is done; the connection is of no more use."""


RendezvousEvent = (
    NameplateAllocated
    | MailboxOpened
    | PeerMessage
    | PeerLeft
    | PeerClosedMailbox
    | RendezvousFailed
    | MailboxClosed
)


class ClientState(Enum):
    """Where a client is; CLOSED and FAILED are final."""

    NEW = "new"
    JOINING = "joining"
    JOINED = "joined"
    CLOSING = "closing"
    CLOSED = "closed"
    FAILED = "failed"


class RendezvousClient:
    """One mailbox: ``allocate``, ``claim`` or ``open`` once, then ``add`` and in the end ``close``."""

    def __init__(self, *, random_bytes: RandomBytes) -> None:
        self._token = random_bytes(16).hex()
        self._join: Allocate | Claim | Open | None = None
        self._connected = False
        self._entered = False
        self._mood: Mood | None = None
        self._unacknowledged: dict[str, bytes] = {}
        self._after = 0
        self._epoch = ""
        self._deadline: float | None = None
        self._messages: Outbox[str] = Outbox(4 * MAX_MESSAGES)
        self._events: Outbox[RendezvousEvent] = Outbox(8 * MAX_MESSAGES)
        self.state = ClientState.NEW
        self.mailbox: str | None = None
        self.nameplate: int | None = None
        self.drops = Drops()

    def allocate(self, now: float) -> None:
        """Ask for a nameplate and take side A of the mailbox behind it."""
        self._start(Allocate(side=self._token), now)

    def claim(self, nameplate: int, now: float) -> None:
        """Take side B of the mailbox behind ``nameplate``."""
        if not 1 <= nameplate <= MAX_NAMEPLATE:
            raise LocalProtocolError(f"a nameplate is a number from 1 to {MAX_NAMEPLATE}, not {nameplate}")
        self._start(Claim(nameplate=nameplate, side=self._token), now)

    def open(self, mailbox: str, now: float, *, slot: Slot | str) -> None:
        """Take side ``slot`` ("A" or "B") of the mailbox with this id: 32 lower-case hexadecimal digits.

        It is made if it is not there; whoever had this side before is replaced.
        """
        if len(mailbox) != 32 or set(mailbox) - set("0123456789abcdef"):
            raise LocalProtocolError("a mailbox id is 32 lower-case hexadecimal digits")
        self._start(Open(mailbox=mailbox, slot=Slot(slot), side=self._token), now)

    def add(self, phase: str, body: bytes, now: float) -> None:
        """Put ``body`` (at most 32 KiB) in for the other side; ``phase`` names it, each name once."""
        del now
        if self.state not in (ClientState.JOINING, ClientState.JOINED):
            raise LocalProtocolError(f"cannot add a message in state {self.state.value}")
        if len(body) > MAX_BODY:
            raise LocalProtocolError(f"a message of {len(body)} bytes; at most {MAX_BODY}")
        if phase in self._unacknowledged:
            raise LocalProtocolError(f"phase {phase!r} was added before")
        if len(self._unacknowledged) >= MAX_MESSAGES:
            raise LocalProtocolError(f"{MAX_MESSAGES} messages wait for the server already")
        self._unacknowledged[phase] = body
        if self._entered:
            self._send(Add(phase=phase, body=body))

    def close(self, mood: Mood | str, now: float) -> None:
        """Leave the mailbox; MailboxClosed follows when the server knows. Harmless when over."""
        if self.state in (ClientState.CLOSING, ClientState.CLOSED, ClientState.FAILED):
            return
        if self.state is ClientState.NEW:
            self._over(ClientState.CLOSED)
            self._events.put(MailboxClosed())
            return
        self._mood, self.state = Mood(mood), ClientState.CLOSING
        self._deadline = now + ANSWER_TIMEOUT
        if self._entered:
            self._send(Close(mood=self._mood))

    def connection_made(self, now: float) -> None:
        """The driver has a connection: join, or come back to where this side was."""
        self._connected, self._entered = True, False
        self._messages.clear()
        self._enter(now)

    def connection_lost(self, now: float) -> None:
        """The connection is gone; nothing is lost if the driver makes a new one within minutes."""
        del now
        self._connected = self._entered = False
        self._messages.clear()
        if self.state is not ClientState.CLOSING:
            self._deadline = None

    def receive_message(self, text: str, now: float) -> None:
        """Take one text frame; drops what is no message of a server."""
        if not self._connected or self.state in (ClientState.CLOSED, ClientState.FAILED):
            self.drops.add("frame after the end")
            return
        try:
            message = decode_server(text)
        except MalformedMessage as error:
            self.drops.add(str(error))
            return
        self._dispatch(message, now)

    def poll_message(self) -> str | None:
        """The next text frame to send, or None."""
        return self._messages.poll()

    def poll_event(self) -> RendezvousEvent | None:
        """The next event, or None."""
        return self._events.poll()

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` wants to be called, or None."""
        return self._deadline

    def handle_timeout(self, now: float) -> None:
        """Give up on a server that accepted the connection and does not answer."""
        if self._deadline is None or now < self._deadline:
            return
        if self.state is ClientState.CLOSING:
            self._over(ClientState.CLOSED)
            self._events.put(MailboxClosed())
        else:
            self._fail(FailureCode.NO_ANSWER)

    @property
    def room(self) -> int:
        """How many messages :meth:`add` takes now; 0 before joining and from closing on."""
        if self.state not in (ClientState.JOINING, ClientState.JOINED):
            return 0
        return MAX_MESSAGES - len(self._unacknowledged)

    @property
    def finished(self) -> bool:
        """Whether the client is done with the server, well or not."""
        return self.state in (ClientState.CLOSED, ClientState.FAILED)

    def _start(self, join: Allocate | Claim | Open, now: float) -> None:
        if self.state is not ClientState.NEW:
            raise LocalProtocolError(f"a client joins one mailbox; this one is {self.state.value}")
        self._join, self.state = join, ClientState.JOINING
        self._enter(now)

    def _enter(self, now: float) -> None:
        """Send what brings this side into its mailbox, if there is a connection."""
        if not self._connected or self._join is None or self.finished:
            return
        join: ClientMessage = self._join
        if isinstance(join, Open):
            join = Open(
                mailbox=join.mailbox, slot=join.slot, side=self._token, after=self._after, epoch=self._epoch
            )
        elif self.mailbox is not None:
            join = Reopen(mailbox=self.mailbox, side=self._token, after=self._after)
        self._send(join)
        if self.state is not ClientState.CLOSING:
            self._deadline = now + ANSWER_TIMEOUT

    def _dispatch(self, message: ServerMessage, now: float) -> None:
        match message:
            case Allocated():
                self._on_allocated(message)
            case Opened():
                self._on_opened(message)
            case Delivered():
                self._on_delivered(message)
            case Ack():
                self._unacknowledged.pop(message.phase, None)
            case PeerAway():
                self._events.put(PeerLeft())
            case PeerClosed():
                self._events.put(PeerClosedMailbox(message.mood))
            case Closed():
                self._over(ClientState.CLOSED)
                self._events.put(MailboxClosed())
            case Refused():
                self._on_refused(message)
            case _:
                assert_never(message)

    def _on_allocated(self, message: Allocated) -> None:
        if not isinstance(self._join, Allocate) or self.mailbox is not None:
            self.drops.add("nameplate that was not asked for")
            return
        self.mailbox, self.nameplate = message.mailbox, message.nameplate
        self._events.put(NameplateAllocated(message.nameplate, message.mailbox))

    def _on_opened(self, message: Opened) -> None:
        expected = self._join.mailbox if isinstance(self._join, Open) else self.mailbox
        if self._entered or (expected is not None and message.mailbox != expected):
            self.drops.add("mailbox that was not asked for")
            return
        renewed = bool(self._epoch) and message.epoch != self._epoch
        if renewed:
            self._after = 0
        self.mailbox, self._epoch, self._entered = message.mailbox, message.epoch, True
        if self.state is ClientState.JOINING:
            self.state = ClientState.JOINED
        self._events.put(MailboxOpened(message.mailbox, renewed))
        for phase, body in self._unacknowledged.items():
            self._send(Add(phase=phase, body=body))
        if self._mood is not None:
            self._send(Close(mood=self._mood))
        else:
            self._deadline = None

    def _on_delivered(self, message: Delivered) -> None:
        if not self._entered or message.seq <= self._after:
            self.drops.add("message seen before")
            return
        self._after = message.seq
        self._send(Seen(seq=message.seq))
        self._events.put(PeerMessage(message.phase, message.body))

    def _on_refused(self, message: Refused) -> None:
        if self.state is ClientState.CLOSING:
            self._over(ClientState.CLOSED)
            self._events.put(MailboxClosed())
            return
        try:
            code = FailureCode(message.code)
        except ValueError:
            code = FailureCode.MISPLACED
        self._fail(code, message.retry_after)

    def _fail(self, code: FailureCode, retry_after: float | None = None) -> None:
        self._over(ClientState.FAILED)
        text, hint = FAILURES[code]
        if retry_after is not None and retry_after >= 1:
            hint = f"{hint} (in {retry_after:.0f} s)"
        self._events.put(RendezvousFailed(code, text, hint, retry_after))

    def _over(self, state: ClientState) -> None:
        self.state, self._deadline = state, None
        self._unacknowledged.clear()

    def _send(self, message: ClientMessage) -> None:
        self._messages.put(encode(message))
