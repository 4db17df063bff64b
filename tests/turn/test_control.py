"""Refresh, CreatePermission and ChannelBind: FAULTS A 1, 3, 4, 5, 7, 8, 15, B 28, 38, D 58, 59."""

from __future__ import annotations

import pytest

from natwalk.core import Address, Path
from natwalk.stun import (
    CHANNEL_NUMBER,
    LIFETIME,
    NONCE,
    REALM,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    USERNAME,
    XOR_PEER_ADDRESS,
    Message,
    Method,
    encode,
    request,
)
from natwalk.turn import (
    AllocationEnded,
    EndReason,
    FlowAdded,
    FlowRemoved,
    PeerPolicy,
    RelayReleased,
    TurnLimits,
)
from turn_world import LISTENER, PEER, REALM_NAME, RELAY, Raw, World, code_of, make_config

_STUNNER4_TEXT = """
0.0.0.0 127.0.0.1 127.0.0.8 127.255.255.254 10.0.0.1 10.255.255.254 172.16.0.1 172.31.255.254 192.168.0.1
192.168.255.254 169.254.0.1 169.254.254.255 224.0.0.1 239.255.255.254 100.64.0.0 100.127.255.254 192.0.0.1
192.0.0.254 192.0.2.1 192.0.2.254 198.18.0.1 198.19.255.254 198.51.100.1 198.51.100.254 203.0.113.1
203.0.113.254 240.0.0.1 255.255.255.255 169.254.169.254 0.1.2.3
"""
STUNNER4 = _STUNNER4_TEXT.split()
_REFUSED6_TEXT = """
:: ::1 ::ffff:127.0.0.1 ::ffff:127.0.0.2 ::ffff:0.0.0.0 ::ffff:169.254.169.254 ::127.0.0.1 2002:7f00:1::
64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::e000:1 fe80::1 fc00::1 fd00:ec2::254 fec0::1 ff02::1 ff0e::1
"""
REFUSED6 = _REFUSED6_TEXT.split()


def bind(raw: Raw, number: int, peer: Address) -> int:
    return code_of(raw.signed(Method.CHANNEL_BIND, (CHANNEL_NUMBER, number), (XOR_PEER_ADDRESS, peer)))


def ended(world: World) -> list[EndReason]:
    return [event.reason for event in world.server_events if isinstance(event, AllocationEnded)]


@pytest.mark.parametrize(
    ("asked", "granted"), [(None, 600), (1, 600), (599, 600), (3600, 3600), (2**32 - 1, 3600)]
)
def test_refresh_lifetimes_are_clamped(asked: int | None, granted: int) -> None:
    """FAULTS 59."""
    raw = World().raw_client()
    raw.allocate()
    assert raw.refresh(asked).get(LIFETIME) == granted


def test_refresh_with_zero_deletes() -> None:
    """FAULTS 59: the answer says 0, the relay goes, and the next Refresh meets no allocation."""
    world = World()
    raw = world.raw_client()
    raw.allocate()
    assert raw.refresh(0).get(LIFETIME) == 0
    assert ended(world) == [EndReason.DELETED]
    assert [e.address for e in world.server_events if isinstance(e, RelayReleased)] == [raw.relayed]
    assert code_of(raw.refresh(0)) == 437
    assert code_of(raw.refresh(600)) == 437


def test_refresh_with_two_lifetimes_takes_the_first() -> None:
    """FAULTS 28."""
    raw = World().raw_client()
    raw.allocate()
    answer = raw.signed(Method.REFRESH, (LIFETIME, 700), (LIFETIME, 0))
    assert answer is not None
    assert answer.get(LIFETIME) == 700


def test_refresh_of_the_other_family_is_443() -> None:
    raw = World().raw_client()
    raw.allocate()
    for family, code in ((1, 0), (2, 443), (3, 443)):
        assert code_of(raw.signed(Method.REFRESH, (REQUESTED_ADDRESS_FAMILY, family))) == code


def test_allocation_expires_exactly() -> None:
    """FAULTS 59: refreshed at T-1 s it lives, at T it is gone."""
    world = World()
    raw = world.raw_client()
    raw.allocate()
    world.run(599.0)
    raw.challenge()
    assert code_of(raw.refresh(600)) == 0
    world.run(599.9)
    assert ended(world) == []
    world.run(0.1)
    assert ended(world) == [EndReason.EXPIRED]
    raw.challenge()
    assert code_of(raw.refresh(600)) == 437


