"""The NAT itself: an RFC 4787 engine that judges packets, and the kinds of NAT users know by name."""

from natwalk.core import RandomBytes
from natwalk.nat.config import (
    Allocation,
    EarlyProbe,
    Filtering,
    FirewallConfig,
    Hairpin,
    Mapping,
    NatConfig,
    Pooling,
    WhenFull,
)
from natwalk.nat.engine import Nat
from natwalk.nat.firewall import Firewall
from natwalk.nat.kinds import KINDS, KindSpec, LayerConfig, describe, kind_spec
from natwalk.nat.packet import Dropped, DropReason, Middlebox, Packet, Side, Translation, Verdict
from natwalk.nat.passage import PASSAGES, TODAY, Abilities, Outcome, Passage, expected, passage

__all__ = [
    "KINDS",
    "PASSAGES",
    "TODAY",
    "Abilities",
    "Allocation",
    "DropReason",
    "Dropped",
    "EarlyProbe",
    "Filtering",
    "Firewall",
    "FirewallConfig",
    "Hairpin",
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
    "Side",
    "Translation",
    "Verdict",
    "WhenFull",
    "describe",
    "expected",
    "kind_spec",
    "make_box",
    "passage",
]


def make_box(layer: LayerConfig, *public_addresses: str, random_bytes: RandomBytes) -> Middlebox:
    """The middlebox for one layer of a kind; a firewall needs no public address and ignores them."""
    if isinstance(layer, FirewallConfig):
        return Firewall(layer)
    return Nat(layer.at(*public_addresses), random_bytes=random_bytes)
