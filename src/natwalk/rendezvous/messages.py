"""The frames between a client and the rendezvous server: JSON objects tagged by ``type``, all bounded.

The server sees random mailbox ids, nameplates, sizes and times. Bodies are opaque to it; what is in them
is encrypted by :mod:`natwalk.rendezvous.secure_mailbox`. Every decoder raises MalformedMessage and
nothing else, and looks at no more than 64 KiB.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from natwalk.core import MalformedMessage
from natwalk.rendezvous.codes import MAX_NAMEPLATE

T = TypeVar("T")

MAX_FRAME: Final = 64 * 1024
MAX_BODY: Final = 32 * 1024
MAX_MESSAGES: Final = 200
"""How many messages a mailbox holds that their receiver has not confirmed having seen."""

MailboxId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
SideToken = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Epoch = Annotated[str, Meta(pattern=r"^([0-9a-f]{16})?\Z")]
Phase = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}\Z")]
Body = Annotated[bytes, Meta(max_length=MAX_BODY)]
Nameplate = Annotated[int, Meta(ge=1, le=MAX_NAMEPLATE)]
Sequence = Annotated[int, Meta(ge=0, le=2**53)]


class Slot(StrEnum):
    """Which of a mailbox's two sides; A is the one that waits (the sender), B the one that comes."""

    A = "A"
    B = "B"

    @property
    def other(self) -> Slot:
        """The opposite side."""
        return Slot.B if self is Slot.A else Slot.A


class Mood(StrEnum):
    """How a side feels when it closes a mailbox; SCARY closes it for both."""

    HAPPY = "happy"
    LONELY = "lonely"
    ERRORY = "errory"
    SCARY = "scary"


class FailureCode(StrEnum):
    """Why the server (or, for NO_ANSWER, the client) gave up; see :data:`FAILURES` for what to say."""

    MALFORMED = "malformed"
    MISPLACED = "misplaced"
    UNKNOWN_NAMEPLATE = "unknown-nameplate"
    CROWDED = "crowded"
    EXPIRED = "expired"
    GONE = "gone"
    REPLACED = "replaced"
    RATE_LIMITED = "rate-limited"
    TOO_MANY = "too-many"
    SERVER_FULL = "server-full"
    MAILBOX_FULL = "mailbox-full"
    IDLE = "idle"
    NO_ANSWER = "no-answer"


FAILURES: Final[dict[FailureCode, tuple[str, str]]] = {
    FailureCode.MALFORMED: (
        "the server did not understand this client",
        "check that both run the same version of natwalk",
    ),
    FailureCode.MISPLACED: (
        "the server did not expect that message now",
        "check that both run the same version of natwalk",
    ),
    FailureCode.UNKNOWN_NAMEPLATE: (
        "nobody is waiting under this code",
        "check the number, and that the sender is still running and uses the same server",
    ),
    FailureCode.CROWDED: (
        "two others are already using this code",
        "ask the sender to start again: a new code is needed",
    ),
    FailureCode.EXPIRED: ("nobody used the code in time", "start again to get a new code"),
    FailureCode.GONE: (
        "the server no longer has this mailbox",
        "start again to get a new code: the server was restarted or the mailbox was idle too long",
    ),
    FailureCode.REPLACED: (
        "the same side was started again elsewhere",
        "go on in the newer one: this one has stopped",
    ),
    FailureCode.RATE_LIMITED: ("too many attempts from this address", "wait a minute and try again"),
    FailureCode.TOO_MANY: (
        "too many mailboxes are open from this address",
        "end transfers you no longer need, or wait some minutes",
    ),
    FailureCode.SERVER_FULL: ("the server is full", "try again later or use another server"),
    FailureCode.MAILBOX_FULL: (
        "the mailbox is full",
        "check that the other side is running: it takes nothing out",
    ),
    FailureCode.IDLE: ("the server closed a connection that asked for nothing", "start again"),
    FailureCode.NO_ANSWER: (
        "the server accepted the connection and does not answer",
        "check that the URL is that of a natwalk server",
    ),
}
"""What each failure means and what to do, said by the client: no text of the server reaches a screen."""


class Allocate(msgspec.Struct, frozen=True, tag="allocate", forbid_unknown_fields=True):
    """Give me a free nameplate and a mailbox behind it; I take side A."""

    side: SideToken


