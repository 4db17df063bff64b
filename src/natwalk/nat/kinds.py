"""Kinds of NAT by name, each as the layers of middleboxes it stands for: those that users know."""

from __future__ import annotations

import collections.abc
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from natwalk.nat.box_config import FirewallConfig, LayerConfig
from natwalk.nat.config import NatConfig
from natwalk.nat.describe import behaviour
from natwalk.nat.dimensions import Allocation, Filtering, Mapping
from natwalk.nat.gateway_config import GatewayConfig


class Group(StrEnum):
    """Where one meets a kind of NAT."""

    KIND = "kinds users know"
    HOME = "home routers"
    CARRIER = "carriers"
    CLOUD = "clouds"
    CORPORATE = "corporate networks"
    HOTEL = "hotels and the like"
    QUIRK = "quirks of the field"


@dataclass(frozen=True, slots=True)
class KindSpec:
    """One kind; ``layers`` go from the peer outwards, none when nothing is between."""

    name: str
    classic: str
    """What RFC 3489 §5 or common speech calls it."""
    layers: tuple[LayerConfig, ...]
    source: str = ""
    """Where its behaviour and numbers are from."""
    group: Group = Group.KIND
    public_addresses: int = 1
    """How many external addresses its outermost layer has."""
    services: GatewayConfig | None = None
    """What the innermost layer offers to its LAN."""

    @property
    def translates(self) -> bool:
        """Whether any layer rewrites addresses."""
        return any(not isinstance(layer, FirewallConfig) for layer in self.layers)

    @property
    def passes_udp(self) -> bool:
        """Whether UDP gets out at all."""
        return all(layer.udp for layer in self.layers if isinstance(layer, FirewallConfig))

    def __str__(self) -> str:
        words = ""
        for depth, layer in enumerate(self.layers):
            before = any(not isinstance(inner, FirewallConfig) for inner in self.layers[:depth])
            what = (
                ("a carrier NAT with " if before else "a NAT with ") if isinstance(layer, NatConfig) else ""
            )
            words += f"; behind {what}{behaviour(layer)}" if depth else behaviour(layer)
        return f"{self.name}: {words or 'no NAT, no firewall'}"


def kind_spec(kind: str) -> KindSpec:
    """The row of ``kind``; raises ValueError, naming the kinds there are, when there is none."""
    spec = KINDS.get(kind)
    if spec is None:
        raise ValueError(f"{kind!r} is not a kind of NAT: one of {', '.join(KINDS)}")
    return spec


_HOME: Final = 30.0  # seconds; the shortest binding found in home gateways (Hätönen et al., IMC 2010)
_CARRIER: Final = 35.0  # seconds; the median of fixed-line carriers (Richter et al., IMC 2016)
_HATONEN: Final = "Hätönen et al., IMC 2010: shortest UDP binding of home gateways"


def _home(mapping: Mapping, filtering: Filtering, allocation: Allocation = Allocation.PRESERVE) -> NatConfig:
    return NatConfig(
        mapping=mapping, filtering=filtering, allocation=allocation, idle_timeout=_HOME, max_mappings=1024
    )


_CARRIER_NAT: Final = NatConfig(
    mapping=Mapping.ENDPOINT_INDEPENDENT,
    filtering=Filtering.ADDRESS_AND_PORT_DEPENDENT,
    allocation=Allocation.RANDOM,
    idle_timeout=_CARRIER,
    max_mappings_per_subscriber=1024,
)
"""Endpoint-independent as RFC 6888 §3 asks of a carrier and as 89 % of the fixed-line ones are (Richter)."""

KINDS: Final[collections.abc.Mapping[str, KindSpec]] = {
    spec.name: spec
    for spec in (
        KindSpec("none", "open internet", (), "no box at all"),
        KindSpec(
            "full-cone",
            "full cone",
            (_home(Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT),),
            _HATONEN,
        ),
        KindSpec(
            "address-restricted",
            "restricted cone",
            (_home(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT),),
            _HATONEN,
        ),
        KindSpec(
            "port-restricted",
            "port restricted cone",
            (_home(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT),),
            _HATONEN,
        ),
        KindSpec(
            "symmetric",
            "symmetric",
            (
                _home(
                    Mapping.ADDRESS_AND_PORT_DEPENDENT,
                    Filtering.ADDRESS_AND_PORT_DEPENDENT,
                    Allocation.RANDOM,
                ),
            ),
            _HATONEN,
        ),
        KindSpec(
            "cgnat",
            "port restricted cone behind a carrier-grade NAT",
            (_home(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT), _CARRIER_NAT),
            "Richter et al., IMC 2016: median of fixed-line carriers; RFC 6888 §3",
        ),
        KindSpec(
            "udp-blocked",
            "firewall that blocks UDP",
            (FirewallConfig(udp=False),),
            "RFC 9308 §2: 3-5 % of networks",
        ),
    )
}
