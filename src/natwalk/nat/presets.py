"""NATs, carriers, clouds and firewalls by name, each with the source of its behaviour and numbers.

The sources are measurements, RFCs, vendors' manuals and trackers of other projects. Where one is silent on a
dimension the value is the default of :class:`~natwalk.nat.NatConfig`.
"""

from __future__ import annotations

import collections.abc
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from natwalk.core import Address
from natwalk.nat.box_config import (
    LOCAL_USE_PREFIX,
    BasicNatConfig,
    FirewallConfig,
    Nat64Config,
    PortalConfig,
)
from natwalk.nat.config import FlowConfig, NatConfig
from natwalk.nat.dimensions import Allocation, EarlyProbe, Filtering, Hairpin, Mapping, UnsolicitedSyn
from natwalk.nat.gateway_config import GatewayConfig
from natwalk.nat.kinds import KINDS, Group, KindSpec
from natwalk.nat.quirks import QUIRKS

_EIM, _APDM = Mapping.ENDPOINT_INDEPENDENT, Mapping.ADDRESS_AND_PORT_DEPENDENT
_EIF, _APDF = Filtering.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT

_RICHTER: Final = "Richter et al., IMC 2016"
_CONNTRACK: Final = "Linux, Documentation/networking/nf_conntrack-sysctl.rst; nf_nat_core"
_PORTAL: Final = PortalConfig(portal=Address("198.18.0.1", 80))
"""A portal in the benchmarking range of RFC 2544, which nothing in the internet has."""

LINUX: Final = NatConfig(
    mapping=_APDM,
    filtering=_APDF,
    allocation=Allocation.PRESERVE,
    share_ports=True,
    reuse_ports=True,
    keep_range=True,
    idle_timeout=30.0,
    replied_timeout=120.0,
    inbound_refresh=True,
    tcp_transitory=120.0,
    tcp_established=432_000.0,
    icmp_timeout=30.0,
    early_probe=EarlyProbe.ANSWERED_AND_POISONS,
    unsolicited_syn=UnsolicitedSyn.RST,
)
"""A plain masquerade: the port is kept unless the same port already talks to the same remote, and then the
other port is kept. ``tests/lab`` holds it against the kernel."""

_RFC_HOME: Final = NatConfig(
    mapping=_EIM,
    filtering=_APDF,
    hairpin=Hairpin.EXTERNAL_SOURCE,
    keep_range=True,
    keep_parity=True,
    idle_timeout=300.0,
    unsolicited_syn=UnsolicitedSyn.ICMP,
    syn_answer_delay=6.0,
)
_HOME: Final = replace(_RFC_HOME, idle_timeout=30.0, hairpin=Hairpin.NONE, max_mappings=1024)

_HOMES: Final = (
    KindSpec("linux", "port restricted cone until ports collide", (LINUX,), _CONNTRACK),
    KindSpec(
        "linux-random",
        "symmetric",
        (replace(LINUX, allocation=Allocation.RANDOM, reuse_ports=False),),
        f"{_CONNTRACK}; iptables-extensions(8), MASQUERADE --random-fully",
    ),
    KindSpec(
        "mikrotik",
        "port restricted cone until ports collide",
        (
            replace(
                LINUX,
                early_probe=EarlyProbe.DROPPED,
                unsolicited_syn=UnsolicitedSyn.DROP,
                idle_timeout=10.0,
                replied_timeout=180.0,
                icmp_timeout=10.0,
                tcp_transitory=10.0,
                tcp_established=86_400.0,
            ),
        ),
        "MikroTik, Manual:IP/Firewall/Connection tracking (RouterOS 6)",
    ),
    KindSpec(
        "pf",
        "symmetric",
        (
            NatConfig(
                mapping=_APDM,
                filtering=_APDF,
                allocation=Allocation.RANDOM,
                share_ports=True,
                ports=(50001, 65535),
                idle_timeout=30.0,
                replied_timeout=60.0,
                inbound_refresh=True,
                tcp_transitory=90.0,
                tcp_established=86_400.0,
                icmp_timeout=20.0,
            ),
        ),
        "pf.conf(5), timeouts and nat without static-port: pfSense, OPNsense, OpenBSD",
    ),
    KindSpec(
        "rfc-4787", "port restricted cone", (_RFC_HOME,), "RFC 4787 §12 and RFC 5382 §4.3: what ought to be"
    ),
    KindSpec(
        "home-upnp",
        "port restricted cone",
        (_HOME,),
        "DiCioccio et al., PAM 2012: about 35 % of gateways answer UPnP",
        services=GatewayConfig(upnp=1),
    ),
    KindSpec(
        "home-pcp",
        "port restricted cone",
        (_HOME,),
        "RFC 6886 §1 and RFC 6887 §1: routers with NAT-PMP and PCP",
        services=GatewayConfig(nat_pmp=True, pcp=True),
    ),
    KindSpec(
        "home-all-services",
        "port restricted cone",
        (replace(_HOME, hairpin=Hairpin.EXTERNAL_SOURCE),),
        "miniupnpd: one daemon for NAT-PMP, PCP and UPnP IGD 2",
        services=GatewayConfig(nat_pmp=True, pcp=True, upnp=2),
    ),
    KindSpec(
        "home-ipv6",
        "stateful firewall",
        (FirewallConfig(udp=True, flow=FlowConfig(idle_timeout=120.0)),),
        "RFC 6092 §3: simple security of IPv6 home routers",
    ),
)

