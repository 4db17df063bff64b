"""TCP allocations: Connect, ConnectionBind, connections from peers (RFC 6062)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from natwalk.core import Address, Outbox, Path, Transport
from natwalk.stun import (
    ADDITIONAL_ADDRESS_FAMILY,
    CHANNEL_NUMBER,
    CONNECTION_ID,
    DATA,
    DONT_FRAGMENT,
    EVEN_PORT,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    MessageClass,
    Method,
)
from natwalk.turn import (
    AllocationCreated,
    AllocationEnded,
    ConnectionJoined,
    ConnectionReleased,
    ConnectWanted,
    PeerPolicy,
    RelayReleased,
    RelayWanted,
    TurnLimits,
    rest_credentials,
)
from natwalk.turn.connections import PeerConnections
from turn_world import LISTENER, PEER, RELAY, RELAY6, Raw, World, code_of, make_config

TCP = Transport.TCP
STRANGER = Address("192.0.2.78", 7000)

RANGE_SCAN = """
    0.0.0.0 :: 127.0.0.1 127.0.0.8 127.255.255.254 ::1 10.0.0.1 10.255.255.254 172.16.0.1 172.31.255.254
    192.168.0.1 192.168.255.254 169.254.0.1 169.254.254.255 224.0.0.1 239.255.255.254 100.64.0.0
    100.127.255.254 192.0.0.1 192.0.0.254 192.0.2.1 192.0.2.254 198.18.0.1 198.19.255.254 198.51.100.1
    198.51.100.254 203.0.113.1 203.0.113.254 240.0.0.1 255.255.255.255 169.254.169.254 168.63.129.16
"""
DISGUISED = """
    ::ffff:127.0.0.1 ::127.0.0.1 ::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::7f00:1 2002:7f00:1::
    2001:0:1::1 fe80::1 fd00:ec2::254 fec0::1 ff02::1 2001:db8::1
