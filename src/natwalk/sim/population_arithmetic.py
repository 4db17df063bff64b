"""What shares a population must come to, by arithmetic from the definitions of RFC 4787 alone.

It knows nothing of protocols, timers or loss: the simulation must agree with it within sampling error, and
where the two differ beyond that, one of them is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final

from natwalk.nat import (
    Allocation,
    Filtering,
    FirewallConfig,
    FlowConfig,
    KindSpec,
    Mapping,
    NatConfig,
    Outcome,
)
from natwalk.sim.population import BLOCKED, NetworkKind, Population

_FILTERINGS = (
    Filtering.ENDPOINT_INDEPENDENT,
    Filtering.ADDRESS_DEPENDENT,
    Filtering.ADDRESS_AND_PORT_DEPENDENT,
)

RELAY_PORT: Final = 3478
"""Where the relay takes connections."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What all layers together do; of several the hardest rules."""

    independent: bool
    filtering: Filtering


def behaviour(spec: KindSpec) -> Behaviour:
    """What the layers of a kind do together; none is as one that maps and filters nothing."""
    filters = [_FILTERINGS[0]]
    for layer in spec.layers:
        flow = layer.flow if isinstance(layer, FirewallConfig) else layer
        if isinstance(flow, FlowConfig):
            filters.append(flow.filtering)
    nats = [layer for layer in spec.layers if isinstance(layer, NatConfig)]
    return Behaviour(all(_independent(nat) for nat in nats), max(filters, key=_FILTERINGS.index))


def passes(spec: KindSpec) -> bool:
    """Whether UDP of any content gets out to anybody."""
    walls = [layer for layer in spec.layers if isinstance(layer, FirewallConfig)]
    return all(wall.udp and wall.udp_ports is None and not wall.only_stun for wall in walls)


def passes_tcp(spec: KindSpec) -> bool:
    """Whether a connection to the relay's port gets out."""
    walls = [layer for layer in spec.layers if isinstance(layer, FirewallConfig)]
    return all(
        wall.tcp and (wall.tcp_ports is None or RELAY_PORT in wall.tcp_ports) and wall.portal is None
        for wall in walls
    )


def punchable(a: KindSpec, b: KindSpec) -> bool:
    """Whether hole punching makes a direct path between two kinds, without guessing ports."""
    if not (passes(a) and passes(b)):
        return False
    here, there = behaviour(a), behaviour(b)
    return _reaches(here, there) or _reaches(there, here)


def expected_outcome(a: KindSpec, b: KindSpec, *, ipv6: bool = False) -> Outcome:
    """What two peers with a relay end up on; with ``ipv6`` only stateful firewalls are between."""
    if not (passes(a) and passes(b)):
        return Outcome.RELAY if all(passes(spec) or passes_tcp(spec) for spec in (a, b)) else Outcome.NONE
    return Outcome.DIRECT if ipv6 or punchable(a, b) else Outcome.RELAY


def expected_shares(population: Population) -> dict[Outcome, float]:
    """The share of pairs for each outcome, with all a population has; pairs behind one NAT are left out."""
    shares = dict.fromkeys(Outcome, 0.0)
    for a, b in product(population.networks, repeat=2):
        for outcome, share in network_shares(a, b, population.opposite).items():
            shares[outcome] += a.share * b.share * share
    return shares


def network_shares(a: NetworkKind, b: NetworkKind, opposite: KindSpec | None = None) -> dict[Outcome, float]:
    """The share for each outcome between a peer in network ``a`` and one in ``b``."""
    shares = dict.fromkeys(Outcome, 0.0)
    for (spec_a, six_a, p_a), (spec_b, six_b, p_b) in product(_peers(a), _peers(b)):
        ipv6 = six_a and six_b and opposite is None
        shares[expected_outcome(spec_a, opposite or spec_b, ipv6=ipv6)] += p_a * p_b
    return shares


def _peers(network: NetworkKind) -> list[tuple[KindSpec, bool, float]]:
    """Every kind of peer there is in a network: its NAT, whether it has IPv6, and its share."""
    peers = [(BLOCKED, False, network.udp_blocked)]
    for name, share in network.nats.items():
        open_share = share * (1 - network.udp_blocked)
        peers.append((network.specs[name], True, open_share * network.ipv6))
        peers.append((network.specs[name], False, open_share * (1 - network.ipv6)))
    return [peer for peer in peers if peer[2] > 0]


def _independent(nat: NatConfig) -> bool:
    """Whether others can tell where its next mapping is, which those that share a kept port allow as well."""
    kept = nat.share_ports and nat.allocation is Allocation.PRESERVE
    return nat.mapping is Mapping.ENDPOINT_INDEPENDENT or kept


def _reaches(sender: Behaviour, receiver: Behaviour) -> bool:
    """Whether checks of one get in at the address the other told of itself, while that one sends back."""
    match receiver.filtering:
        case Filtering.ENDPOINT_INDEPENDENT:
            return True
        case Filtering.ADDRESS_DEPENDENT:
            return receiver.independent
        case Filtering.ADDRESS_AND_PORT_DEPENDENT:
            return receiver.independent and sender.independent