def test_request_at_the_instant_of_expiry_meets_no_allocation() -> None:
    """The datagram may come before the driver's timer does."""
    world = World()
    raw = world.raw_client()
    raw.allocate()
    world.now += 300.0
    raw.challenge()
    world.now += 300.0
    assert code_of(raw.refresh(600)) == 437
    assert ended(world) == [EndReason.EXPIRED]


def test_other_user_on_the_same_path_is_441() -> None:
    """FAULTS 60."""
    raw = World().raw_client()
    raw.allocate()
    for method in (Method.REFRESH, Method.CREATE_PERMISSION, Method.CHANNEL_BIND):
        assert code_of(raw.signed(method, (XOR_PEER_ADDRESS, PEER), username="bob")) == 441


def test_requests_without_an_allocation_are_437() -> None:
    raw = World().raw_client()
    for method in (Method.REFRESH, Method.CREATE_PERMISSION, Method.CHANNEL_BIND):
        assert code_of(raw.signed(method, (XOR_PEER_ADDRESS, PEER), (CHANNEL_NUMBER, 0x4000))) == 437


@pytest.mark.parametrize("host", STUNNER4)
def test_special_ipv4_peers_are_403(host: str) -> None:
    """FAULTS 1, 3, 7: CreatePermission and ChannelBind, and nothing leaves."""
    world = World(make_config(policy=PeerPolicy()))
    raw = world.raw_client()
    raw.allocate()
    assert raw.permit(Address(host, 80)) == 403
    assert bind(raw, 0x4000, Address(host, 80)) == 403
    assert world.server.stats.permissions == 0
    assert world.to_peers == []


@pytest.mark.parametrize("host", REFUSED6)
def test_special_ipv6_peers_are_403(host: str) -> None:
    """FAULTS 3, 4, 5, 7 on an IPv6 allocation; the embedded IPv4 ones are allowed by no rule here."""
    world = World()
    raw = world.raw_client()
    raw.allocate((REQUESTED_ADDRESS_FAMILY, 2))
    assert raw.permit(Address(host, 80)) == 403
    assert bind(raw, 0x4000, Address(host, 80)) == 403


def test_own_endpoints_are_403() -> None:
    """FAULTS 8: the listener by both ways; an endpoint that appears later, too, and its channel goes."""
    world = World()
    raw = world.raw_client()
    raw.allocate()
    assert raw.permit(LISTENER) == 403
    assert bind(raw, 0x4000, LISTENER) == 403
    later = Address("198.51.100.99", 9000)
    assert bind(raw, 0x4000, later) == 0
    world.server.add_own_endpoint(later)
    world.run()
    assert [type(e) for e in world.server_events][-1] is FlowRemoved
    assert bind(raw, 0x4000, later) == 403
    assert raw.permit(later) == 403


def test_ports_that_reflect_are_403_for_channels() -> None:
    """FAULTS 17: a channel names a port; a permission does not."""
    raw = World().raw_client()
    raw.allocate()
    for port in (19, 25, 53, 123, 5060, 11211):
        assert bind(raw, 0x4000, PEER.with_port(port)) == 403
        assert raw.permit(PEER.with_port(port)) == 0


def test_peers_of_the_other_family_are_443() -> None:
    """FAULTS 15."""
    world = World()
    raw = world.raw_client()
    raw.allocate()
    six = Address("2001:db8::99", 9000)
    assert raw.permit(six) == 443
    assert raw.permit(PEER, six) == 443
    assert bind(raw, 0x4000, six) == 443
    other = world.raw_client(50001)
    other.allocate((REQUESTED_ADDRESS_FAMILY, 2))
    assert other.permit(PEER) == 443
    assert other.permit(six) == 0


def test_permissions_are_all_or_nothing() -> None:
    """FAULTS 58: one refused among a hundred installs none."""
    world = World()
    raw = world.raw_client()
    raw.allocate()
    hundred = [Address(f"192.0.2.{n}", 0) for n in range(1, 100)]
    assert raw.permit(*hundred, Address("127.0.0.1", 0)) == 403
    assert world.server.stats.permissions == 0
    assert raw.permit(*hundred) == 0
    assert world.server.stats.permissions == 99
    assert raw.permit() == 400