"""


class Tcp:
    """A client on TCP with a TCP allocation, and others of its user for data."""

    def __init__(self, world: World | None = None, *attributes: object, transport: Transport = TCP) -> None:
        self.world = world or World(make_config(tcp_relays=True))
        self.control = self.world.raw_client(50000, transport=transport)
        answer = self.control.allocate_tcp(*attributes)
        assert code_of(answer) == 0
        assert self.control.relayed is not None
        self.relayed: Address = self.control.relayed

    def data(self, port: int = 51000, **options: str) -> Raw:
        return self.world.raw_client(port, transport=TCP, **options)

    def events(self, kind: type) -> list[object]:
        return [event for event in self.world.server_events if isinstance(event, kind)]

    def connected(self, peer: Address = PEER) -> int:
        """The id of an open connection to ``peer`` that waits for the client."""
        self.world.accepting.add(peer)
        answer = self.control.connect(peer)
        assert answer is not None
        connection_id = answer.get(CONNECTION_ID)
        assert connection_id is not None
        return connection_id

    def joined(self, peer: Address = PEER, port: int = 51000) -> tuple[int, Raw]:
        connection_id, data = self.connected(peer), self.data(port)
        assert data.bind_connection(connection_id) == 0
        return connection_id, data


def test_a_connection_id_lets_nobody_in_whose_credentials_have_expired() -> None:
    """What a TURN REST user holds may go on; nothing new begins with it but its own ConnectionBinds."""
    world = World(make_config(users={}, auth_secrets=("a secret of 128 bits",), tcp_relays=True))
    world.server.set_wall_offset(0.0)
    name, password = rest_credentials("a secret of 128 bits", world.now, 60, "mallory")
    client = world.raw_client(50000, username=name, transport=Transport.TCP)
    assert code_of(client.allocate_tcp(password=password)) == 0
    world.accepting.add(PEER)
    connected = client.signed(Method.CONNECT, (XOR_PEER_ADDRESS, PEER), password=password)
    number = connected.get(CONNECTION_ID) if connected is not None else None
    assert number is not None
    data = world.raw_client(50003, username=name, transport=Transport.TCP)
    assert data.bind_connection(number, password=password) == 0
    world.now += 300.0
    assert code_of(world.raw_client(50001, username=name).allocate(password=password)) == 401
    late = world.raw_client(50002, username=name)
    assert code_of(late.allocate((CONNECTION_ID, number), password=password)) == 401


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.TLS])
def test_a_tcp_allocation_is_a_socket_that_listens(transport: Transport) -> None:
    tcp = Tcp(transport=transport)
    assert tcp.world.tcp_relays == {tcp.relayed}
    assert tcp.world.relays == set()
    [wanted] = tcp.events(RelayWanted)
    assert wanted.transport is TCP  # type: ignore[attr-defined]
    [created] = tcp.events(AllocationCreated)
    assert created.relay_transport is TCP  # type: ignore[attr-defined]
    assert created.transport is transport  # type: ignore[attr-defined]
    assert code_of(tcp.control.refresh(0)) == 0
    [released] = tcp.events(RelayReleased)
    assert released.transport is TCP  # type: ignore[attr-defined]
    assert tcp.world.tcp_relays == set()


@pytest.mark.parametrize("on", [False, True])
@pytest.mark.parametrize("transport", [Transport.UDP, Transport.DTLS])
def test_tcp_is_relayed_for_streams_only_and_when_on(transport: Transport, on: bool) -> None:
    """FAULTS 16: 442 when off; 400 over what is no stream (RFC 6062 §5.1)."""
    world = World(make_config(tcp_relays=on))
    assert code_of(world.raw_client(transport=transport).allocate_tcp()) == (400 if on else 442)
    assert code_of(World().raw_client(transport=TCP).allocate_tcp()) == 442


@pytest.mark.parametrize("protocol", [n for n in range(256) if n not in {6, 17}])
def test_no_third_transport(protocol: int) -> None:
    """FAULTS 16: with TCP on, 6 and 17 and nothing else."""
    raw = World(make_config(tcp_relays=True)).raw_client(transport=TCP)
    assert code_of(raw.signed(Method.ALLOCATE, (REQUESTED_TRANSPORT, protocol))) == 442


@pytest.mark.parametrize(
    "attribute",
    [(EVEN_PORT, False), (EVEN_PORT, True), (RESERVATION_TOKEN, b"12345678"), (DONT_FRAGMENT, True)],
    ids=str,
)
def test_what_makes_no_sense_for_tcp_is_400(attribute: tuple[object, object]) -> None:
    """RFC 6062 §5.1."""
    raw = World(make_config(tcp_relays=True)).raw_client(transport=TCP)
    assert code_of(raw.allocate_tcp(attribute)) == 400


def test_both_families() -> None:
    tcp = Tcp(None, (ADDITIONAL_ADDRESS_FAMILY, 2))
    assert {relay.host for relay in tcp.world.tcp_relays} == {RELAY, RELAY6}
    peer6 = Address("2001:db8::77", 7000)
    tcp.connected(PEER)
    tcp.connected(peer6)
    wanted = tcp.events(ConnectWanted)
    assert [(e.relay.host, e.peer) for e in wanted] == [(RELAY, PEER), (RELAY6, peer6)]  # type: ignore[attr-defined]


def test_connect_is_answered_when_the_connection_is_there() -> None:
    """RFC 6062 §5.2; no permission is needed, and none is installed."""
    tcp = Tcp()
    assert tcp.control.connect(PEER) is None
    [wanted] = tcp.world.connecting.values()
    assert (wanted.relay, wanted.peer) == (tcp.relayed, PEER)
    tcp.world.answer_connect(wanted.connection_id)
    [answer] = tcp.control.inbox()
    assert (answer.method, answer.message_class) == (Method.CONNECT, MessageClass.SUCCESS)
    assert answer.get(CONNECTION_ID) == wanted.connection_id
    assert tcp.world.server.stats.permissions == 0
    assert tcp.world.server.stats.connections == 1


def test_connect_that_fails_is_447_and_may_be_tried_again() -> None:
    tcp = Tcp()
    tcp.control.connect(PEER)
    [connection_id] = tcp.world.connecting
    tcp.world.answer_connect(connection_id, succeeds=False)
    assert [code_of(answer) for answer in tcp.control.inbox()] == [447]
    assert tcp.world.server.stats.connections == 0
    assert tcp.connected() != connection_id


def test_connect_that_takes_thirty_seconds_is_447() -> None:
    """RFC 6062 §5.2: the core says when, and the driver gives up."""
    tcp = Tcp()
    tcp.control.connect(PEER)
    [connection_id] = tcp.world.connecting
    tcp.world.run(29.9)
    assert tcp.control.inbox() == []
    tcp.world.run(0.2)
    assert [code_of(answer) for answer in tcp.control.inbox()] == [447]
    assert tcp.events(ConnectionReleased) == [ConnectionReleased(connection_id)]
    tcp.world.server.peer_connected(connection_id, tcp.world.now)
    tcp.world.server.peer_connect_failed(connection_id, tcp.world.now)
    tcp.world.run()
    assert tcp.control.inbox() == []


def test_one_connection_a_peer() -> None:
    """RFC 6062 §5.2: 446 while connecting, while unbound and while joined; not after."""
    tcp = Tcp()
    tcp.control.connect(PEER)
    assert code_of(tcp.control.connect(PEER)) == 446
    [connection_id] = tcp.world.connecting
    tcp.world.answer_connect(connection_id)
    assert code_of(tcp.control.connect(PEER)) == 446
    assert tcp.data().bind_connection(connection_id) == 0
    assert code_of(tcp.control.connect(PEER)) == 446
    assert tcp.control.connect(PEER.with_port(7001)) is None
    tcp.world.connections.discard(connection_id)
    tcp.world.server.connection_closed(connection_id, tcp.world.now)
    assert tcp.control.connect(PEER) is None


@pytest.mark.parametrize("host", (RANGE_SCAN + DISGUISED).split())
def test_connect_to_a_refused_address_is_403_and_opens_nothing(host: str) -> None:
    """FAULTS 2: each 403, never 447, and the driver is not asked; FAULTS 4 for the disguises."""
    world = World(make_config(tcp_relays=True, policy=PeerPolicy()))
    family = 2 if ":" in host else 1
    tcp = Tcp(world, (REQUESTED_ADDRESS_FAMILY, family))
    assert code_of(tcp.control.connect(Address(host, 80))) == 403
    assert tcp.events(ConnectWanted) == []


@pytest.mark.parametrize("port", [0, 25, 53, 3478])
def test_connect_to_a_refused_port_or_the_server_itself_is_403(port: int) -> None:
    """FAULTS 8."""
    tcp = Tcp()
    host = RELAY if port == 3478 else PEER.host
    assert code_of(tcp.control.connect(Address(host, port))) == 403
    assert tcp.events(ConnectWanted) == []


@pytest.mark.parametrize("port", [22, 443, 50000, 60000])
def test_connect_to_the_servers_own_hosts_is_403(port: int) -> None:
    world = World(make_config(tcp_relays=True, policy=PeerPolicy(allow=["192.0.2.0/24"])))
    assert code_of(Tcp(world).control.connect(Address(RELAY, port))) == 403


def test_allow_does_not_open_what_deny_closes_on_any_path() -> None:
    """FAULTS 13: permission, channel, Send, Connect and a peer's connection agree on 'deny wins'."""
    policy = PeerPolicy(allow=["10.0.0.0/8", "2002::/16"], deny=["10.0.0.5", "10.1.0.0/16"])
    world = World(make_config(tcp_relays=True, policy=policy))
    tcp = Tcp(world)
    udp = world.raw_client(50001)
    udp.allocate()
    relay = world.server._table.by_tcp_relay[tcp.relayed]
    udp_relay = world.server._table.by_relay[udp.relayed]  # type: ignore[index]
    for host in ("10.0.0.5", "10.1.2.3", "0.0.0.1", "169.254.169.254"):
        peer = Address(host, 8080)
        assert udp.permit(peer) == 403
        assert udp.bind_channel(0x4000, peer) == 403
        assert code_of(tcp.control.connect(peer)) == 403
        for forced in (relay, udp_relay):
            world.server._table.permit(forced.allocation, host, world.now)
        udp.indicate((XOR_PEER_ADDRESS, peer), (DATA, b"x"))
        world.from_peer(b"x", udp_relay.address, peer)
        assert world.peer_connects(tcp.relayed, peer) is None
    assert world.to_peers == []
    assert world.raw[udp.address] == []
    assert tcp.control.connect(Address("10.0.0.6", 8080)) is None


