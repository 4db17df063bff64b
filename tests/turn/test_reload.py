"""A running server that is changed: reconfigure, disconnect, drain; FAULTS 8, 13, 19, 150 for the core."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk.core import Address, Transport
from natwalk.stun import (
    ALTERNATE_SERVER,
    CHANNEL_NUMBER,
    CONNECTION_ID,
    DATA,
    LIFETIME,
    MESSAGE_INTEGRITY,
    REQUESTED_TRANSPORT,
    SOFTWARE,
    XOR_PEER_ADDRESS,
    Algorithm,
    Method,
    decode,
    encode,
    request,
)
from natwalk.turn import (
    AllocationEnded,
    ClientReleased,
    ConnectionReleased,
    EndReason,
    FlowRemoved,
    PeerPolicy,
    TurnLimits,
    rest_credentials,
)
from natwalk.turn.channel_data import pack_header
from second_generation import second
from turn_world import LAB, LISTENER, PEER, REALM_NAME, RELAY, Raw, World, code_of, make_config

WALL = 1_700_000_000.0
OTHER = Address("198.51.100.66", 7000)
CHANNEL = (CHANNEL_NUMBER, 0x4000)


def tcp_client(world: World, port: int = 50900) -> Raw:
    return world.raw_client(port, transport=Transport.TCP)


def bound(world: World, port: int = 50000, peer: Address = PEER, **options: Any) -> Raw:
    """A client with an allocation, a permission and a channel."""
    raw = world.raw_client(port, **options)
    assert code_of(raw.allocate()) == 0
    assert code_of(raw.signed(Method.CHANNEL_BIND, CHANNEL, (XOR_PEER_ADDRESS, peer))) == 0
    return raw


def ended(world: World) -> list[tuple[str, EndReason]]:
    return [(e.username, e.reason) for e in world.server_events if isinstance(e, AllocationEnded)]


def reaches(world: World, raw: Raw) -> tuple[bool, bool]:
    """Whether a datagram gets from the client's channel to the peer and back."""
    world.to_peers.clear()
    raw.say(pack_header(0x4000, 2) + b"hi")
    there = bool(world.to_peers)
    assert raw.relayed is not None
    world.from_peer(b"ho", raw.relayed)
    back = bool(world.raw[raw.address])
    world.raw[raw.address].clear()
    return there, back


def test_same_configuration_changes_nothing() -> None:
    world = World()
    raw = bound(world)
    world.server.reconfigure(make_config(), world.now)
    world.run()
    assert ended(world) == []
    assert reaches(world, raw) == (True, True)
    assert code_of(raw.refresh(600)) == 0


def test_flows_that_the_new_policy_denies_are_cut_at_once() -> None:
    """FAULTS 13: channel, permission, Send and peer to client; a flow to another peer is not touched."""
    world = World()
    raw, other = bound(world), bound(world, 50001, OTHER)
    assert reaches(world, raw) == (True, True)
    world.server.reconfigure(make_config(policy=PeerPolicy(allow=LAB, deny=["192.0.2.0/24"])), world.now)
    world.run()
    assert any(isinstance(e, FlowRemoved) and e.peer == PEER for e in world.server_events)
    assert reaches(world, raw) == (False, False)
    world.to_peers.clear()
    raw.indicate((XOR_PEER_ADDRESS, PEER), (DATA, b"x"))
    assert world.to_peers == []
    assert world.server.stats.permissions == 1
    assert raw.permit(PEER) == 403
    assert code_of(raw.signed(Method.CHANNEL_BIND, CHANNEL, (XOR_PEER_ADDRESS, PEER))) == 403
    other.say(pack_header(0x4000, 2) + b"hi")
    assert [t.path.remote for t in world.to_peers] == [OTHER]
    assert ended(world) == []


def test_policy_may_open_too() -> None:
    world = World(make_config(policy=PeerPolicy()))
    raw = world.raw_client()
    raw.allocate()
    assert raw.permit(PEER) == 403
    world.server.reconfigure(make_config(), world.now)
    assert raw.permit(PEER) == 0


