"""The NAT itself: an RFC 4787 engine that judges packets, and the kinds of NAT there are by name."""

from natwalk.core import RandomBytes
from natwalk.nat.basic import BasicNat, TwiceNat
from natwalk.nat.box_config import (
    LOCAL_USE_PREFIX,
    WELL_KNOWN_PREFIX,
    BasicNatConfig,
    FirewallConfig,
    LayerConfig,
    Nat64Config,
    PortalConfig,
    TwiceNatConfig,
)
from natwalk.nat.config import FlowConfig, NatConfig
from natwalk.nat.describe import behaviour, classic_name, details
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
from natwalk.nat.gateway_config import GatewayConfig, ServiceQuirk
from natwalk.nat.kinds import KINDS, Group, KindSpec, kind_spec
from natwalk.nat.layers import Layers
from natwalk.nat.nat64 import Nat64, embed, extract
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
from natwalk.nat.passage import (
    PASSAGES,
    ROWS,
    TODAY,
    Abilities,
    Outcome,
    Passage,
    between,
    expected,
    passage,
    row,
)
from natwalk.nat.presets import PRESETS, preset

__all__ = [
    "ACK",
    "FIN",
    "KINDS",
    "LOCAL_USE_PREFIX",
    "PASSAGES",
    "PRESETS",
    "PSH",
    "ROWS",
    "RST",
    "SYN",
    "TODAY",
    "WELL_KNOWN_PREFIX",
    "Abilities",
    "Allocation",
    "BasicNat",
    "BasicNatConfig",
    "DropReason",
    "Dropped",
    "EarlyProbe",
    "Entry",
    "Filtering",
    "Firewall",
    "FirewallConfig",
    "FlowConfig",
    "GatewayConfig",
    "Group",
    "Hairpin",
    "Icmp",
    "IcmpKind",
    "IpProtocol",
    "KindSpec",
    "LayerConfig",
    "Layers",
    "Mapping",
    "Middlebox",
    "Nat",
    "Nat64",
    "Nat64Config",
    "NatConfig",
    "Outcome",
    "Packet",
    "Passage",
    "Pooling",
    "PortalConfig",
    "Segment",
    "ServiceQuirk",
    "Side",
    "Translation",
    "TwiceNat",
    "TwiceNatConfig",
    "UnsolicitedSyn",
    "Verdict",
    "WhenFull",
    "behaviour",
    "between",
    "classic_name",
    "describe",
    "details",
    "embed",
    "expected",
    "extract",
    "icmp_error",
    "kind_spec",
    "make_box",
    "passage",
    "preset",
    "reset_to",
    "row",
]


def make_box(layer: LayerConfig, *public_addresses: str, random_bytes: RandomBytes) -> Middlebox:
    """The middlebox for one layer of a kind; a firewall needs no public address and ignores them."""
    match layer:
        case FirewallConfig():
            return Firewall(layer)
        case NatConfig():
            return Nat(layer.at(*public_addresses), random_bytes=random_bytes)
        case BasicNatConfig():
            return BasicNat(layer.at(*public_addresses) if public_addresses else layer)
        case TwiceNatConfig():
            return TwiceNat(layer.at(*public_addresses), random_bytes=random_bytes)
        case Nat64Config():
            return Nat64(layer.at(*public_addresses), random_bytes=random_bytes)


def describe(what: str | KindSpec | LayerConfig) -> str:
    """What a kind, a preset or a layer is, in the words of RFC 4787 and RFC 3489.

    Raises ValueError for a name no table knows.
    """
    if isinstance(what, str):
        return str(preset(what))
    return str(what) if isinstance(what, KindSpec) else behaviour(what)
