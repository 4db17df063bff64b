"""Shared values of the NAT tests."""

from __future__ import annotations

from random import Random

from natwalk.core import Address
from natwalk.nat import (
    Dropped,
    DropReason,
    KindSpec,
    Layers,
    Nat,
    NatConfig,
    Packet,
    Side,
    Translation,
    Verdict,
    make_box,
)

PUBLIC = "198.51.100.1"
SECOND = "198.51.100.2"
HOST = Address("192.168.1.10", 5000)
OTHER_HOST = Address("192.168.1.11", 5000)
REMOTE = Address("203.0.113.10", 3478)
SAME_HOST_OTHER_PORT = Address("203.0.113.10", 3479)
STRANGER = Address("192.0.2.77", 9)


def make(seed: int = 1, public: tuple[str, ...] = (PUBLIC,), **fields: object) -> Nat:
    """A NAT with ``fields`` of NatConfig."""
    config = NatConfig(public_addresses=public, **fields)  # type: ignore[arg-type]
    return Nat(config, random_bytes=Random(seed).randbytes)


def out(nat: Nat, source: Address, destination: Address, now: float = 0.0) -> Address:
    """Send from inside; the external address it got."""
    verdict = nat.outbound(Packet(source, destination, b"out"), now)
    assert isinstance(verdict, Translation), verdict
    assert verdict.side is Side.EXTERNAL
    assert verdict.packet.destination == destination
    return verdict.packet.source


def into(nat: Nat, source: Address, destination: Address, now: float = 0.0) -> Verdict:
    """Send from outside."""
    return nat.inbound(Packet(source, destination, b"in"), now)


def reason(verdict: Verdict) -> DropReason | None:
    """Why it was dropped; None when it was not."""
    return verdict.reason if isinstance(verdict, Dropped) else None


def build(spec: KindSpec, seed: int = 1) -> Layers:
    """The boxes of a preset, one behind the other."""
    boxes = []
    for depth, layer in enumerate(spec.layers):
        last = depth == len(spec.layers) - 1
        public = [f"198.51.100.{n + 1}" for n in range(spec.public_addresses)] if last else ["100.64.0.1"]
        boxes.append(make_box(layer, *public, random_bytes=Random(seed + depth).randbytes))
    return Layers(boxes)