def test_tcp_connections_that_the_new_policy_denies_are_cut_at_once() -> None:
    """Issue 3: whatever the path, open flows end; a Connect that waits gets its 403."""
    world = World(make_config(tcp_relays=True))
    raw = tcp_client(world)
    assert code_of(raw.signed(Method.ALLOCATE, (REQUESTED_TRANSPORT, 6))) == 0
    assert raw.connect(PEER) is None
    [connection_id] = world.connecting
    world.answer_connect(connection_id)
    [answer] = raw.inbox()
    assert answer.get(CONNECTION_ID) == connection_id
    assert raw.connect(PEER.with_port(7001)) is None
    world.server.reconfigure(
        make_config(tcp_relays=True, policy=PeerPolicy(allow=LAB, deny=["192.0.2.77"])), world.now
    )
    world.run()
    released = [e.connection_id for e in world.server_events if isinstance(e, ConnectionReleased)]
    assert len(released) == 2
    assert [code_of(message) for message in raw.inbox()] == [403]
    assert code_of(raw.connect(PEER)) == 403


@pytest.mark.parametrize("alice", [{}, {"alice": "changed password"}])
def test_removed_user_and_changed_password_end_what_they_had(alice: dict[str, str]) -> None:
    world = World()
    raw, bob = bound(world), bound(world, 50001, username="bob")
    world.server.reconfigure(make_config(users={"bob": "battery staple"} | alice), world.now)
    world.run()
    assert ended(world) == [("alice", EndReason.DISCONNECTED)]
    assert reaches(world, raw) == (False, False)
    assert reaches(world, bob) == (True, True)
    assert code_of(raw.allocate()) == 401
    assert world.server.stats.relay_ports == 1


def test_sha256_clients_stay_as_long_as_their_password() -> None:
    world = World()
    raw = world.raw_client()
    assert code_of(second(raw)[0]) == 0
    world.server.reconfigure(make_config(limits=TurnLimits(allocations_per_user=3)), world.now)
    assert world.server.stats.allocations == 1
    world.server.reconfigure(make_config(password_algorithms=(Algorithm.MD5,)), world.now)
    assert world.server.stats.allocations == 1
    world.server.reconfigure(make_config(users={"alice": "other"}), world.now)
    assert world.server.stats.allocations == 0


def test_rest_user_ends_with_its_secret_not_with_its_expiry() -> None:
    """Rotation: the old secret stays for a while, then goes, and what was signed with it."""
    world = World(make_config(users={}, auth_secrets=("old",)))
    world.server.set_wall_offset(WALL - world.now)
    clients = {}
    for n, secret in enumerate(("old", "new")):
        if secret == "new":
            world.server.reconfigure(make_config(users={}, auth_secrets=("new", "old")), world.now)
        username, password = rest_credentials(secret, WALL, 60, secret)
        raw = clients[secret] = world.raw_client(50000 + n)
        assert code_of(raw.allocate(username=username, password=password)) == 0
    world.run(300.0)
    assert world.server.stats.allocations == 2
    world.server.reconfigure(make_config(users={}, auth_secrets=("new",)), world.now)
    world.run()
    assert [reason for _, reason in ended(world)] == [EndReason.DISCONNECTED]
    assert world.server.stats.allocations == 1


def test_allocate_that_waits_for_its_socket_is_not_forgotten() -> None:
    """A user revoked between RelayWanted and relay_opened gets nothing, and the socket is closed."""
    world = World()
    raw = world.raw_client()
    raw.challenge()
    server = world.server
    pumped, world._pump_server = world._pump_server, lambda: 0  # type: ignore[method-assign]
    raw.signed(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))
    server.reconfigure(make_config(users={"bob": "x"}), world.now)
    world._pump_server = pumped  # type: ignore[method-assign]
    world.run()
    assert server.stats.allocations == 0
    assert server.stats.relay_ports == 0
    assert world.relays == set()
    assert raw.inbox() == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("realm", "elsewhere"), ("relay_addresses", (RELAY,)), ("port_range", (50000, 50010))],
)
def test_what_cannot_change_is_refused_by_name_and_nothing_changes(field: str, value: Any) -> None:
    """FAULTS 159 for the core: the old configuration stays in force."""
    world = World()
    raw = bound(world)
    config = replace(make_config(users={}, policy=PeerPolicy()), **{field: value})
    with pytest.raises(ValueError, match=field):
        world.server.reconfigure(config, world.now)
    assert world.server.config == make_config(policy=world.server.config.policy)
    assert reaches(world, raw) == (True, True)
    assert code_of(raw.refresh(600)) == 0