_CGN: Final = NatConfig(
    mapping=_EIM,
    filtering=_APDF,
    allocation=Allocation.RANDOM,
    idle_timeout=35.0,
    max_mappings_per_subscriber=1024,
)
_CELLULAR: Final = replace(_CGN, idle_timeout=65.0)

_CARRIERS: Final = (
    KindSpec(
        "cgn-fixed", "port restricted cone", (_HOME, _CGN), f"{_RICHTER}: 89 % of fixed CGNs, median 35 s"
    ),
    KindSpec(
        "cgn-fixed-symmetric",
        "symmetric",
        (_HOME, replace(_CGN, mapping=_APDM)),
        f"{_RICHTER}: 11 % of fixed CGNs",
    ),
    KindSpec(
        "cgn-cellular", "port restricted cone", (_CELLULAR,), f"{_RICHTER}: 60 % of cellular, median 65 s"
    ),
    KindSpec(
        "cgn-cellular-symmetric",
        "symmetric",
        (replace(_CELLULAR, mapping=_APDM),),
        f"{_RICHTER}: about 40 % of cellular CGNs",
    ),
    KindSpec(
        "cgn-rfc-6888",
        "full cone",
        (_HOME, replace(_CGN, filtering=_EIF, idle_timeout=120.0, hairpin=Hairpin.EXTERNAL_SOURCE)),
        "RFC 6888 §3 and RFC 4787 §12: what ought to be",
        public_addresses=4,
    ),
    KindSpec(
        "cgn-port-blocks",
        "symmetric",
        (_HOME, replace(_CGN, mapping=_APDM, allocation=Allocation.BLOCK, block_size=1024)),
        "RFC 7422 §2: a block of ports a subscriber",
    ),
    KindSpec(
        "nat64",
        "NAT64",
        (
            Nat64Config(
                nat=NatConfig(
                    mapping=_EIM,
                    filtering=_EIF,
                    allocation=Allocation.RANDOM,
                    hairpin=Hairpin.EXTERNAL_SOURCE,
                    idle_timeout=300.0,
                )
            ),
        ),
        "RFC 6146 §4: timers; RFC 6052 §2.1: the well-known prefix",
    ),
    KindSpec(
        "nat64-local",
        "NAT64",
        (
            Nat64Config(
                nat=NatConfig(
                    mapping=_EIM, filtering=_APDF, allocation=Allocation.RANDOM, idle_timeout=300.0
                ),
                prefix=LOCAL_USE_PREFIX,
            ),
        ),
        "RFC 6146 §4: timers; RFC 8215 §5: the prefix for local use",
    ),
)

_CLOUD: Final = NatConfig(mapping=_APDM, filtering=_APDF, allocation=Allocation.RANDOM, share_ports=True)
_SECURITY_GROUP: Final = FirewallConfig(
    udp=True,
    flow=FlowConfig(
        idle_timeout=30.0, replied_timeout=180.0, inbound_refresh=True, tcp_established=432_000.0
    ),
)