def test_permissions_are_capped_with_508() -> None:
    """FAULTS 58: 10,000 distinct hosts; those there can still be refreshed."""
    world = World(make_config(limits=TurnLimits(permissions_per_allocation=64), policy=PeerPolicy()))
    raw = world.raw_client()
    raw.allocate()
    codes = []
    for n in range(10_000):
        host = f"20.{n >> 16}.{n >> 8 & 255}.{n & 255}"
        codes.append(raw.permit(Address(host, 0)))
    assert codes == [0] * 64 + [508] * 9936
    assert world.server.stats.permissions == 64
    assert raw.permit(Address("20.0.0.0", 0)) == 0
    assert bind(raw, 0x4000, Address("20.0.0.0", 9)) == 0
    assert bind(raw, 0x4001, Address("20.1.0.0", 9)) == 508


@pytest.mark.parametrize(
    ("number", "code"), [(0x3FFF, 400), (0x4000, 0), (0x4FFF, 0), (0x5000, 400), (0x7FFF, 400), (0, 400)]
)
def test_channel_numbers(number: int, code: int) -> None:
    """FAULTS 38: 0x4000 to 0x4FFF (RFC 8656 §12)."""
    raw = World().raw_client()
    raw.allocate()
    assert bind(raw, number, PEER) == code


def test_channel_numbers_of_rfc_5766_on_request() -> None:
    """Old clients choose up to 0x7FFF; such a channel then carries data, too."""
    world = World(make_config(rfc5766_channels=True))
    raw = world.raw_client()
    raw.allocate()
    assert bind(raw, 0x7FFF, PEER) == 0
    assert bind(raw, 0x8000, PEER.with_port(7001)) == 400
    raw.say(b"\x7f\xff\x00\x01x")
    assert [out.data for out in world.to_peers] == [b"x"]


def test_channel_conflicts_are_400() -> None:
    """FAULTS 38: a number has one peer and a peer one number; the same pair again is a refresh."""
    raw = World().raw_client()
    raw.allocate()
    assert bind(raw, 0x4000, PEER) == 0
    assert bind(raw, 0x4000, PEER.with_port(7001)) == 400
    assert bind(raw, 0x4001, PEER) == 400
    assert bind(raw, 0x4000, PEER) == 0
    assert code_of(raw.signed(Method.CHANNEL_BIND, (CHANNEL_NUMBER, 0x4002))) == 400
    assert code_of(raw.signed(Method.CHANNEL_BIND, (XOR_PEER_ADDRESS, PEER))) == 400


def test_channels_are_capped_with_508() -> None:
    raw = World(make_config(limits=TurnLimits(channels_per_allocation=3))).raw_client()
    raw.allocate()
    codes = [bind(raw, 0x4000 + n, PEER.with_port(7000 + n)) for n in range(5)]
    assert codes == [0, 0, 0, 508, 508]
    assert bind(raw, 0x4001, PEER.with_port(7001)) == 0


def keep(world: World, raw: Raw, until: float) -> None:
    while world.now < until:
        world.run(min(250.0, until - world.now))
        raw.challenge()
        raw.refresh(3600)


def test_channel_is_quarantined_for_five_minutes_after_it_expires() -> None:
    """FAULTS 59: 600 s bound, 300 s reserved for the same pair, then free (RFC 8656 §12)."""
    world = World()
    raw = world.raw_client()
    raw.allocate((LIFETIME, 3600))
    start = world.now
    assert bind(raw, 0x4000, PEER) == 0
    keep(world, raw, start + 899.0)
    assert bind(raw, 0x4000, PEER.with_port(7001)) == 400
    assert bind(raw, 0x4001, PEER) == 400
    keep(world, raw, start + 900.0)
    assert bind(raw, 0x4000, PEER.with_port(7001)) == 0
    assert bind(raw, 0x4001, PEER) == 0


def test_binding_at_the_end_of_quarantine_need_not_wait_for_the_timer() -> None:
    world = World()
    raw = world.raw_client()
    raw.allocate((LIFETIME, 3600))
    start = world.now
    assert bind(raw, 0x4000, PEER) == 0
    assert bind(raw, 0x4001, PEER.with_port(7001)) == 0
    keep(world, raw, start + 899.0)
    world.now += 1.0  # the datagram comes before the driver's timer does
    message = signed_bind(raw, 0x4000, PEER.with_port(7001))
    world.server.receive(message, Path(LISTENER, raw.address), world.now)
    world.run()
    channels = world.server._table.by_client[Path(LISTENER, raw.address)].channels
    assert {number: channel.peer for number, channel in channels.items()} == {0x4000: PEER.with_port(7001)}


