"""What a NAT does, dimension by dimension; what each number means is beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from natwalk.core import Address
from natwalk.nat.dimensions import (
    Allocation,
    EarlyProbe,
    Filtering,
    Hairpin,
    Mapping,
    Pooling,
    UnsolicitedSyn,
    WhenFull,
)

_ORDER = ("endpoint-independent", "address-dependent", "address-and-port-dependent")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowConfig:
    """What stateful firewalls and NATs have in common: whom they let in, and for how long they remember.

    Times are in seconds. Raises ValueError when it asks the impossible.
    """

    filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    idle_timeout: float = 120.0
    """A UDP mapping not refreshed for so long is gone, and a permission to filter by too (RFC 4787 §4.3)."""
    replied_timeout: float | None = None
    """Idle time of a UDP mapping once it was answered, if another (Linux: ``udp_timeout_stream``)."""
    absolute_timeout: float | None = None
    """A UDP mapping so old is gone, refreshed or not."""
    absolute_spread: float = 0.0
    """How much longer than that one may live: drawn for each anew, up to so much."""
    inbound_refresh: bool = False
    """Inbound UDP packets refresh as well; outbound ones always do (RFC 4787 §4.3)."""
    tcp_transitory: float = 240.0
    """Idle time of a TCP connection that opens or closes (RFC 5382 §5)."""
    tcp_established: float = 7440.0
    """Idle time of an open one (RFC 5382 §5)."""
    tcp_pickup: bool = True
    """A segment from inside that belongs to no known connection makes one: a lenient NAT after a reboot."""
    simultaneous_open: bool = True
    """A SYN that comes in while ours is out gets in (RFC 5382 §4.2)."""
    unsolicited_syn: UnsolicitedSyn = UnsolicitedSyn.DROP
    syn_answer_delay: float = 0.0
    """How long the answer to one is held back, in case our SYN goes out; 6 by RFC 5382 §4.3."""
    icmp_timeout: float = 60.0
    """Idle time of an ICMP query mapping (RFC 5508 §3.2)."""
    icmp_error_ends_mapping: bool = False
    """An ICMP error takes the mapping with it, against RFC 4787 §12."""
    early_probe: EarlyProbe = EarlyProbe.DROPPED
    poison_timeout: float = 30.0
    max_mappings: int = 65_536
    max_mappings_per_subscriber: int | None = None
    """A subscriber is one internal IP address."""
    when_full: WhenFull = WhenFull.DROP_NEW
    max_peers_per_mapping: int = 1024
    """Permissions one mapping remembers; the oldest gives way. Of its TCP connections the new one does."""
    max_packet: int | None = None
    """Bytes of the largest IP packet that passes; larger ones vanish."""
    router_address: str | None = None
    """The address its ICMP errors come from; None: the first public one, or of whom the packet was for."""

    def __post_init__(self) -> None:
        self._check()

    def _check(self) -> None:
        positive = ("idle_timeout", "poison_timeout", "tcp_transitory", "tcp_established", "icmp_timeout")
        for name in (*positive, "max_mappings", "max_peers_per_mapping"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        optional = ("replied_timeout", "absolute_timeout", "max_mappings_per_subscriber", "max_packet")
        for name in optional:
            limit = getattr(self, name)
            if limit is not None and limit <= 0:
                raise ValueError(f"{name} must be positive, not {limit}")
        for name in ("absolute_spread", "syn_answer_delay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, but {getattr(self, name)} is")
        if self.router_address is not None:
            Address(self.router_address, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NatConfig(FlowConfig):
    """Everything a :class:`~natwalk.nat.Nat` is told, besides what a firewall is.

    ``public_addresses`` may stay empty in a preset; :meth:`at` fills it in.
    """

    mapping: Mapping = Mapping.ENDPOINT_INDEPENDENT
    allocation: Allocation = Allocation.PRESERVE
    step: int = 1
    """Distance of sequential allocation, either sign, not 0."""
    ports: tuple[int, int] = (1024, 65535)
    """First and last external port that may be given out."""
    keep_range: bool = False
    """Internal ports below 1024 get external ones below 1024 (RFC 4787 §4.2.1)."""
    keep_parity: bool = False
    """Even ports stay even, odd ones odd (RFC 4787 §4.2.2)."""
    keep_contiguity: bool = False
    """An odd port gets the one after its even neighbour's, where possible (RFC 4787 §4.2.3)."""
    block_size: int = 512
    """Ports in one block of a subscriber."""
    blocks_per_subscriber: int = 1
    share_ports: bool = False
    """One external port serves several mappings while their remotes differ, as in Linux and in clouds."""
    reuse_ports: bool = False
    """A new mapping gets the external port of the newest one of the same internal address and port, if it
    can: so Linux, where mappings that depend on the destination look independent of it."""
    independent_ports: frozenset[int] = frozenset()
    """Internal ports mapped endpoint-independently whatever ``mapping`` says."""
    remap_after: float | None = None
    """A mapping so old is replaced by a new one on the next packet out, while it still lets packets in."""
    public_addresses: tuple[str, ...] = ()
    pooling: Pooling = Pooling.PAIRED
    hairpin: Hairpin = Hairpin.NONE

    def __post_init__(self) -> None:
        self._check()
        first, last = self.ports
        if not 1 <= first <= last <= 65535:
            raise ValueError(f"ports {first}-{last} is not a range between 1 and 65535")
        if self.keep_parity and first == last:
            raise ValueError("parity cannot be kept with a single port")
        if self.keep_contiguity and not self.keep_parity:
            raise ValueError("ports cannot be contiguous without keeping parity")
        if self.step == 0:
            raise ValueError("step of sequential allocation must not be 0")
        if not 1 <= self.block_size <= last - first + 1 and self.allocation is Allocation.BLOCK:
            raise ValueError(f"a block of {self.block_size} ports does not fit into {first}-{last}")
        if self.blocks_per_subscriber <= 0:
            raise ValueError(f"blocks_per_subscriber must be positive, not {self.blocks_per_subscriber}")
        if self.remap_after is not None and self.remap_after <= 0:
            raise ValueError(f"remap_after must be positive, not {self.remap_after}")
        if self.share_ports and self.mapping is Mapping.ENDPOINT_INDEPENDENT:
            raise ValueError("endpoint-independent mappings cannot share ports")
        if self.reuse_ports and not self.share_ports:
            raise ValueError("ports that are not shared cannot be reused")
        if self.shares_ports:
            self._check_sharing()
        if len({Address(host, 0).version for host in self.public_addresses}) > 1:
            raise ValueError("public addresses must be of one family")

    def _check_sharing(self) -> None:
        """A shared port tells its mappings apart by the remote, so both sides must look at the remote."""
        if _ORDER.index(self.filtering.value) < _ORDER.index(self.mapping.value):
            raise ValueError(f"ports shared by {self.mapping.value} mappings need filtering as narrow")
        if self.independent_ports:
            raise ValueError("a NAT that shares ports has no endpoint-independent ones")

    @property
    def shares_ports(self) -> bool:
        """Whether an external port alone does not say whose it is."""
        return self.share_ports or self.allocation is Allocation.OVERLOAD

    def at(self, *public_addresses: str) -> NatConfig:
        """The same behaviour with these external addresses."""
        return replace(self, public_addresses=public_addresses)