def test_family_mismatch_is_443() -> None:
    """FAULTS 15."""
    assert code_of(Tcp().control.connect(Address("2001:db8::77", 80))) == 443
    tcp6 = Tcp(None, (REQUESTED_ADDRESS_FAMILY, 2))
    assert code_of(tcp6.control.connect(PEER)) == 443


def test_connect_needs_a_tcp_allocation_and_a_peer() -> None:
    """RFC 6062 §5.2: 437 without an allocation, 400 on one for UDP or without XOR-PEER-ADDRESS."""
    world = World(make_config(tcp_relays=True))
    raw = world.raw_client(transport=TCP)
    assert code_of(raw.connect(PEER)) == 437
    raw.allocate()
    assert code_of(raw.connect(PEER)) == 400
    assert code_of(Tcp(world=World(make_config(tcp_relays=True))).control.signed(Method.CONNECT)) == 400
    assert code_of(Tcp().control.signed(Method.CONNECT, (XOR_PEER_ADDRESS, PEER), username="bob")) == 441


def test_the_number_of_connections_is_bounded_both_ways() -> None:
    world = World(make_config(tcp_relays=True, limits=TurnLimits(connections_per_allocation=2)))
    tcp = Tcp(world)
    tcp.control.permit(PEER)
    tcp.control.connect(PEER)
    assert world.peer_connects(tcp.relayed, PEER.with_port(7001)) is not None
    assert code_of(tcp.control.connect(PEER.with_port(7002))) == 508
    assert world.peer_connects(tcp.relayed, PEER.with_port(7003)) is None
    assert world.server.drops.counts["one connection too many from a peer"] == 1


