"""What a NAT does, dimension by dimension, in the words of RFC 4787."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from natwalk.core import Address


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
    SEQUENTIAL = "sequential"
    """The last one given plus ``step``, whatever the internal port."""
    RANDOM = "random"
    """Any free one of the range."""


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
    POISONS = "poisons"
    """It occupies its (external port, remote address): a later flow from inside to that remote gets another
    port. So do gateways with Linux connection tracking that answer or swallow the probe themselves."""


class WhenFull(Enum):
    """What gives way when a table is full."""

    DROP_NEW = "drop new"
    EVICT_OLDEST = "evict oldest"
    """The mapping idle for longest goes: of the subscriber when its share is full, else of the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NatConfig:
    """Everything a :class:`~natwalk.nat.Nat` is told.

    Times are in seconds. Raises ValueError when it asks the impossible. ``public_addresses`` may stay empty
    in a preset; :meth:`at` fills it in.
    """

    mapping: Mapping = Mapping.ENDPOINT_INDEPENDENT
    filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    allocation: Allocation = Allocation.PRESERVE
    step: int = 1
    """Distance of sequential allocation, either sign, not 0."""
    ports: tuple[int, int] = (1024, 65535)
    """First and last external port that may be given out."""
    keep_parity: bool = False
    """Even ports stay even, odd ones odd (RFC 4787 §4.2.2)."""
    public_addresses: tuple[str, ...] = ()
    pooling: Pooling = Pooling.PAIRED
    hairpin: Hairpin = Hairpin.NONE
    idle_timeout: float = 120.0
    """A mapping not refreshed for so long is gone, and so is a permission to filter by (RFC 4787 §4.3)."""
    absolute_timeout: float | None = None
    """A mapping so old is gone, refreshed or not."""
    inbound_refresh: bool = False
    """Inbound packets refresh as well; outbound ones always do (RFC 4787 §4.3)."""
    early_probe: EarlyProbe = EarlyProbe.DROPPED
    poison_timeout: float = 30.0
    max_mappings: int = 65_536
    max_mappings_per_subscriber: int | None = None
    """A subscriber is one internal IP address."""
    when_full: WhenFull = WhenFull.DROP_NEW
    max_peers_per_mapping: int = 1024
    """Permissions one mapping remembers to filter by; the oldest gives way."""

    def __post_init__(self) -> None:
        first, last = self.ports
        if not 1 <= first <= last <= 65535:
            raise ValueError(f"ports {first}-{last} is not a range between 1 and 65535")
        if self.keep_parity and first == last:
            raise ValueError("parity cannot be kept with a single port")
        if self.step == 0:
            raise ValueError("step of sequential allocation must not be 0")
        for name in ("idle_timeout", "poison_timeout", "max_mappings", "max_peers_per_mapping"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for limit in (self.absolute_timeout, self.max_mappings_per_subscriber):
            if limit is not None and limit <= 0:
                raise ValueError(f"a limit must be positive, not {limit}")
        if len({Address(host, 0).version for host in self.public_addresses}) > 1:
            raise ValueError("public addresses must be of one family")

    def at(self, *public_addresses: str) -> NatConfig:
        """The same behaviour with these external addresses."""
        return replace(self, public_addresses=public_addresses)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirewallConfig:
    """A firewall that translates nothing; ``udp`` says whether it lets UDP pass."""

    udp: bool