def test_limits_software_and_channels_change() -> None:
    world = World()
    raw = bound(world)
    world.server.reconfigure(
        make_config(software="natwalk", rfc5766_channels=True, limits=TurnLimits(allocations_per_user=1)),
        world.now,
    )
    assert raw.refresh(600).get(SOFTWARE) == "natwalk"
    assert code_of(world.raw_client(50001).allocate()) == 486
    high = (CHANNEL_NUMBER, 0x7FFE)
    assert code_of(raw.signed(Method.CHANNEL_BIND, high, (XOR_PEER_ADDRESS, OTHER))) == 0
    world.to_peers.clear()
    raw.say(pack_header(0x7FFE, 2) + b"hi")
    assert [t.path.remote for t in world.to_peers] == [OTHER]
    binding = world.raw_client(50002).say(encode(request(Method.BINDING, bytes(12))))
    assert decode(binding[0]).get(SOFTWARE) == "natwalk"


def test_bandwidth_limits_come_and_go() -> None:
    """FAULTS 62, 118: a new limit holds for those who are connected; DERP's SIGHUP reload."""
    world = World()
    raw = bound(world)

    def passed() -> int:
        world.to_peers.clear()
        for _ in range(100):
            raw.say(pack_header(0x4000, 1200) + bytes(1200))
        return len(world.to_peers)

    assert passed() == 100
    world.server.reconfigure(make_config(limits=TurnLimits(bandwidth_per_user=1000)), world.now)
    assert passed() == 65_535 // 1200
    world.from_peer(bytes(1200), raw.relayed or PEER)
    assert world.raw[raw.address] == []
    stats = world.server.stats
    assert stats.throttled == 100 - 65_535 // 1200 + 1
    assert stats.throttled_users == 1
    world.server.reconfigure(make_config(), world.now)
    assert passed() == 100


def test_tcp_relays_are_told_to_pause() -> None:
    world = World(make_config(tcp_relays=True, limits=TurnLimits(bandwidth_per_user=10_000)))
    raw = tcp_client(world)
    world.accepting.add(PEER)
    raw.allocate_tcp()
    answer = raw.connect(PEER)
    assert answer is not None
    connection_id = answer.get(CONNECTION_ID) or 0
    assert world.server.transferred(connection_id, 30_000, 30_000, world.now) == 0.0
    pause = world.server.transferred(connection_id, 10_000, 5_535, world.now)
    assert pause == pytest.approx(1.0)
    assert world.server.transferred(connection_id, 0, 0, world.now + pause) == 0.0
    assert world.server.stats.bytes_relayed == 75_535


def test_user_without_bytes_left_gets_no_new_allocation() -> None:
    """FAULTS 19: 486 until a day has passed."""
    world = World(make_config(limits=TurnLimits(bytes_per_user_per_day=1000)))
    raw = bound(world)
    raw.say(pack_header(0x4000, 1000) + bytes(1000))
    raw.say(pack_header(0x4000, 1) + b"x")
    assert len(world.to_peers) == 1
    assert code_of(world.raw_client(50001).allocate()) == 486
    assert code_of(world.raw_client(50002, username="bob").allocate()) == 0
    world.run(90_000.0)
    assert code_of(world.raw_client(50003).allocate()) == 0