def test_a_peers_connection_is_announced() -> None:
    """RFC 6062 §5.3."""
    tcp = Tcp()
    tcp.control.permit(PEER)
    connection_id = tcp.world.peer_connects(tcp.relayed)
    assert connection_id is not None
    [attempt] = tcp.control.inbox()
    assert (attempt.method, attempt.message_class) == (Method.CONNECTION_ATTEMPT, MessageClass.INDICATION)
    assert (attempt.get(XOR_PEER_ADDRESS), attempt.get(CONNECTION_ID)) == (PEER, connection_id)
    data = tcp.data()
    assert data.bind_connection(connection_id) == 0
    assert tcp.events(ConnectionJoined) == [ConnectionJoined(connection_id, data.path)]


def test_peers_without_permission_are_closed_at_once() -> None:
    """RFC 6062 §5.3; the port does not count, and an expired permission is none."""
    tcp = Tcp()
    assert tcp.world.peer_connects(tcp.relayed) is None
    tcp.control.permit(PEER)
    assert tcp.world.peer_connects(tcp.relayed, STRANGER) is None
    assert tcp.world.peer_connects(tcp.relayed, PEER.with_port(1234)) is not None
    tcp.world.now += 300.0
    assert tcp.world.server.peer_accepted(tcp.relayed, PEER, tcp.world.now) is None
    assert len(tcp.control.inbox()) == 1
    assert tcp.world.server.peer_accepted(tcp.relayed.with_port(9), PEER, tcp.world.now) is None


def test_the_same_peer_twice_is_refused() -> None:
    tcp = Tcp()
    tcp.control.permit(PEER)
    assert tcp.world.peer_connects(tcp.relayed) is not None
    assert tcp.world.peer_connects(tcp.relayed) is None


@pytest.mark.parametrize("way", ["connect", "accept"])
def test_what_nobody_binds_for_thirty_seconds_is_closed(way: str) -> None:
    """RFC 6062 §5.2, §5.3."""
    tcp = Tcp()
    tcp.control.permit(PEER)
    connection_id = tcp.connected() if way == "connect" else tcp.world.peer_connects(tcp.relayed)
    assert connection_id is not None
    tcp.world.run(29.9)
    assert tcp.events(ConnectionReleased) == []
    tcp.world.run(0.2)
    assert tcp.events(ConnectionReleased) == [ConnectionReleased(connection_id)]
    assert tcp.data().bind_connection(connection_id) == 400
    assert tcp.world.connections == set()


