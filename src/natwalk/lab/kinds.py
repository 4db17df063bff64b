"""What makes a Linux router behave like each kind of NAT: nftables rules by RFC 4787 behaviour.

Every router has its home side on the bridge ``lan`` and its public side on ``wan``. Habits common to all
the rulesets:

- What comes in on ``wan`` unasked is dropped before connection tracking confirms it, so that a peer's
  early probe leaves no entry which would push the later mapping to another port.
- A packet from ``lan`` to the router's own public address is dropped: no hairpin (RFC 4787 §6).
- UDP source ports are kept, or all rewritten by one exclusive-or (``port_mask``), which is one-to-one and so
  as endpoint-independent as keeping them. TCP is always masqueraded.
"""

from __future__ import annotations

import collections.abc
from string import Template
from types import MappingProxyType
from typing import Final

from natwalk.nat import Allocation, Filtering, FirewallConfig, LayerConfig, Mapping, NatConfig, describe

TABLE: Final = "natwalk"
CARRIER_PORT_MASK: Final = 0x2000
"""How a carrier NAT rewrites ports: 32768-65535 onto itself, never a port onto itself."""

_ROUTER: Final = Template("""
table ip natwalk
delete table ip natwalk
table ip natwalk {
  chain guard {
    type filter hook prerouting priority mangle; policy accept;
    $admit
    iifname "wan" ct state != { established, related } drop
    iifname "lan" ip daddr $public drop
  }
  chain translate {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "wan" meta l4proto udp masquerade $udp_port
    oifname "wan" masquerade
  }
  $tables
}
""")

_LEARNING: Final = """
  map mapping {
    type inet_service : ipv4_addr . inet_service
    flags dynamic,timeout; timeout 120s; size 4096;
  }
  set spoken_to {
    type inet_service . ipv4_addr
    flags dynamic,timeout; timeout 120s; size 65535;
  }
  chain deliver {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "wan" meta l4proto udp dnat ip to udp dport map @mapping
  }
  chain learn {
    type filter hook postrouting priority 150; policy accept;
    oifname "wan" meta l4proto udp ct direction original \\
      update @mapping { udp sport : ct original ip saddr . ct original proto-src }
    oifname "wan" meta l4proto udp ct direction reply \\
      update @mapping { udp sport : ct reply ip saddr . ct reply proto-src }
    oifname "wan" meta l4proto udp update @spoken_to { udp sport . ip daddr }
  }
"""
"""Public port to host and port, and where each public port has sent to: learned from what leaves, after
translation; every packet out refreshes it (RFC 4787 §4.3), connection tracking alone is per destination."""

_DROP_UDP: Final = "meta l4proto udp drop"
_FROM_ANYBODY: Final = 'iifname "wan" ct state new udp dport @mapping accept'
_FROM_SPOKEN_TO: Final = 'iifname "wan" ct state new udp dport . ip saddr @spoken_to accept'

_EIM: Final = Mapping.ENDPOINT_INDEPENDENT
_APDM: Final = Mapping.ADDRESS_AND_PORT_DEPENDENT

_RULES: Final[collections.abc.Mapping[tuple[Mapping, Filtering], tuple[str, str]]] = MappingProxyType(
    {
        (_EIM, Filtering.ENDPOINT_INDEPENDENT): (_FROM_ANYBODY, _LEARNING),
        (_EIM, Filtering.ADDRESS_DEPENDENT): (_FROM_SPOKEN_TO, _LEARNING),
        (_EIM, Filtering.ADDRESS_AND_PORT_DEPENDENT): ("", ""),
        (_APDM, Filtering.ADDRESS_AND_PORT_DEPENDENT): ("", ""),
    }
)
"""What is let in, and the tables for it. Connection tracking itself filters by address and port."""


def ruleset(layer: LayerConfig, public_address: str, port_mask: int) -> str:
    """The nftables text for a router that behaves like ``layer``.

    ``port_mask`` is exclusive-ored into UDP source ports (0 keeps them); a NAT whose mapping depends on the
    destination draws random ports instead. Raises ValueError for a behaviour the lab does not have.
    """
    match layer:
        case FirewallConfig():
            admit, tables, udp_port = ("" if layer.udp else _DROP_UDP), "", ""
        case NatConfig():
            if (layer.mapping, layer.filtering) not in _RULES:
                behaviour = f"{layer.mapping.value} mapping and {layer.filtering.value} filtering"
                raise ValueError(f"the lab has no NAT with {behaviour}")
            admit, tables = _RULES[layer.mapping, layer.filtering]
            udp_port = _port_rule(layer.mapping, port_mask)
        case _:
            raise ValueError(f"the lab has no NAT with {describe(layer)}")
    return _ROUTER.substitute(admit=admit, public=public_address, udp_port=udp_port, tables=tables)


def port_mask_of(layer: LayerConfig) -> int:
    """The port mask a router starts with: ports are kept unless the kind allocates them otherwise."""
    moves = isinstance(layer, NatConfig) and layer.allocation is not Allocation.PRESERVE
    return CARRIER_PORT_MASK if moves else 0


def _port_rule(mapping: Mapping, port_mask: int) -> str:
    if mapping is not _EIM:
        return "random,fully-random"
    return f"to :udp sport xor {port_mask:#06x}" if port_mask else ""