def test_disconnect_ends_every_allocation_of_a_user_and_only_those() -> None:
    world = World(make_config(users={"bob": "battery staple"}, auth_secrets=("s",)))
    world.server.set_wall_offset(WALL - world.now)
    for n in range(3):
        username, password = rest_credentials("s", WALL, 600 + n, "carol")
        assert code_of(world.raw_client(50000 + n).allocate(username=username, password=password)) == 0
    bob = bound(world, 50010, username="bob")
    assert world.server.disconnect("nobody", world.now) == 0
    assert world.server.disconnect("carol", world.now) == 3
    assert world.server.disconnect("carol", world.now) == 0
    world.run()
    assert [reason for _, reason in ended(world)] == [EndReason.DISCONNECTED] * 3
    assert reaches(world, bob) == (True, True)


def test_disconnected_client_over_tcp_loses_its_connection() -> None:
    world = World()
    raw = tcp_client(world)
    assert code_of(raw.allocate()) == 0
    assert world.server.disconnect("alice", world.now) == 1
    world.run()
    assert ClientReleased(raw.path) in world.server_events
    raw.close()
    assert ended(world) == [("alice", EndReason.DISCONNECTED)]


def test_draining_server_takes_no_new_allocations_and_keeps_the_old() -> None:
    """FAULTS 150: Refresh, data, channels and retransmissions go on; new ones get 508."""
    world = World()
    raw = bound(world)
    assert not world.server.stats.draining
    world.server.drain(world.now)
    assert world.server.stats.draining
    new = world.raw_client(50001)
    answer = new.allocate()
    assert code_of(answer) == 508
    assert MESSAGE_INTEGRITY in answer
    assert reaches(world, raw) == (True, True)
    assert code_of(raw.refresh(600)) == 0
    assert raw.permit(OTHER) == 0
    assert code_of(raw.allocate()) == 437
    world.run(700.0)
    assert world.server.stats.allocations == 0


def test_retransmitted_allocate_is_answered_while_draining() -> None:
    world = World()
    raw = world.raw_client()
    first = raw.allocate(tid=b"a" * 12)
    world.server.drain(world.now)
    again = raw.allocate(tid=b"a" * 12)
    assert again.raw == first.raw


def test_draining_server_sends_new_clients_elsewhere() -> None:
    """FAULTS 35, 150: ALTERNATE-SERVER only to those who proved themselves, signed, of their family."""
    alternate = Address("203.0.113.51", 3478)
    world = World()
    world.server.drain(world.now, alternate)
    raw = world.raw_client()
    stranger = raw.bare(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))
    assert code_of(stranger) == 401
    answer = raw.allocate()
    assert code_of(answer) == 300
    assert answer.get(ALTERNATE_SERVER) == alternate
    assert MESSAGE_INTEGRITY in answer
    assert code_of(world.raw_client(50001, host="2001:db8::9").allocate()) == 508


def test_own_endpoints_are_replaced_when_addresses_change() -> None:
    """FAULTS 8: a new address is refused at once, in running allocations too; one that went is free again."""
    first, second = Address("192.0.2.77", 9641), Address("192.0.2.78", 9641)
    world = World()
    world.server.set_own_endpoints([first])
    raw = world.raw_client()
    raw.allocate()
    assert code_of(raw.signed(Method.CHANNEL_BIND, CHANNEL, (XOR_PEER_ADDRESS, first))) == 403
    assert code_of(raw.signed(Method.CHANNEL_BIND, CHANNEL, (XOR_PEER_ADDRESS, second))) == 0
    world.server.set_own_endpoints([second])
    world.to_peers.clear()
    raw.say(pack_header(0x4000, 2) + b"hi")
    assert world.to_peers == []
    other = (CHANNEL_NUMBER, 0x4001)
    assert code_of(raw.signed(Method.CHANNEL_BIND, other, (XOR_PEER_ADDRESS, second))) == 403
    assert code_of(raw.signed(Method.CHANNEL_BIND, other, (XOR_PEER_ADDRESS, first))) == 0
    listener = (XOR_PEER_ADDRESS, LISTENER)
    assert code_of(raw.signed(Method.CHANNEL_BIND, (CHANNEL_NUMBER, 0x4002), listener)) == 403