class Claim(msgspec.Struct, frozen=True, tag="claim", forbid_unknown_fields=True):
    """Open the mailbox behind this nameplate; I take side B."""

    nameplate: Nameplate
    side: SideToken


class Open(msgspec.Struct, frozen=True, tag="open", forbid_unknown_fields=True):
    """Open (or make) the mailbox with this id; I take this slot, replacing who had it."""

    mailbox: MailboxId
    slot: Slot
    side: SideToken
    after: Sequence = 0
    epoch: Epoch = ""


class Reopen(msgspec.Struct, frozen=True, tag="reopen", forbid_unknown_fields=True):
    """Back after a lost connection: the mailbox I was in, and the last message I have seen."""

    mailbox: MailboxId
    side: SideToken
    after: Sequence = 0


class Add(msgspec.Struct, frozen=True, tag="add", forbid_unknown_fields=True):
    """Put a message in for the other side; a phase already added by this side is not added again."""

    phase: Phase
    body: Body


class Seen(msgspec.Struct, frozen=True, tag="seen", forbid_unknown_fields=True):
    """I have every message up to this number: forget them."""

    seq: Sequence


class Close(msgspec.Struct, frozen=True, tag="close", forbid_unknown_fields=True):
    """I am done with this mailbox."""

    mood: Mood


class Allocated(msgspec.Struct, frozen=True, tag="allocated", forbid_unknown_fields=True):
    """Your nameplate; Opened follows."""

    nameplate: Nameplate
    mailbox: MailboxId


class Opened(msgspec.Struct, frozen=True, tag="opened", forbid_unknown_fields=True):
    """You are in; ``epoch`` changes when a mailbox was made anew under the same id."""

    mailbox: MailboxId
    epoch: Epoch


class Delivered(msgspec.Struct, frozen=True, tag="message", forbid_unknown_fields=True):
    """A message of the other side; ``seq`` only grows within an epoch."""

    seq: Sequence
    phase: Phase
    body: Body


class Ack(msgspec.Struct, frozen=True, tag="ack", forbid_unknown_fields=True):
    """What you added under this phase is stored."""

    phase: Phase


class PeerClosed(msgspec.Struct, frozen=True, tag="peer-closed", forbid_unknown_fields=True):
    """The other side is done with this mailbox."""

    mood: Mood


class PeerAway(msgspec.Struct, frozen=True, tag="peer-away", forbid_unknown_fields=True):
    """The other side's connection broke; it may come back to this mailbox, or may have been killed."""


class Closed(msgspec.Struct, frozen=True, tag="closed", forbid_unknown_fields=True):
    """You are out of the mailbox."""


class Refused(msgspec.Struct, frozen=True, tag="refused", forbid_unknown_fields=True):
    """No; ``retry_after`` is in seconds. The server closes the connection after this."""

    code: Annotated[str, Meta(pattern=r"^[a-z-]{1,40}\Z")]
    retry_after: Annotated[float, Meta(ge=0, le=86_400)] | None = None


ClientMessage = Allocate | Claim | Open | Reopen | Add | Seen | Close
ServerMessage = Allocated | Opened | Delivered | Ack | PeerAway | PeerClosed | Closed | Refused

_CLIENT: Final[msgspec.json.Decoder[ClientMessage]] = msgspec.json.Decoder(ClientMessage)
_SERVER: Final[msgspec.json.Decoder[ServerMessage]] = msgspec.json.Decoder(ServerMessage)
_ENCODER: Final = msgspec.json.Encoder()


def encode(message: ClientMessage | ServerMessage) -> str:
    """The frame for ``message``."""
    return _ENCODER.encode(message).decode("ascii")


def decode_client(text: str) -> ClientMessage:
    """The message a client sent in this frame; raises MalformedMessage only."""
    return _decode(_CLIENT, text)


def decode_server(text: str) -> ServerMessage:
    """The message the server sent in this frame; raises MalformedMessage only."""
    return _decode(_SERVER, text)


def _decode(decoder: msgspec.json.Decoder[T], text: str) -> T:
    if len(text) > MAX_FRAME:
        raise MalformedMessage("frame longer than 64 KiB")
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise MalformedMessage("not a rendezvous message") from error
