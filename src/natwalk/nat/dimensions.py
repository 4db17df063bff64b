"""The dimensions in which NATs differ, in the words of RFC 4787, 5382 and 5508, one enumeration each."""

from __future__ import annotations

from enum import Enum


class Mapping(Enum):
    """What an external port depends on, besides the internal one (RFC 4787 §4.1)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


class Filtering(Enum):
    """Whose packets an external port lets in: everybody's, or of whom was sent to (RFC 4787 §5)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


class Allocation(Enum):
    """How the port of a new mapping is chosen (RFC 4787 §4.2.1)."""

    PRESERVE = "preserve"
    """The internal port; a random one of the range when it is taken or outside the range."""
    OVERLOAD = "preserve and overload"
    """The internal port always: hosts share it, told apart by as much of the remote as the mapping depends
    on. Of two flows that nothing tells apart the newer takes the inbound packets and the older starves."""
    SEQUENTIAL = "sequential"
    """The last one given plus ``step``, whatever the internal port."""
    RANDOM = "random"
    """Any free one of the range."""
    BLOCK = "random in a block"
    """Any free one of the subscriber's own blocks of ``block_size`` ports (RFC 7422 §2)."""


class Pooling(Enum):
    """Which of several external addresses a mapping gets (RFC 4787 §4.1)."""

    PAIRED = "paired"
    """The same one for every mapping of an internal host, as long as the host has any."""
    ARBITRARY = "arbitrary"
    """Any one for each mapping."""


class Hairpin(Enum):
    """What becomes of a packet from inside to the NAT's own external address (RFC 4787 §6)."""

    NONE = "none"
    INTERNAL_SOURCE = "internal source"
    EXTERNAL_SOURCE = "external source"


class EarlyProbe(Enum):
    """What an inbound packet does that no mapping lets in."""

    DROPPED = "dropped"
    ANSWERED = "answered"
    """The sender gets an ICMP port unreachable. TCP has its own dimension: :class:`UnsolicitedSyn`."""
    POISONS = "poisons"
    """It occupies its (external port, remote address): a later flow from inside to that remote gets another
    port. So do gateways with Linux connection tracking that take the probe themselves."""
    ANSWERED_AND_POISONS = "answered and poisons"
    """Both, as a plain Linux router that has nobody listening at that port."""

    @property
    def answers(self) -> bool:
        """Whether the sender hears of it."""
        return self in (EarlyProbe.ANSWERED, EarlyProbe.ANSWERED_AND_POISONS)

    @property
    def poisons(self) -> bool:
        """Whether it occupies the port."""
        return self in (EarlyProbe.POISONS, EarlyProbe.ANSWERED_AND_POISONS)


class UnsolicitedSyn(Enum):
    """What a TCP SYN gets that nothing lets in (RFC 5382 §4.3)."""

    DROP = "drop"
    RST = "RST"
    ICMP = "ICMP"


class WhenFull(Enum):
    """What gives way when a table is full."""

    DROP_NEW = "drop new"
    EVICT_OLDEST = "evict oldest"
    """The mapping idle for longest goes: of the subscriber when its share is full, else of the table."""