def test_a_joined_connection_lives_as_long_as_the_allocation() -> None:
    tcp = Tcp()
    tcp.joined()
    tcp.world.run(599.0)
    assert tcp.events(ConnectionReleased) == []
    tcp.world.run(2.0)
    assert len(tcp.events(ConnectionReleased)) == 1
    assert tcp.world.connections == set()
    assert tcp.world.server.stats.connections == 0


@pytest.mark.parametrize("state", ["connecting", "unbound", "joined"])
def test_connections_end_with_the_allocation(state: str) -> None:
    tcp = Tcp()
    if state == "connecting":
        tcp.control.connect(PEER)
    elif state == "unbound":
        tcp.connected()
    else:
        tcp.joined()
    tcp.control.close()
    assert len(tcp.events(ConnectionReleased)) == 1
    assert tcp.world.connections == set()
    assert tcp.world.connecting == {}
    assert tcp.world.tcp_relays == set()
    assert tcp.world.server.next_timeout() is None


def test_a_client_connection_that_closes_takes_the_peers_along() -> None:
    """RFC 6062 §5.5; whichever way the driver tells, and only once."""
    tcp = Tcp()
    connection_id, data = tcp.joined()
    data.close()
    assert tcp.events(ConnectionReleased) == [ConnectionReleased(connection_id)]
    tcp.world.server.connection_closed(connection_id, tcp.world.now)
    data.close()
    assert tcp.world.server.stats.connections == 0
    assert tcp.world.server.stats.allocations == 1
    second, other = tcp.joined(port=51001)
    tcp.world.connections.remove(second)
    tcp.world.server.connection_closed(second, tcp.world.now)
    other.close()
    assert len(tcp.events(ConnectionReleased)) == 1


def test_bind_is_for_the_user_of_the_allocation() -> None:
    """RFC 6062 §5.4: an id alone is worth nothing."""
    tcp = Tcp()
    connection_id = tcp.connected()
    assert tcp.data(51000, username="bob").bind_connection(connection_id) == 441
    assert tcp.data(51001).bind_connection(connection_id, password="wrong") == 401
    assert tcp.data(51002).bind_connection(connection_id) == 0


def test_bind_comes_on_a_fresh_stream_and_once() -> None:
    tcp = Tcp()
    connection_id = tcp.connected()
    assert tcp.control.bind_connection(connection_id) == 400
    assert tcp.world.raw_client(51009).bind_connection(connection_id) == 400
    assert code_of(tcp.data().signed(Method.CONNECTION_BIND)) == 400
    assert tcp.data(51001).bind_connection(connection_id ^ 1) == 400
    assert tcp.data(51002).bind_connection(connection_id) == 0
    assert tcp.data(51003).bind_connection(connection_id) == 400


def test_a_connection_on_which_an_allocation_is_being_made_cannot_be_bound() -> None:
    tcp = Tcp()
    connection_id, other = tcp.connected(), tcp.data()
    held: list[RelayWanted] = []
    tcp.world._open = held.append  # type: ignore[method-assign]
    assert other.signed(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17)) is None
    assert other.bind_connection(connection_id) == 400


def test_a_connection_that_is_not_open_yet_cannot_be_bound() -> None:
    tcp = Tcp()
    tcp.control.connect(PEER)
    [connection_id] = tcp.world.connecting
    assert tcp.data().bind_connection(connection_id) == 400


def test_rest_credentials_that_expired_since_still_bind() -> None:
    """An expiry limits when a session starts: the data connection belongs to one that has."""
    world = World(make_config(users={}, auth_secrets=("s",), tcp_relays=True))
    world.server.set_wall_offset(0.0)
    username, password = rest_credentials("s", world.now, 60, "alice")
    login = {"username": username, "password": password}
    control = world.raw_client(50000, transport=TCP)
    assert code_of(control.allocate_tcp(**login)) == 0
    world.run(120.0)
    world.accepting.add(PEER)
    answer = control.signed(Method.CONNECT, (XOR_PEER_ADDRESS, PEER), **login)
    assert answer is not None
    connection_id = answer.get(CONNECTION_ID)
    assert connection_id is not None
    assert world.raw_client(51000, transport=TCP).bind_connection(connection_id, **login) == 0