_CLOUDS: Final = (
    KindSpec(
        "aws-nat-gateway",
        "symmetric",
        (
            replace(
                _CLOUD, idle_timeout=350.0, tcp_established=350.0, icmp_timeout=350.0, inbound_refresh=True
            ),
        ),
        "AWS, VPC user guide, NAT gateway basics: 350 s, 55,000 connections to each destination",
    ),
    KindSpec(
        "aws-elastic-ip",
        "one-to-one NAT behind a firewall",
        (_SECURITY_GROUP, BasicNatConfig()),
        "AWS, EC2 user guide, security group connection tracking",
    ),
    KindSpec(
        "gcp-cloud-nat",
        "symmetric",
        (
            replace(
                _CLOUD,
                allocation=Allocation.BLOCK,
                block_size=64,
                idle_timeout=30.0,
                inbound_refresh=True,
                tcp_transitory=30.0,
                tcp_established=1200.0,
                icmp_timeout=30.0,
            ),
        ),
        "Google, Cloud NAT: UDP 30 s, TCP 1200 s, 64 ports a VM, endpoint-dependent by default",
    ),
    KindSpec(
        "azure-nat-gateway",
        "symmetric",
        (replace(_CLOUD, idle_timeout=240.0, tcp_established=240.0, inbound_refresh=True),),
        "Microsoft, Azure NAT gateway: UDP and TCP 240 s, 64,512 random ports reused by destination",
    ),
)

_FLOW: Final = FlowConfig(tcp_established=3600.0, idle_timeout=30.0)
_OFFICE: Final = NatConfig(mapping=_APDM, filtering=_APDF, allocation=Allocation.RANDOM, idle_timeout=30.0)

_CORPORATES: Final = (
    KindSpec(
        "corporate-udp-blocked",
        "firewall that blocks UDP",
        (FirewallConfig(udp=False, flow=_FLOW), _OFFICE),
        "RFC 9308 §2: 3-5 % of networks block UDP",
    ),
    KindSpec(
        "corporate-443",
        "firewall that passes TCP 443 only",
        (
            FirewallConfig(udp=False, icmp=False, tcp_ports=frozenset({443}), flow=_FLOW, rejects=True),
            _OFFICE,
        ),
        "RFC 8656 §2.1: TURN over TLS exists for such networks",
    ),
    KindSpec(
        "corporate-web",
        "firewall that passes the web and names",
        (
            FirewallConfig(
                udp=True,
                udp_ports=frozenset({53, 123}),
                tcp_ports=frozenset({80, 443}),
                flow=_FLOW,
                rejects=True,
            ),
            _OFFICE,
        ),
        "RFC 9308 §2: UDP but for names is blocked",
    ),
    KindSpec(
        "cisco-ios",
        "port restricted cone until ports collide",
        (
            NatConfig(
                mapping=_APDM,
                filtering=_APDF,
                share_ports=True,
                keep_range=True,
                idle_timeout=300.0,
                inbound_refresh=True,
                tcp_transitory=60.0,
                tcp_established=86_400.0,
                icmp_timeout=60.0,
            ),
        ),
        "Cisco, IOS command reference, ip nat translation (timeout); NAT overload",
    ),
    KindSpec(
        "pan-os",
        "symmetric",
        (
            replace(
                _OFFICE,
                share_ports=True,
                inbound_refresh=True,
                tcp_established=3600.0,
                icmp_timeout=6.0,
                tcp_pickup=False,
            ),
        ),
        "Palo Alto Networks, PAN-OS administrator's guide, session timeouts; dynamic IP and port",
    ),
)

_HOTELS: Final = (
    KindSpec(
        "hotel-portal",
        "port restricted cone behind a captive portal",
        (FirewallConfig(udp=True, portal=_PORTAL), _HOME),
        "RFC 8952 §1: captive portals",
    ),
    KindSpec(
        "hotel-web",
        "captive portal, then the web only",
        (
            FirewallConfig(
                udp=True,
                icmp=False,
                udp_ports=frozenset({53, 67}),
                tcp_ports=frozenset({80, 443}),
                portal=_PORTAL,
            ),
            _HOME,
        ),
        "RFC 8952 §1: captive portals; RFC 9308 §2: UDP blocked",
    ),
)

PRESETS: Final[collections.abc.Mapping[str, KindSpec]] = MappingProxyType(
    dict(KINDS)
    | {
        spec.name: replace(spec, group=group)
        for group, specs in (
            (Group.HOME, _HOMES),
            (Group.CARRIER, _CARRIERS),
            (Group.CLOUD, _CLOUDS),
            (Group.CORPORATE, _CORPORATES),
            (Group.HOTEL, _HOTELS),
            (Group.QUIRK, QUIRKS),
        )
        for spec in specs
    }
)
"""All there are by name, the kinds of :data:`~natwalk.nat.KINDS` first."""


def preset(name: str) -> KindSpec:
    """The preset or kind called ``name``; raises ValueError, naming those there are, for another."""
    spec = PRESETS.get(name)
    if spec is None:
        raise ValueError(f"{name!r} is not a kind of NAT: one of {', '.join(PRESETS)}")
    return spec
