"""Permissions, channels and queues of the client, against the server core on a virtual clock."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import pairwise

from conformance import drain
from natwalk.core import Address, Path
from natwalk.stun import Method, decode, is_stun
from natwalk.turn import PeerData, PeerPolicy, PermissionDenied, TurnClient, TurnLimits
from natwalk.turn.client_peers import MAX_PEER_HOSTS, MAX_PEERS, MAX_QUEUED, MAX_QUEUED_PER_PEER
from turn_world import LISTENER, PEER, World, make_config


def sent(world: World) -> list[bytes]:
    found = [out.data for out in world.to_peers]
    world.to_peers.clear()
    return found


def denials(world: World, client: TurnClient) -> list[PermissionDenied]:
    return [event for event in world.events[client.local] if isinstance(event, PermissionDenied)]


def watch(world: World) -> list[tuple[float, Method | int]]:
    """Every request that reaches the server from now on, with its time."""
    seen: list[tuple[float, Method | int]] = []
    original = world.server.receive

    def receive(datagram: bytes, path: Path, now: float) -> None:
        if path.local == LISTENER and is_stun(datagram):
            seen.append((now, decode(datagram).method))
        original(datagram, path, now)

    world.server.receive = receive  # type: ignore[method-assign]
    return seen


def test_first_datagram_waits_for_the_permission_and_then_goes() -> None:
    world = World()
    client = world.allocated()
    client.send(b"first", PEER, world.now)
    assert client.overhead(PEER) == 39
    world.run()
    assert sent(world) == [b"first"]


def test_a_v4_mapped_peer_is_refused_like_any_other() -> None:
    """Its text has two spellings, which must not be two peers."""
    world = World()
    client = world.allocated(family=6)
    peer = ip_address("::ffff:7f00:1")
    client.create_permission([peer], world.now)
    world.run()
    assert [(denied.peer, denied.code) for denied in denials(world, client)] == [(peer, 403)]


def test_queue_in_front_of_a_permission_is_bounded() -> None:
    """16 datagrams a peer; the newest are dropped and counted."""
    world = World()
    client = world.allocated()
    for n in range(20):
        client.send(b"%d" % n, PEER, world.now)
    world.run()
    assert sent(world) == [b"%d" % n for n in range(MAX_QUEUED_PER_PEER)]
    assert client.drops.counts["the queue in front of a permission is full"] == 4


def test_queues_together_are_bounded_and_hosts_too() -> None:
    world = World(make_config(policy=PeerPolicy(), limits=TurnLimits(permissions_per_allocation=1024)))
    client = world.allocated()
    for n in range(MAX_PEER_HOSTS + 5):
        for _ in range(3):
            client.send(b"x", Address(f"20.0.{n >> 8}.{n & 255}", 9), world.now)
    world.run()
    assert len(sent(world)) == MAX_QUEUED
    assert client.drops.counts["too many peers"] == 15
    client.create_permission([ip_address("21.0.0.1")], world.now)
    world.run()
    assert [(d.code, d.reason) for d in denials(world, client)] == [(None, "too many peers")]


def test_peers_with_channels_are_bounded() -> None:
    world = World()
    client = world.allocated()
    for n in range(MAX_PEERS + 2):
        client.bind_channel(PEER.with_port(10_000 + n), world.now)
    transmits, events = drain(client)
    assert len(transmits) == MAX_PEERS
    assert events == [PermissionDenied(PEER.ip, None, "too many peers")] * 2


def test_channel_is_bound_once_the_peer_talks_back() -> None:
    """After four datagrams to a peer that answers; before, indications."""
    world = World()
    client = world.allocated()
    for n in range(3):
        client.send(b"%d" % n, PEER, world.now)
        world.run()
    assert client.relayed is not None
    world.from_peer(b"answer", client.relayed)
    assert client.overhead(PEER) == 39
    client.send(b"3", PEER, world.now)
    world.run()
    assert client.overhead(PEER) == 4
    client.send(b"4", PEER, world.now)
    world.run()
    assert sent(world) == [b"0", b"1", b"2", b"3", b"4"]
    world.from_peer(b"by channel", client.relayed)
    assert world.events[client.local][-1] == PeerData(b"by channel", PEER)


def test_silent_peer_gets_a_channel_only_after_many_datagrams() -> None:
    """ICE checks to a dead candidate do not cost a channel each."""
    world = World()
    client = world.allocated()
    for n in range(32):
        assert client.overhead(PEER) == 39
        client.send(b"%d" % n, PEER, world.now)
        world.run()
    assert client.overhead(PEER) == 4


def test_bind_channel_needs_no_permission_first() -> None:
    world = World()
    client = world.allocated()
    client.bind_channel(PEER, world.now)
    client.bind_channel(PEER, world.now)
    world.run()
    assert world.server.stats.flows == 1
    client.send(b"x", PEER, world.now)
    world.run()
    assert sent(world) == [b"x"]
    assert client._peers._permissions.keys() == {PEER.host}


def test_data_that_come_before_the_bind_is_confirmed_are_delivered() -> None:
    """The server may use a channel before its response arrives (RFC 8656 §12.3)."""
    world = World()
    client = world.allocated()
    client.bind_channel(PEER, world.now)
    client.receive(b"\x40\x00\x00\x01x", Path(client.local, LISTENER), world.now)
    world.run()
    assert PeerData(b"x", PEER) in world.events[client.local]


def test_permissions_channels_and_allocation_are_kept_up_for_hours() -> None:
    """Permission refreshed within 240 s, channel within 600 s, allocation at half-life; nobody sends data."""
    world = World()
    client = world.allocated()
    client.create_permission([PEER.ip], world.now)
    client.bind_channel(PEER.with_port(7001), world.now)
    world.run()
    seen = watch(world)
    start = world.now
    world.run(4 * 3600.0)
    assert client.relayed is not None
    world.from_peer(b"still there", client.relayed)
    world.from_peer(b"by channel", client.relayed, PEER.with_port(7001))
    assert world.events[client.local][-2:] == [
        PeerData(b"still there", PEER),
        PeerData(b"by channel", PEER.with_port(7001)),
    ]
    permitting = {Method.CREATE_PERMISSION, Method.CHANNEL_BIND}  # a ChannelBind refreshes a permission, too
    for methods, longest in ((permitting, 240), ({Method.CHANNEL_BIND}, 301), ({Method.REFRESH}, 301)):
        times = [start] + [at for at, each in seen if each in methods]
        assert max(after - before for before, after in pairwise(times)) <= longest
        assert len(times) < 200
    assert world.server.stats.flows == 1


def test_refused_peer_is_reported_and_asked_again_later_only() -> None:
    world = World()
    client = world.allocated()
    bad = Address("127.0.0.1", 9)
    client.send(b"x", bad, world.now)
    world.run()
    assert [(d.peer, d.code) for d in denials(world, client)] == [(bad.ip, 403)]
    seen = watch(world)
    for _ in range(5):
        client.send(b"x", bad, world.now)
        world.run(1.0)
    assert seen == []
    assert client.drops.counts["sent to a peer the server refuses"] == 5
    world.run(30.0)
    client.send(b"x", bad, world.now)
    world.run()
    assert len(denials(world, client)) == 2
    client.create_permission([bad.ip], world.now)
    world.run()
    assert len(denials(world, client)) == 3


def test_refused_channel_is_reported_when_there_is_no_permission() -> None:
    world = World()
    client = world.allocated()
    client.bind_channel(LISTENER, world.now)
    world.run()
    assert [(d.peer, d.code) for d in denials(world, client)] == [(LISTENER.ip, 403)]


def test_refused_channel_leaves_indications() -> None:
    """Out of channels on the server: data go on as indications, and a channel is tried again later."""
    world = World(make_config(limits=TurnLimits(channels_per_allocation=1)))
    client = world.allocated()
    client.bind_channel(PEER, world.now)
    other = PEER.with_port(7001)
    for n in range(40):
        client.send(b"%d" % n, other, world.now)
        world.run()
    assert sent(world) == [b"%d" % n for n in range(40)]
    assert client.overhead(other) == 39
    assert denials(world, client) == []
    seen = watch(world)
    world.run(310.0)
    client.send(b"again", other, world.now)
    world.run()
    assert [method for _, method in seen].count(Method.CHANNEL_BIND) == 2  # PEER's refresh and one try
    assert sent(world) == [b"again"]


def test_data_from_peers_never_permitted_are_dropped() -> None:
    """RFC 8656 §11.4: a server that relays from strangers is not believed."""
    from natwalk.stun import DATA, XOR_PEER_ADDRESS, encode, indication

    world = World()
    client = world.allocated()
    path = Path(client.local, LISTENER)
    forged = encode(indication(Method.DATA, bytes(12), (XOR_PEER_ADDRESS, PEER), (DATA, b"x")))
    client.receive(forged, path, world.now)
    client.receive(b"\x40\x00\x00\x01x", path, world.now)
    client.receive(b"\x40\x00\x00\x09x", path, world.now)
    client.receive(encode(indication(Method.DATA, bytes(12), (DATA, b"x"))), path, world.now)
    assert client.poll_event() is None
    assert client.drops.counts == {
        "data from a peer without permission": 1,
        "ChannelData on a channel never bound": 1,
        "malformed ChannelData": 1,
        "a Data indication that is incomplete": 1,
    }
