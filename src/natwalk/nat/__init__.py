"""The NAT itself: an RFC 4787 engine that judges packets, and the kinds of NAT users know by name."""

from natwalk.core import RandomBytes
from natwalk.nat.config import FirewallConfig, FlowConfig, NatConfig
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
from natwalk.nat.engine import Nat
from natwalk.nat.firewall import Firewall
from natwalk.nat.flows import Entry
from natwalk.nat.kinds import KINDS, KindSpec, LayerConfig, describe, kind_spec
from natwalk.nat.packet import (
    ACK,
    FIN,
    PSH,
    RST,
    SYN,
    Dropped,
    DropReason,
    Icmp,
    IcmpKind,
    IpProtocol,
    Middlebox,
    Packet,
    Segment,
    Side,
    Translation,
    Verdict,
    icmp_error,
    reset_to,
)
from natwalk.nat.passage import PASSAGES, TODAY, Abilities, Outcome, Passage, expected, passage

__all__ = [
    "ACK",
    "FIN",
    "KINDS",
    "PASSAGES",
    "PSH",
    "RST",
    "SYN",
    "TODAY",
    "Abilities",
    "Allocation",
    "DropReason",
    "Dropped",
    "EarlyProbe",
    "Entry",
    "Filtering",
    "Firewall",
    "FirewallConfig",
    "FlowConfig",
    "Hairpin",
    "Icmp",
    "IcmpKind",
    "IpProtocol",
    "KindSpec",
    "LayerConfig",
    "Mapping",
    "Middlebox",
    "Nat",
    "NatConfig",
    "Outcome",
    "Packet",
    "Passage",
    "Pooling",
    "Segment",
    "Side",
    "Translation",
    "UnsolicitedSyn",
    "Verdict",
    "WhenFull",
    "describe",
    "expected",
    "icmp_error",
    "kind_spec",
    "make_box",
    "passage",
    "reset_to",
]


def make_box(layer: LayerConfig, *public_addresses: str, random_bytes: RandomBytes) -> Middlebox:
    """The middlebox for one layer of a kind; a firewall needs no public address and ignores them."""
    if isinstance(layer, FirewallConfig):
        return Firewall(layer)
    return Nat(layer.at(*public_addresses), random_bytes=random_bytes)
