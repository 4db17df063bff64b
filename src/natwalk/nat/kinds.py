"""The kinds of NAT that users know by name, each as the layers of middleboxes it stands for."""

from __future__ import annotations

import collections.abc
from dataclasses import dataclass
from typing import Final

from natwalk.nat.config import FirewallConfig, NatConfig
from natwalk.nat.dimensions import Allocation, Filtering, Mapping

LayerConfig = NatConfig | FirewallConfig


@dataclass(frozen=True, slots=True)
class KindSpec:
    """One row of :data:`KINDS`; ``layers`` go from the peer outwards, none when nothing is between."""

    name: str
    classic: str
    """What RFC 3489 §5 or common speech calls it."""
    layers: tuple[LayerConfig, ...]

    @property
    def translates(self) -> bool:
        """Whether any layer rewrites addresses."""
        return any(isinstance(layer, NatConfig) for layer in self.layers)

    @property
    def passes_udp(self) -> bool:
        """Whether UDP gets out at all."""
        return all(layer.udp for layer in self.layers if isinstance(layer, FirewallConfig))

    def __str__(self) -> str:
        layers = "; behind a carrier NAT with ".join(map(_behaviour, self.layers))
        return f"{self.name}: {layers or 'no NAT, no firewall'}"


def describe(kind: str) -> str:
    """What ``kind`` is, by its name and in RFC 4787's words; raises ValueError for a name no table knows."""
    return str(kind_spec(kind))


def kind_spec(kind: str) -> KindSpec:
    """The row of ``kind``; raises ValueError, naming the kinds there are, when there is none."""
    spec = KINDS.get(kind)
    if spec is None:
        raise ValueError(f"{kind!r} is not a kind of NAT: one of {', '.join(KINDS)}")
    return spec


def _behaviour(layer: LayerConfig) -> str:
    match layer:
        case NatConfig():
            return f"{layer.mapping.value} mapping, {layer.filtering.value} filtering"
        case FirewallConfig():
            return "a firewall that lets UDP pass" if layer.udp else "a firewall that drops all UDP"


_HOME: Final = 30.0  # seconds; the shortest binding found in home gateways (Hätönen et al., IMC 2010)
_CARRIER: Final = 35.0  # seconds; the median of fixed-line carriers (Richter et al., IMC 2016)


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
        KindSpec("none", "open internet", ()),
        KindSpec(
            "full-cone",
            "full cone",
            (_home(Mapping.ENDPOINT_INDEPENDENT, Filtering.ENDPOINT_INDEPENDENT),),
        ),
        KindSpec(
            "address-restricted",
            "restricted cone",
            (_home(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_DEPENDENT),),
        ),
        KindSpec(
            "port-restricted",
            "port restricted cone",
            (_home(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT),),
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
        ),
        KindSpec(
            "cgnat",
            "port restricted cone behind a carrier-grade NAT",
            (_home(Mapping.ENDPOINT_INDEPENDENT, Filtering.ADDRESS_AND_PORT_DEPENDENT), _CARRIER_NAT),
        ),
        KindSpec("udp-blocked", "firewall that blocks UDP", (FirewallConfig(udp=False),)),
    )
}
