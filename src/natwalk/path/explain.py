"""Says in one clause why the path is the one it is; above all, why it is not direct."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import Enum

from natwalk.core import Address
from natwalk.ice import CandidateType, PairInfo, TransportPolicy


class MappingView(Enum):
    """What a side could learn of its own NAT's mapping behaviour (RFC 4787 §4.1)."""

    UNKNOWN = "unknown"
    NO_NAT = "no-nat"
    INDEPENDENT = "endpoint-independent"
    DEPENDENT = "endpoint-dependent"
    UDP_SILENT = "udp-silent"
    """No server answered over UDP: it is blocked, or the servers are down."""


def mapping_view(mappings: Iterable[tuple[Address, Address, Address]], *, gathered: bool) -> MappingView:
    """What ``mappings`` of (base, server, mapped address) say of the NAT; ``gathered``: no more will come."""
    by_base: dict[Address, list[Address]] = {}
    for base, _, mapped in mappings:
        by_base.setdefault(base, []).append(mapped)
    if not by_base:
        return MappingView.UDP_SILENT if gathered else MappingView.UNKNOWN
    if any(len(set(mapped)) > 1 for mapped in by_base.values()):
        return MappingView.DEPENDENT
    if all(base == mapped[0] for base, mapped in by_base.items()):
        return MappingView.NO_NAT
    if any(len(mapped) > 1 for mapped in by_base.values()):
        return MappingView.INDEPENDENT
    return MappingView.UNKNOWN


def why_direct(pair: PairInfo) -> str:
    """Why the direct ``pair`` works."""
    kinds = {pair.local.type, pair.remote.type}
    if kinds == {CandidateType.HOST}:
        return "both sides reach each other's own address"
    if CandidateType.PEER_REFLEXIVE in kinds:
        return "a NAT's mapping was discovered from the peer's checks"
    return "hole punching opened both NATs"


_SYMMETRIC = "NAT gives every destination another port (endpoint-dependent mapping)"


def why_not_direct(
    pairs: Iterable[PairInfo], policy: TransportPolicy, here: MappingView, there: MappingView
) -> str:
    """Why no direct pair is in use, from the failed ``pairs`` and what each side knows of its NAT."""
    if policy is TransportPolicy.RELAY:
        return "the path policy asks for a relay"
    if MappingView.UDP_SILENT in (here, there):
        where = "on this side" if here is MappingView.UDP_SILENT else "on the peer's side"
        return f"no STUN server answered {where}: UDP seems to be blocked there"
    if here is MappingView.DEPENDENT and there is MappingView.DEPENDENT:
        return f"both sides are behind a symmetric NAT: each {_SYMMETRIC}"
    direct = [pair for pair in pairs if not pair.relayed]
    if here is MappingView.DEPENDENT:
        return f"this side's {_SYMMETRIC} and the peer's NAT lets in only what it expects"
    if there is MappingView.DEPENDENT:
        return f"the peer's {_SYMMETRIC} and this side's NAT lets in only what it expects"
    if not direct:
        return "neither side has offered a direct candidate so far"
    reasons = Counter(pair.reason for pair in direct if pair.reason)
    if reasons:
        reason, count = reasons.most_common(1)[0]
        return f"{count} of {len(direct)} direct pairs failed: {reason}"
    return "direct checks are still under way"
