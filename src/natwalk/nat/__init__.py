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

__all__ = [
    "KINDS",
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
    "Packet",
    "Pooling",
    "Side",
    "Translation",
    "Verdict",
    "WhenFull",
    "describe",
    "kind_spec",
    "make_box",
]


def make_box(layer: LayerConfig, *public_addresses: str, random_bytes: RandomBytes) -> Middlebox:
    """The middlebox for one layer of a kind; a firewall needs no public address and ignores them."""
    if isinstance(layer, FirewallConfig):
        return Firewall(layer)
    return Nat(layer.at(*public_addresses), random_bytes=random_bytes)
