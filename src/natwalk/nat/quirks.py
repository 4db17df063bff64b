"""What NATs in the field do that no standard foresaw, each as a kind of its own with who saw it."""

from __future__ import annotations

from typing import Final

from natwalk.nat.box_config import FirewallConfig
from natwalk.nat.config import NatConfig
from natwalk.nat.dimensions import Allocation, EarlyProbe, Mapping, Pooling
from natwalk.nat.gateway_config import GatewayConfig, ServiceQuirk
from natwalk.nat.kinds import KindSpec

_APDM: Final = Mapping.ADDRESS_AND_PORT_DEPENDENT
_CONE: Final = "port restricted cone"
_SERVICES: Final = {
    ServiceQuirk.ONLY_PERMANENT_LEASES: "upnp-permanent-only",
    ServiceQuirk.REPLY_FROM_OTHER_PORT: "reply-from-other-port",
    ServiceQuirk.PRIVATE_EXTERNAL_ADDRESS: "private-external-address",
    ServiceQuirk.SAME_PORT_ONLY: "upnp-same-port-only",
    ServiceQuirk.DEAD_SERVICES: "upnp-dead-services",
}
_SEEN_BY: Final = "NetBird; tailscale#14344, #8364, #13745, #15223 or #10771"

QUIRKS: Final = (
    KindSpec(
        "absolute-timeout",
        _CONE,
        (NatConfig(absolute_timeout=50.0, absolute_spread=25.0),),
        "iroh#4424: UDP mappings end 50-75 s after they were made, whatever the traffic",
    ),
    KindSpec(
        "remaps-early",
        _CONE,
        (NatConfig(allocation=Allocation.RANDOM, remap_after=30.0),),
        "Tailscale netcheck: a new mapping is handed out while the old one still lives",
    ),
    KindSpec(
        "same-port-starves",
        _CONE,
        (NatConfig(allocation=Allocation.OVERLOAD),),
        "tailscale#2187, tailscale#14704: several clients with the same local port starve the NAT",
    ),
    KindSpec(
        "poisoned-by-probes",
        _CONE,
        (NatConfig(early_probe=EarlyProbe.POISONS),),
        "Dolphin PR 11382, frp, hyperdht: an inbound probe before the outbound one poisons the mapping",
    ),
    KindSpec(
        "answers-probes",
        _CONE,
        (NatConfig(early_probe=EarlyProbe.ANSWERED),),
        "iptables-extensions(8), REJECT: gateways that answer what they do not let in",
    ),
    KindSpec(
        "all-but-500",
        "symmetric",
        (NatConfig(mapping=_APDM, allocation=Allocation.RANDOM, independent_ports=frozenset({500})),),
        "tailscale#864: endpoint-dependent for every port but UDP 500",
    ),
    KindSpec(
        "snat-moves-ports",
        "port restricted cone until ports collide",
        (
            NatConfig(
                mapping=_APDM,
                share_ports=True,
                idle_timeout=30.0,
                replied_timeout=120.0,
                inbound_refresh=True,
            ),
        ),
        "patchbay notes: Linux SNAT does not keep the port across conntrack entries",
    ),
    KindSpec(
        "several-addresses",
        "symmetric",
        (NatConfig(mapping=_APDM, allocation=Allocation.RANDOM, pooling=Pooling.ARBITRARY),),
        "frp#4232: several public addresses, and the address changes between flows",
        public_addresses=4,
    ),
    KindSpec(
        "pings-only",
        _CONE,
        (FirewallConfig(udp=True, only_stun=True), NatConfig()),
        "tailscale#19457: pings pass, data does not",
    ),
    KindSpec(
        "large-packets-vanish",
        _CONE,
        (NatConfig(max_packet=1280),),
        "RFC 9308 §2: UDP works, packets above some size vanish",
    ),
    *(
        KindSpec(
            name,
            _CONE,
            (NatConfig(idle_timeout=30.0),),
            f"{_SEEN_BY}: {quirk.value}",
            services=GatewayConfig(nat_pmp=True, pcp=True, upnp=1, quirks=frozenset({quirk})),
        )
        for quirk, name in _SERVICES.items()
    ),
)
"""Put into :data:`natwalk.nat.PRESETS` under :attr:`Group.QUIRK <natwalk.nat.Group.QUIRK>`."""