def test_scanner_is_throttled_on_every_path_and_counted() -> None:
    """FAULTS 18: Send, ChannelBind and Connect draw on one allowance; the user is named a scanner."""
    world = World(make_config(limits=TurnLimits(new_peers_burst=10, new_peers_rate=1), tcp_relays=True))
    raw = world.raw_client()
    raw.allocate()
    assert raw.permit(PEER) == 0
    for n in range(9):
        raw.indicate((XOR_PEER_ADDRESS, PEER.with_port(7000 + n)), (DATA, b"x"))
    for _ in range(3):
        raw.indicate((XOR_PEER_ADDRESS, PEER.with_port(7000)), (DATA, b"x"))
    assert len(world.to_peers) == 12
    last = (XOR_PEER_ADDRESS, PEER.with_port(8000))
    assert code_of(raw.signed(Method.CHANNEL_BIND, CHANNEL, last)) == 0
    raw.indicate((XOR_PEER_ADDRESS, PEER.with_port(8001)), (DATA, b"x"))
    assert len(world.to_peers) == 12
    more = (XOR_PEER_ADDRESS, PEER.with_port(8002))
    assert code_of(raw.signed(Method.CHANNEL_BIND, (CHANNEL_NUMBER, 0x4001), more)) == 508
    tcp = tcp_client(world)
    tcp.allocate_tcp()
    assert code_of(tcp.connect(PEER.with_port(8002))) == 508
    assert (world.server.stats.peers_refused, world.server.stats.scanners) == (3, 1)
    assert code_of(raw.signed(Method.CHANNEL_BIND, CHANNEL, last)) == 0


def test_statistics_have_bounded_labels() -> None:
    world = World()
    raw = bound(world)
    for n in range(300):
        raw.signed(Method.REFRESH, (LIFETIME, n), username=f"user{n}", password="x")
    stats = world.server.stats
    assert set(stats.errors) <= {401, 441}
    assert stats.rate_limited > 200
    assert stats.by_transport == {Transport.UDP: 1}
    assert REALM_NAME not in repr(stats)


PASSWORDS = ("correct horse", "battery staple", "third password")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("allocate"), st.sampled_from("abc"), st.sampled_from(PASSWORDS)),
            st.tuples(
                st.just("reconfigure"),
                st.dictionaries(st.sampled_from("abc"), st.sampled_from(PASSWORDS), max_size=3),
                st.integers(1, 3),
            ),
            st.tuples(st.just("disconnect"), st.sampled_from("abc"), st.none()),
            st.tuples(st.just("drain"), st.none(), st.none()),
        ),
        max_size=20,
    )
)
def test_nobody_holds_what_the_configuration_would_not_grant(steps: list[tuple[str, Any, Any]]) -> None:
    """Whatever happens in whatever order: a model of who has how much agrees with the server."""
    users: dict[str, str] = {"a": PASSWORDS[0], "b": PASSWORDS[1]}
    quota, draining = 2, False
    world = World(make_config(users=users, limits=TurnLimits(allocations_per_user=quota)))
    held: dict[str, int] = {}
    for port, (command, what, extra) in enumerate(steps, 50000):
        if command == "allocate":
            raw = world.raw_client(port, host=f"198.51.100.{port - 49_999}")
            answer = code_of(raw.allocate(username=what, password=extra))
            expected = 0
            if users.get(what) != extra:
                expected = 401
            elif draining:
                expected = 508
            elif held.get(what, 0) >= quota:
                expected = 486
            assert answer == expected
            held[what] = held.get(what, 0) + (answer == 0)
        elif command == "reconfigure":
            held = {name: n for name, n in held.items() if what.get(name) == users.get(name)}
            users, quota = what, extra
            config = make_config(users=users, limits=TurnLimits(allocations_per_user=quota))
            world.server.reconfigure(config, world.now)
        elif command == "disconnect":
            assert world.server.disconnect(what, world.now) == held.pop(what, 0)
        else:
            draining = True
            world.server.drain(world.now)
        world.run()
        assert world.server.stats.allocations == sum(held.values()) == len(world.relays)
        assert {a.granted.username for a in world.server._table} == {n for n, k in held.items() if k}
