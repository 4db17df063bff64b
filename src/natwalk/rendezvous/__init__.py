"""How two peers who share only a code, or a secret from before, exchange candidates and keys unseen."""

from natwalk.rendezvous.client import (
    ClientState,
    MailboxClosed,
    MailboxOpened,
    NameplateAllocated,
    PeerClosedMailbox,
    PeerLeft,
    PeerMessage,
    RendezvousClient,
    RendezvousEvent,
    RendezvousFailed,
)
from natwalk.rendezvous.codes import Code, InvalidCode, complete, complete_word
from natwalk.rendezvous.limits import RendezvousLimits
from natwalk.rendezvous.messages import MAX_FRAME, FailureCode, Mood, Slot
from natwalk.rendezvous.secure_mailbox import (
    KeyEstablished,
    MailboxMessage,
    PeerRestarted,
    SecureMailbox,
    SecureMailboxEvent,
    WrongCode,
    WrongKey,
)
from natwalk.rendezvous.server import RendezvousServer

__all__ = [
    "MAX_FRAME",
    "ClientState",
    "Code",
    "FailureCode",
    "InvalidCode",
    "KeyEstablished",
    "MailboxClosed",
    "MailboxMessage",
    "MailboxOpened",
    "Mood",
    "NameplateAllocated",
    "PeerClosedMailbox",
    "PeerLeft",
    "PeerMessage",
    "PeerRestarted",
    "RendezvousClient",
    "RendezvousEvent",
    "RendezvousFailed",
    "RendezvousLimits",
    "RendezvousServer",
    "SecureMailbox",
    "SecureMailboxEvent",
    "Slot",
    "WrongCode",
    "WrongKey",
    "complete",
    "complete_word",
]
