"""What a middlebox is, in the words of RFC 4787 and of RFC 3489."""

from __future__ import annotations

from typing import Final

from natwalk.nat.box_config import (
    BasicNatConfig,
    FirewallConfig,
    LayerConfig,
    Nat64Config,
    TwiceNatConfig,
)
from natwalk.nat.config import FlowConfig, NatConfig
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

_CONES: Final = {
    Filtering.ENDPOINT_INDEPENDENT: "full cone",
    Filtering.ADDRESS_DEPENDENT: "restricted cone",
    Filtering.ADDRESS_AND_PORT_DEPENDENT: "port restricted cone",
}

_EARLY_PROBES: Final = {
    EarlyProbe.ANSWERED: "answers early probes",
    EarlyProbe.POISONS: "early probes poison",
    EarlyProbe.ANSWERED_AND_POISONS: "answers early probes, and they poison",
}


def classic_name(config: NatConfig) -> str:
    """What RFC 3489 §5 calls a NAT: one of three cones, or symmetric.

    Symmetric is whatever maps by destination, however it filters: RFC 3489 knew no other. But one that keeps
    the port towards every destination looks like a cone until two hosts want the same one.
    """
    cone = _CONES[config.filtering]
    if config.mapping is Mapping.ENDPOINT_INDEPENDENT or config.allocation is Allocation.OVERLOAD:
        return cone
    if config.share_ports and config.allocation is Allocation.PRESERVE:
        return f"{cone} until ports collide"
    return "symmetric"


def behaviour(layer: LayerConfig) -> str:
    """One middlebox in a phrase: RFC 4787's words, RFC 3489's in brackets."""
    match layer:
        case NatConfig():
            words = f"{layer.mapping.value} mapping, {layer.filtering.value} filtering"
            return f"{words} ({classic_name(layer)})"
        case FirewallConfig():
            return _firewall(layer)
        case BasicNatConfig():
            kinds = [*["static"] * bool(layer.static), *["dynamic pool"] * bool(layer.pool)]
            return f"one-to-one translation of addresses, ports kept ({' and '.join(kinds) or 'basic NAT'})"
        case TwiceNatConfig():
            return f"twice NAT: remote addresses renamed as well; {behaviour(layer.nat)}"
        case Nat64Config():
            return f"NAT64 under {layer.prefix}; {behaviour(layer.nat)}"


def details(layer: LayerConfig) -> tuple[str, ...]:
    """Everything else worth saying of one middlebox: ports, timers, limits, in a few phrases."""
    match layer:
        case NatConfig():
            return (*_ports(layer), *_timers(layer), *_limits(layer), *_habits(layer))
        case TwiceNatConfig() | Nat64Config():
            return details(layer.nat)
        case BasicNatConfig():
            return (f"addresses idle for {_seconds(layer.idle_timeout)} are free again",)
        case FirewallConfig():
            return () if layer.flow is None else (*_timers(layer.flow), *_limits(layer.flow))


def _firewall(config: FirewallConfig) -> str:
    if config == FirewallConfig(udp=config.udp):
        return "a firewall that lets UDP pass" if config.udp else "a firewall that drops all UDP"
    passes = [
        name if ports is None else f"{name} to port {_ports_text(ports)}"
        for name, allowed, ports in (
            ("UDP", config.udp, config.udp_ports),
            ("TCP", config.tcp, config.tcp_ports),
            ("ICMP", config.icmp, None),
        )
        if allowed
    ]
    words = [f"a firewall that lets {_enumerated(passes) or 'nothing'} pass"]
    if config.flow is not None:
        words.append(f"{config.flow.filtering.value} filtering")
    if config.only_stun:
        words.append("drops UDP that is not STUN")
    if config.max_packet is not None:
        words.append(f"drops packets over {config.max_packet} bytes")
    if config.portal is not None:
        words.append("captive portal")
    return ", ".join(words)


def _enumerated(words: list[str]) -> str:
    """The words with commas and one "and"."""
    *first, last = words or [""]
    return f"{', '.join(first)} and {last}" if first else last


def _ports_text(ports: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(ports))) or "none"


def _ports(config: NatConfig) -> list[str]:
    first, last = config.ports
    words = {
        Allocation.PRESERVE: "keeps the port where it can",
        Allocation.OVERLOAD: "keeps the port always, hosts share it",
        Allocation.SEQUENTIAL: f"ports in steps of {config.step}",
        Allocation.RANDOM: "random ports",
        Allocation.BLOCK: f"random ports, {config.blocks_per_subscriber} × {config.block_size} a subscriber",
    }
    independent = _ports_text(config.independent_ports)
    out = [f"{words[config.allocation]}, {first}-{last}"]
    for said, phrase in (
        (config.share_ports, "ports shared between remotes"),
        (config.reuse_ports, "one port a socket where possible"),
        (config.keep_range, "low ports stay low"),
        (config.keep_contiguity, "parity and contiguity kept"),
        (config.keep_parity and not config.keep_contiguity, "parity kept"),
        (config.pooling is Pooling.ARBITRARY, "arbitrary pooling of addresses"),
        (
            bool(config.independent_ports),
            f"endpoint-independent for port {independent}",
        ),
    ):
        if said:
            out.append(phrase)
    return out


def _timers(config: FlowConfig) -> list[str]:
    if config.absolute_timeout is None:
        udp = f"UDP idle {_seconds(config.idle_timeout)}"
    else:
        spread = f" to {_seconds(config.absolute_timeout + config.absolute_spread)}"
        udp = f"UDP gone after {_seconds(config.absolute_timeout)}{spread if config.absolute_spread else ''}"
    if config.replied_timeout is not None:
        udp += f", answered {_seconds(config.replied_timeout)}"
    tcp = f"TCP {_seconds(config.tcp_transitory)} / {_seconds(config.tcp_established)}"
    return [udp, tcp, f"ICMP {_seconds(config.icmp_timeout)}"]


def _limits(config: FlowConfig) -> list[str]:
    out = [f"{config.max_mappings} mappings"]
    if config.max_mappings_per_subscriber is not None:
        out.append(f"{config.max_mappings_per_subscriber} a subscriber")
    if config.when_full is WhenFull.EVICT_OLDEST:
        out.append("evicts the oldest when full")
    if config.max_packet is not None:
        out.append(f"packets over {config.max_packet} bytes vanish")
    return out


def _habits(config: NatConfig) -> list[str]:
    out = []
    if config.hairpin is not Hairpin.NONE:
        out.append(f"hairpins with {config.hairpin.value}")
    if config.inbound_refresh:
        out.append("inbound refreshes")
    if config.remap_after is not None:
        out.append(f"maps anew after {_seconds(config.remap_after)}")
    if config.early_probe is not EarlyProbe.DROPPED:
        out.append(_EARLY_PROBES[config.early_probe])
    if config.unsolicited_syn is not UnsolicitedSyn.DROP:
        out.append(f"answers unsolicited SYNs by {config.unsolicited_syn.value}")
    if not config.simultaneous_open:
        out.append("no TCP simultaneous open")
    if config.icmp_error_ends_mapping:
        out.append("an ICMP error ends the mapping")
    return out


def _seconds(value: float) -> str:
    return f"{value:g} s"
