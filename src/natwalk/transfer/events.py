"""What the two cores of a transfer tell their driver."""

from __future__ import annotations

from dataclasses import dataclass

from natwalk.transfer.errors import FailureKind, TransferError
from natwalk.transfer.flow import FlowItem, Plan
from natwalk.transfer.offer import Offer


@dataclass(frozen=True, slots=True)
class OfferReceived:
    """At the receiver: answer with ``accept`` or ``fail``."""

    offer: Offer


@dataclass(frozen=True, slots=True)
class PlanReceived:
    """At the sender: the offer is accepted; put the files of the plan, in the offer's order."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """At the sender: the receiver's disk has taken ``size`` bytes so far; there is room for more."""

    size: int


@dataclass(frozen=True, slots=True)
class AllSent:
    """At the receiver: every file came or was omitted; put them in place, then ``complete``."""

    sha256: str


@dataclass(frozen=True, slots=True)
class Completed:
    """Both sides have the same; ``sha256`` is over everything."""

    sha256: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The transfer is over and failed. What the core still has to send says so to the peer."""

    kind: FailureKind
    message: str
    by_peer: bool

    def error(self) -> TransferError:
        """The same as an exception."""
        return TransferError(self.kind, self.message, by_peer=self.by_peer)


SenderEvent = PlanReceived | Acknowledged | Completed | Failed
ReceiverEvent = OfferReceived | FlowItem | AllSent | Completed | Failed