def signed_bind(raw: Raw, number: int, peer: Address) -> bytes:
    credentials = ((USERNAME, raw.username), (REALM, REALM_NAME), (NONCE, raw.nonce))
    attributes = ((CHANNEL_NUMBER, number), (XOR_PEER_ADDRESS, peer))
    message = request(Method.CHANNEL_BIND, bytes(12), *attributes, *credentials)
    return encode(message, integrity_key=raw.key())


def test_same_pair_may_come_back_from_quarantine() -> None:
    world = World()
    raw = world.raw_client()
    raw.allocate((LIFETIME, 3600))
    start = world.now
    assert bind(raw, 0x4000, PEER) == 0
    keep(world, raw, start + 700.0)
    assert world.server.stats.flows == 0
    assert bind(raw, 0x4000, PEER) == 0
    assert world.server.stats.flows == 1
    keep(world, raw, start + 950.0)
    assert bind(raw, 0x4000, PEER.with_port(7001)) == 400


def test_flow_lives_as_long_as_channel_and_permission() -> None:
    """The data plane hears of every change: permission 300 s, channel 600 s, end of the allocation."""
    world = World()
    raw = world.raw_client()
    raw.allocate((LIFETIME, 3600))

    def flows() -> list[type]:
        found = [type(e) for e in world.server_events if isinstance(e, FlowAdded | FlowRemoved)]
        world.server_events.clear()
        return found

    start = world.now
    assert bind(raw, 0x4000, PEER) == 0
    assert flows() == [FlowAdded]
    assert raw.permit(PEER) == 0
    assert flows() == []
    keep(world, raw, start + 299.9)
    assert flows() == []
    keep(world, raw, start + 300.0)
    assert flows() == [FlowRemoved]
    assert raw.permit(PEER) == 0
    assert flows() == [FlowAdded]
    keep(world, raw, start + 599.0)
    assert raw.permit(PEER) == 0
    keep(world, raw, start + 600.0)
    assert flows() == [FlowRemoved]
    assert raw.permit(PEER) == 0
    assert flows() == []
    assert bind(raw, 0x4000, PEER) == 0
    raw.refresh(0)
    assert flows() == [FlowAdded, FlowRemoved]
    assert world.server.stats.flows == 0


def test_late_driver_finds_channel_and_quarantine_both_over() -> None:
    world = World()
    raw = world.raw_client()
    raw.allocate((LIFETIME, 3600))
    bind(raw, 0x4000, PEER)
    world.now += 2000.0
    world.server.handle_timeout(world.now)
    raw.challenge()
    assert bind(raw, 0x4001, PEER) == 0


def test_flow_to_a_relay_ends_with_the_relay() -> None:
    """Relay to relay on one server: when one allocation goes, the other's flow to it goes, too."""
    world = World()
    first, second = world.raw_client(50000), world.raw_client(50001, username="bob")
    first.allocate()
    second.allocate()
    assert second.relayed is not None
    assert second.relayed.host == RELAY
    assert bind(first, 0x4000, second.relayed) == 0
    assert bind(first, 0x4001, Address(RELAY, 49152 if second.relayed.port != 49152 else 49153)) == 403
    second.refresh(0)
    assert world.server.stats.flows == 0
    assert bind(first, 0x4000, second.relayed) == 403


def test_forbidden_names_the_class_but_not_the_operators_entries() -> None:
    from natwalk.stun import ERROR_CODE

    world = World(make_config(policy=PeerPolicy(deny=["8.8.8.8"])))
    raw = world.raw_client()
    raw.allocate()

    def reason(host: str) -> str:
        answer: Message | None = raw.signed(Method.CREATE_PERMISSION, (XOR_PEER_ADDRESS, Address(host, 0)))
        assert answer is not None
        error = answer.get(ERROR_CODE)
        assert error is not None
        return error.reason

    assert reason("127.0.0.1") == "Forbidden: loopback"
    assert reason("8.8.8.8") == "Forbidden"


def test_transport_attribute_is_harmless_elsewhere() -> None:
    raw = World().raw_client()
    raw.allocate()
    assert code_of(raw.signed(Method.REFRESH, (REQUESTED_TRANSPORT, 6))) == 0