def test_datagrams_are_refused_on_a_tcp_allocation() -> None:
    """Send, ChannelBind and ChannelData are for UDP."""
    tcp = Tcp()
    assert tcp.control.permit(PEER) == 0
    tcp.control.indicate((XOR_PEER_ADDRESS, PEER), (DATA, b"x"))
    assert tcp.world.to_peers == []
    answer = tcp.control.signed(Method.CHANNEL_BIND, (CHANNEL_NUMBER, 0x4000), (XOR_PEER_ADDRESS, PEER))
    assert code_of(answer) == 400
    tcp.world.server.receive(b"x", Path(tcp.relayed, PEER), tcp.world.now)
    assert tcp.world.server.poll_transmit() is None


def test_two_allocations_of_one_server_reach_each_other() -> None:
    """Over TCP only where a TCP relay is open; over UDP that port is nobody's (FAULTS 8)."""
    world = World(make_config(tcp_relays=True, policy=PeerPolicy(allow=["192.0.2.0/24"])))
    one = Tcp(world)
    other = world.raw_client(50001, transport=TCP)
    other.allocate_tcp()
    assert other.relayed is not None
    assert other.permit(one.relayed) == 0
    assert one.control.connect(other.relayed) is None
    assert world.peer_connects(other.relayed, one.relayed) is not None
    udp = world.raw_client(50002)
    udp.allocate()
    assert udp.relayed is not None
    assert udp.bind_channel(0x4000, other.relayed) == 403
    assert code_of(one.control.connect(udp.relayed)) == 403


def test_an_own_endpoint_that_turns_up_cuts_connections_to_it() -> None:
    tcp = Tcp()
    tcp.joined(PEER)
    tcp.control.connect(PEER.with_port(7001))
    tcp.control.inbox()
    tcp.world.server.add_own_endpoint(PEER)
    tcp.world.run()
    assert len(tcp.events(ConnectionReleased)) == 1
    tcp.world.server.add_own_endpoint(PEER.with_port(7001))
    tcp.world.run()
    assert len(tcp.events(ConnectionReleased)) == 2
    assert [code_of(answer) for answer in tcp.control.inbox()] == [403]
    assert tcp.world.connections == set()


def test_bytes_are_counted() -> None:
    tcp = Tcp()
    connection_id, _ = tcp.joined()
    assert tcp.world.server.transferred(connection_id, 1000, 234, tcp.world.now) == 0.0
    assert tcp.world.server.transferred(connection_id, 1, 0, tcp.world.now) == 0.0
    assert tcp.world.server.transferred(connection_id ^ 1, 5, 5, tcp.world.now) == 0.0
    tcp.control.refresh(0)
    [ended] = tcp.events(AllocationEnded)
    assert (ended.counters.bytes_to_peers, ended.counters.bytes_from_peers) == (1001, 234)  # type: ignore[attr-defined]


def test_randomness_that_repeats_itself_is_noticed() -> None:
    tcp = Tcp()
    relay = tcp.world.server._table.by_tcp_relay[tcp.relayed]
    connections = PeerConnections(Outbox(), lambda n: b"\x01" * n)
    assert connections.accept(relay, PEER, 0.0).id == 0x01010101
    with pytest.raises(RuntimeError):
        connections.accept(relay, STRANGER, 0.0)


def test_ids_do_not_tell_each_other() -> None:
    tcp = Tcp()
    ids = [tcp.connected(PEER.with_port(7000 + n)) for n in range(64)]
    assert len(set(ids)) == 64
    gaps = {b - a for a, b in pairwise(ids)}
    assert len(gaps) == 63
    assert max(ids) > 2**31


def test_a_relay_port_has_one_socket_whatever_the_transport() -> None:
    world = World(make_config(tcp_relays=True, port_range=(50000, 50001)))
    tcp = Tcp(world)
    udp = world.raw_client(50001)
    answer = udp.allocate()
    relayed = answer.get(XOR_RELAYED_ADDRESS)
    assert relayed is not None
    assert relayed != tcp.relayed
    assert code_of(world.raw_client(50002).allocate()) == 508
    assert LISTENER not in world.tcp_relays
