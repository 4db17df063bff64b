"""What an agent is told before it starts: servers, policy, limits and times."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from natwalk.core import Address, Transport
from natwalk.ice.address_filter import ANY_ADDRESS, AddressFilter

MIN_TA: Final = 0.005
"""Seconds. No agent may start transactions faster, whatever it knows (RFC 8445 §14.2)."""


class TransportPolicy(Enum):
    """Which candidates an agent gathers, offers and pairs."""

    ANY = "any"
    DIRECT = "direct"
    """No relay: neither a relayed candidate of ours nor one of the peer's."""
    RELAY = "relay"
    """Relay only: no address of ours is offered, no packet reaches the peer but through the relay."""


class HostCandidates(Enum):
    """What the peer is told of the addresses of our own interfaces."""

    SHOWN = "shown"
    NAMED = "named"
    """An address that is not public goes by a ``.local`` name, new in each session, that only machines on
    the same network can resolve (draft-ietf-mmusic-mdns-ice-candidates); no related address is told."""
    HIDDEN = "hidden"
    """No host candidate is offered, no related address is told, and nothing is sent straight to a private
    address, whose owner would see ours."""


@dataclass(frozen=True, slots=True)
class TurnServerAddress:
    """A TURN server and the long-term credentials to use there (RFC 8489 §9.2).

    ``transport`` is how it is reached: over anything but UDP the driver opens a connection when an event
    asks for it. ``name`` is what its certificate is for, when that is not its address.
    """

    address: Address
    username: str
    password: str = field(repr=False)
    transport: Transport = Transport.UDP
    name: str | None = None


@dataclass(frozen=True, slots=True)
class IceConfig:
    """Configuration of one agent. Times are seconds. Raises ValueError on values no agent can run with.

    ``ta`` below the default of 50 ms is for networks known to bear it (RFC 8445 §14.2); both sides
    should use the same. ``patience`` is RFC 8863's PAC timer, the longest wait for a first working
    pair; ``early_failure`` is the shortest, once both sides are out of candidates and every check
    failed. RFC 8863 §4 recommends the default, 39.5 s, for both; an interactive program wants less.
    """

    stun_servers: tuple[Address, ...] = ()
    turn_servers: tuple[TurnServerAddress, ...] = ()
    policy: TransportPolicy = TransportPolicy.ANY
    lite: bool = False
    """Only answer: for a host that everybody reaches, whose peer does everything else (RFC 8445 §2.5). Its
    peer has to be a full agent, which is told so; no servers are asked and no checks are sent."""
    hosts: HostCandidates = HostCandidates.SHOWN
    local_filter: AddressFilter = ANY_ADDRESS
    """Which of our own addresses are used; what does not pass is reported and left alone."""
    remote_filter: AddressFilter = ANY_ADDRESS
    """Which addresses of the peer anything is sent to, whether it signals them or checks from them."""

    ta: float = 0.05
    check_rc: int = 7
    """Requests a check sends at most (RFC 8489 §6.2.1)."""
    check_rm: int = 16
    """RTOs a check waits after its last request (RFC 8489 §6.2.1)."""
    check_retries: int = 2
    """How often a failed pair is tried again from the start."""
    patience: float = 39.5
    early_failure: float = 39.5

    gathering_timeout: float = 10.0
    """When servers that have not answered are given up."""
    reflexive_keepalive: float = 15.0
    """How often a server-reflexive mapping is refreshed until a pair is selected (RFC 8445 §5.1.1.4)."""
    relay_stagger: float = 0.5
    """How long one local address has for its allocation before the next one tries the same server.

    So long, too, all servers over UDP have before those over other transports are connected to."""

    type_wait: float = 0.1
    """How long a valid direct pair waits for a better one before it is nominated."""
    relay_wait: float = 5.0
    """How long a valid relayed pair waits for a direct one before it is nominated."""
    switch_interval: float = 5.0
    """Shortest time between two nominations that are improvements, not rescues."""

    consent_interval: float = 5.0
    """Consent checks come at 0.8 to 1.2 times this (RFC 7675 §5.1)."""
    consent_expiry: float = 30.0
    """A pair without a verified response for so long is lost (RFC 7675 §5.1)."""
    suspect_silence: float = 2.0
    """Silence on the selected pair, after something was sent, that calls for a check at once."""
    suspect_misses: int = 3
    """Liveness checks in a row without a response that make a pair suspect."""

    max_local_addresses: int = 32
    max_remote_candidates: int = 64
    max_peer_reflexive: int = 32
    max_pairs: int = 100
    max_names: int = 16
    """``.local`` names of the peer's that are looked up in a session; 0 resolves none."""
    name_timeout: float = 3.0
    """How long a name has to resolve."""

    def __post_init__(self) -> None:
        if self.ta < MIN_TA:
            raise ValueError(f"ta {self.ta} is under the {MIN_TA} s of RFC 8445 §14.2")
        if self.lite and (self.stun_servers or self.turn_servers or self.policy is TransportPolicy.RELAY):
            raise ValueError("a lite agent has host candidates only: no servers (RFC 8445 §5.2)")
        if self.early_failure > self.patience:
            raise ValueError(f"early_failure {self.early_failure} is longer than patience {self.patience}")
        if self.consent_interval * 1.2 >= self.consent_expiry:
            raise ValueError("consent would expire before it is renewed")
        if not (1 <= self.check_rc <= 16 and 1 <= self.check_rm <= 64):
            raise ValueError("check_rc is 1..16 and check_rm 1..64")
