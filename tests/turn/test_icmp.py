"""ICMP errors about relayed datagrams, told to the client (RFC 8656 §11.5)."""

from __future__ import annotations

import pytest

from natwalk.core import Address, Transport
from natwalk.stun import (
    ADDITIONAL_ADDRESS_FAMILY,
    DATA,
    ICMP,
    MOBILITY_TICKET,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    IcmpError,
    MessageClass,
    Method,
)
from turn_world import PEER, Raw, World, make_config

PEER6 = Address("2001:db8::77", 7000)
UNREACHABLE = IcmpError(3, 3)


def setup(world: World) -> Raw:
    raw = world.raw_client()
    raw.allocate()
    raw.permit(PEER)
    return raw


def icmp(world: World, relay: Address | None, peer: Address, error: IcmpError) -> None:
    assert relay is not None
    world.server.icmp_received(relay, peer, error, world.now)
    world.run()


def test_the_client_hears_which_peer_and_what() -> None:
    """A Data indication with ICMP instead of DATA."""
    world = World()
    raw = setup(world)
    too_big = IcmpError(3, 4, (1400).to_bytes(4, "big"))
    icmp(world, raw.relayed, PEER, too_big)
    [message] = raw.inbox()
    assert (message.method, message.message_class) == (Method.DATA, MessageClass.INDICATION)
    assert (message.get(XOR_PEER_ADDRESS), message.get(ICMP)) == (PEER, too_big)
    assert DATA not in message


@pytest.mark.parametrize(("peer", "passed"), [(PEER, {3, 11}), (PEER6, {1, 2, 3})], ids=["ICMP", "ICMPv6"])
def test_only_errors_about_route_and_size_are_told(peer: Address, passed: set[int]) -> None:
    world = World()
    raw = world.raw_client()
    v4, v6 = raw.allocate((ADDITIONAL_ADDRESS_FAMILY, 2)).all(XOR_RELAYED_ADDRESS)
    raw.permit(peer)
    told = set()
    for kind in range(128):
        icmp(world, v4 if peer.version == 4 else v6, peer, IcmpError(kind, 0))
        told |= {message.get(ICMP).type for message in raw.inbox()}  # type: ignore[union-attr]
    assert told == passed


def test_only_peers_with_a_permission_count() -> None:
    """RFC 8656 §11.5: whatever the port; not after the permission expired, nor the allocation."""
    world = World()
    raw = setup(world)
    icmp(world, raw.relayed, Address("192.0.2.78", 7000), UNREACHABLE)
    assert raw.inbox() == []
    icmp(world, raw.relayed, PEER.with_port(9), UNREACHABLE)
    assert len(raw.inbox()) == 1
    world.now += 300.0
    icmp(world, raw.relayed, PEER, UNREACHABLE)
    assert raw.inbox() == []
    world.run(400.0)
    icmp(world, raw.relayed, PEER, UNREACHABLE)
    icmp(world, Address("203.0.113.50", 1), PEER, UNREACHABLE)
    assert raw.inbox() == []


def test_a_flood_of_forged_errors_does_not_reach_the_client() -> None:
    """At most 20 at once and 10 a second; another client's are not fewer for that."""
    world = World()
    raw = setup(world)
    other = world.raw_client(50001)
    other.allocate()
    other.permit(PEER)
    for _ in range(1000):
        icmp(world, raw.relayed, PEER, UNREACHABLE)
    assert len(raw.inbox()) == 20
    icmp(world, other.relayed, PEER, UNREACHABLE)
    assert len(other.inbox()) == 1
    world.run(1.0)
    for _ in range(1000):
        icmp(world, raw.relayed, PEER, UNREACHABLE)
    assert len(raw.inbox()) == 10


def test_nobody_is_told_while_the_client_is_away() -> None:
    world = World()
    raw = world.raw_client(transport=Transport.TCP)
    raw.allocate((MOBILITY_TICKET, b""))
    raw.permit(PEER)
    raw.close()
    icmp(world, raw.relayed, PEER, UNREACHABLE)
    assert raw.inbox() == []


def test_a_tcp_relay_has_no_datagrams_to_err_about() -> None:
    world = World(make_config(tcp_relays=True))
    raw = world.raw_client(transport=Transport.TCP)
    raw.allocate_tcp()
    raw.permit(PEER)
    icmp(world, raw.relayed, PEER, UNREACHABLE)
    assert raw.inbox() == []
