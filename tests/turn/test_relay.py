"""The data plane: FAULTS A 1, 3, 4, 8, 17, B 26, 28, 29, C 45, D 59."""

from __future__ import annotations

import pytest

from natwalk.core import Address, Path
from natwalk.stun import (
    CHANNEL_NUMBER,
    DATA,
    DONT_FRAGMENT,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    XOR_PEER_ADDRESS,
    MessageClass,
    Method,
    decode,
    encode,
    indication,
)
from natwalk.stun.attributes import unknown
from natwalk.turn import AllocationEnded, Counters, PeerPolicy
from natwalk.turn.channel_data import decode_channel_data, encode_channel_data
from turn_world import LISTENER, PEER, RELAY, World, make_config


class Flow:
    """A raw client with an allocation, a permission for PEER and, if asked, channel 0x4000 to it."""

    def __init__(self, world: World, *, channel: bool = False) -> None:
        self.world = world
        self.raw = world.raw_client()
        self.raw.allocate((LIFETIME, 3600))
        assert self.raw.relayed is not None
        self.relayed: Address = self.raw.relayed
        if channel:
            self.raw.signed(Method.CHANNEL_BIND, (CHANNEL_NUMBER, 0x4000), (XOR_PEER_ADDRESS, PEER))
        else:
            self.raw.permit(PEER)

    def from_peer(self, data: bytes, peer: Address = PEER) -> list[bytes]:
        inbox = self.world.raw[self.raw.address]
        inbox.clear()
        self.world.from_peer(data, self.relayed, peer)
        return list(inbox)

    def sent(self) -> list[bytes]:
        found = [out.data for out in self.world.to_peers]
        self.world.to_peers.clear()
        return found


def test_send_indication_goes_to_the_peer_from_the_relay() -> None:
    flow = Flow(World())
    assert flow.raw.indicate((XOR_PEER_ADDRESS, PEER), (DATA, b"hello")) == []
    [out] = flow.world.to_peers
    assert out.data == b"hello"
    assert out.path == Path(flow.relayed, PEER)


def test_empty_data_is_an_empty_datagram() -> None:
    flow = Flow(World())
    flow.raw.indicate((XOR_PEER_ADDRESS, PEER), (DATA, b""))
    assert flow.sent() == [b""]


def test_peer_data_comes_as_an_indication() -> None:
    flow = Flow(World())
    [datagram] = flow.from_peer(b"answer", PEER.with_port(7777))
    message = decode(datagram)
    assert (message.method, message.message_class) == (Method.DATA, MessageClass.INDICATION)
    assert message.get(XOR_PEER_ADDRESS) == PEER.with_port(7777)
    assert message.get(DATA) == b"answer"


def test_channel_carries_both_ways() -> None:
    """Only that peer's port uses the channel; another port of its host gets indications."""
    flow = Flow(World(), channel=True)
    flow.raw.say(encode_channel_data(0x4000, b"ping") + b"pad")
    assert flow.sent() == [b"ping"]
    [datagram] = flow.from_peer(b"pong")
    assert decode_channel_data(datagram) == (0x4000, b"pong")
    [datagram] = flow.from_peer(b"pong", PEER.with_port(7001))
    assert decode(datagram).get(DATA) == b"pong"


def test_padding_sent_to_clients_is_zero() -> None:
    """FAULTS 27: 1000 indications with 1 to 3 pad bytes, after another client sent a marker."""
    flow = Flow(World())
    flow.raw.indicate((XOR_PEER_ADDRESS, PEER), (DATA, b"\xa5" * 1000))
    for n in range(1000):
        [datagram] = flow.from_peer(b"x" * (1 + n % 3))
        assert b"\xa5\xa5" not in datagram
        assert datagram.endswith(b"x" + bytes(3 - n % 3))


def test_without_permission_nothing_passes_either_way() -> None:
    flow = Flow(World())
    stranger = Address("192.0.2.78", 7000)
    assert flow.from_peer(b"x", stranger) == []
    flow.raw.indicate((XOR_PEER_ADDRESS, stranger), (DATA, b"x"))
    assert flow.sent() == []
    assert flow.world.server.drops.counts["from a peer without permission"] == 1
    assert flow.world.server.drops.counts["Send to a peer without permission"] == 1


def straight(flow: Flow, message: bytes, path: Path) -> int:
    """How many datagrams leave when ``message`` comes right now, with no timer run before."""
    server = flow.world.server
    server.receive(message, path, flow.world.now)
    count = 0
    while server.poll_transmit() is not None:
        count += 1
    return count


def test_permission_of_300_seconds_is_exact_both_ways() -> None:
    """FAULTS 59: data after expiry are dropped, with the timer or before it."""
    flow = Flow(World())
    send = encode(indication(Method.SEND, bytes(12), (XOR_PEER_ADDRESS, PEER), (DATA, b"x")))
    client, peer = Path(LISTENER, flow.raw.address), Path(flow.relayed, PEER)
    flow.world.now += 299.9
    assert (straight(flow, send, client), straight(flow, b"y", peer)) == (1, 1)
    flow.world.now += 0.1
    assert (straight(flow, send, client), straight(flow, b"y", peer)) == (0, 0)
    flow.world.run(1.0)
    assert (straight(flow, send, client), straight(flow, b"y", peer)) == (0, 0)


def test_channel_carries_to_the_peer_for_600_seconds_and_back_as_long_as_permitted() -> None:
    """FAULTS 59: the channel binds for 600 s; what comes back needs the permission of 300 s."""
    flow = Flow(World(), channel=True)
    message = encode_channel_data(0x4000, b"x")
    client, peer = Path(LISTENER, flow.raw.address), Path(flow.relayed, PEER)
    flow.world.now += 299.9
    assert (straight(flow, message, client), straight(flow, b"y", peer)) == (1, 1)
    flow.world.now += 0.1
    assert (straight(flow, message, client), straight(flow, b"y", peer)) == (1, 0)
    flow.world.run(1.0)
    assert (straight(flow, message, client), straight(flow, b"y", peer)) == (1, 0)
    flow.world.run(298.9)
    flow.raw.permit(PEER)
    assert (straight(flow, message, client), straight(flow, b"y", peer)) == (1, 1)
    flow.world.now += 0.1
    assert (straight(flow, message, client), straight(flow, b"y", peer)) == (0, 1)
    flow.world.run(1.0)
    assert (straight(flow, message, client), straight(flow, b"y", peer)) == (0, 1)


def test_nothing_passes_at_the_instant_the_allocation_expires() -> None:
    """FAULTS 59."""
    flow = Flow(World(), channel=True)
    flow.world.run(299.0)
    flow.raw.challenge()
    flow.raw.refresh(600)
    for _ in range(2):
        flow.world.run(290.0)
        flow.raw.challenge()
        flow.raw.permit(PEER)
    flow.world.now += 20.0
    server = flow.world.server
    server.receive(encode_channel_data(0x4000, b"x"), Path(LISTENER, flow.raw.address), flow.world.now)
    server.receive(b"y", Path(flow.relayed, PEER), flow.world.now)
    attributes = ((XOR_PEER_ADDRESS, PEER), (DATA, b"x"))
    send = encode(indication(Method.SEND, bytes(12), *attributes))
    server.receive(send, Path(LISTENER, flow.raw.address), flow.world.now)
    assert server.poll_transmit() is None


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "127.0.0.1", "169.254.169.254", "10.0.0.1", "255.255.255.255", "224.0.0.1"]
)
def test_refused_peers_get_nothing_and_give_nothing(host: str) -> None:
    """FAULTS 1, 3: Send and peer-to-client, even with a permission forced into the table."""
    flow = Flow(World(make_config(policy=PeerPolicy())))
    allocation = flow.world.server._table.by_relay[flow.relayed].allocation
    peer = Address(host, 8080)
    flow.world.server._table.permit(allocation, host, flow.world.now)
    flow.raw.indicate((XOR_PEER_ADDRESS, peer), (DATA, b"x"))
    assert flow.sent() == []
    assert flow.from_peer(b"x", peer) == []


@pytest.mark.parametrize(
    "host", ["::ffff:127.0.0.1", "::ffff:0.0.0.0", "::ffff:169.254.169.254", "::127.0.0.1"]
)
def test_disguised_peers_on_an_ipv6_allocation(host: str) -> None:
    """FAULTS 4: Send and peer-to-client; the other two ways are in test_control."""
    world = World()
    raw = world.raw_client()
    raw.allocate((REQUESTED_ADDRESS_FAMILY, 2))
    assert raw.relayed is not None
    allocation = world.server._table.by_relay[raw.relayed].allocation
    peer = Address(host, 8080)
    world.server._table.permit(allocation, peer.host, world.now)
    raw.indicate((XOR_PEER_ADDRESS, peer), (DATA, b"x"))
    world.from_peer(b"x", raw.relayed, peer)
    assert world.to_peers == []
    assert world.raw[raw.address] == []


def test_send_to_reflecting_ports_and_own_listener_is_dropped() -> None:
    """FAULTS 8, 17: on the paths that need no channel, too, and for what such a port sends."""
    flow = Flow(World())
    for port in (19, 25, 53, 123, 5060, 11211):
        flow.raw.indicate((XOR_PEER_ADDRESS, PEER.with_port(port)), (DATA, b"x"))
        assert flow.from_peer(b"x", PEER.with_port(port)) == []
    assert flow.raw.permit(Address(RELAY, 0)) == 0
    flow.raw.indicate((XOR_PEER_ADDRESS, LISTENER), (DATA, b"x"))
    assert flow.from_peer(b"x", LISTENER) == []
    assert flow.sent() == []


def test_relay_to_relay_on_one_server() -> None:
    """Two peers behind hard NATs use the same server: relayed addresses reach each other."""
    world = World()
    a, b = world.allocated(40000), world.allocated(40001, username="bob")
    assert a.relayed is not None
    assert b.relayed is not None
    a.create_permission([b.relayed.ip], world.now)
    b.create_permission([a.relayed.ip], world.now)
    world.run()
    for n in range(40):
        a.send(b"%d" % n, b.relayed, world.now)
        b.send(b"%d" % n, a.relayed, world.now)
        world.run(0.01)
    for one, other in ((a, b), (b, a)):
        got = [e.data for e in world.events[one.local] if type(e).__name__ == "PeerData"]
        assert got == [b"%d" % n for n in range(40)]
        assert one.overhead(other.relayed) == 4


@pytest.mark.parametrize(
    "attributes",
    [
        (),
        ((DATA, b"x"),),
        ((XOR_PEER_ADDRESS, PEER),),
        ((XOR_PEER_ADDRESS, PEER), (DATA, b"x"), (unknown(0x7FFF), b"")),
        ((XOR_PEER_ADDRESS, Address("2001:db8::9", 9)), (DATA, b"x")),
    ],
)
def test_indications_are_never_answered(attributes: tuple[object, ...]) -> None:
    """FAULTS 45: incomplete or unsupported ones vanish."""
    flow = Flow(World())
    assert flow.raw.indicate(*attributes) == []
    assert flow.sent() == []
    assert flow.world.server.drops.total == 1


def test_dont_fragment_is_asked_of_the_socket() -> None:
    """RFC 8656 §11.2: on the datagrams whose indication says so."""
    flow = Flow(World())
    flow.raw.indicate((XOR_PEER_ADDRESS, PEER), (DATA, b"x"), (DONT_FRAGMENT, True))
    flow.raw.indicate((XOR_PEER_ADDRESS, PEER), (DATA, b"y"))
    assert [(out.data, out.dont_fragment) for out in flow.world.to_peers] == [(b"x", True), (b"y", False)]


def test_data_that_claims_more_than_there_is_vanishes() -> None:
    """FAULTS 26: DATA length 35510 with four bytes; ChannelData length 0xFFFF."""
    flow = Flow(World(), channel=True)
    good = encode(indication(Method.SEND, bytes(12), (XOR_PEER_ADDRESS, PEER), (DATA, b"abcd")))
    at = good.index(b"\x00\x13\x00\x04")
    lie = good[:at] + b"\x00\x13" + (35510).to_bytes(2, "big") + good[at + 4 :]
    assert flow.raw.say(lie) == []
    assert flow.raw.say(b"\x40\x00\xff\xffabcd") == []
    assert flow.raw.say(b"\x40\x00\x00") == []
    assert flow.sent() == []


def test_first_of_two_peer_addresses_counts() -> None:
    """FAULTS 28."""
    flow = Flow(World())
    flow.raw.indicate((XOR_PEER_ADDRESS, PEER), (XOR_PEER_ADDRESS, PEER.with_port(1)), (DATA, b"x"))
    assert [out.path.remote for out in flow.world.to_peers] == [PEER]


def test_memoryview_slices_of_odd_alignment_are_relayed_alike() -> None:
    """FAULTS 29: bytes cut at an odd offset of a larger buffer."""
    flow = Flow(World(), channel=True)
    for message in (
        encode_channel_data(0x4000, b"abc"),
        encode(indication(Method.SEND, bytes(12), (XOR_PEER_ADDRESS, PEER), (DATA, b"abc"))),
    ):
        buffer = b"?" + message
        flow.raw.say(bytes(memoryview(buffer)[1:]))
    assert flow.sent() == [b"abc", b"abc"]


def test_channels_of_others_and_unbound_ones_are_dropped() -> None:
    flow = Flow(World(), channel=True)
    stranger = flow.world.raw_client(50009)
    stranger.say(encode_channel_data(0x4000, b"x"))
    flow.raw.say(encode_channel_data(0x4001, b"x"))
    stranger.indicate((XOR_PEER_ADDRESS, PEER), (DATA, b"x"))
    assert flow.sent() == []
    assert flow.world.server.drops.counts["ChannelData without an allocation"] == 1
    assert flow.world.server.drops.counts["ChannelData on a channel that is not bound"] == 1
    assert flow.world.server.drops.counts["Send without an allocation"] == 1


def test_datagram_too_long_to_wrap_is_dropped() -> None:
    """FAULTS 24: 65,507 bytes from a peer do not fit what goes to the client."""
    flow = Flow(World(), channel=True)
    assert flow.from_peer(bytes(65_507)) == []
    assert len(flow.from_peer(bytes(65_000))) == 1


def test_counters_count_application_bytes() -> None:
    flow = Flow(World(), channel=True)
    flow.raw.say(encode_channel_data(0x4000, b"12345"))
    flow.raw.indicate((XOR_PEER_ADDRESS, PEER), (DATA, b"123"))
    flow.from_peer(b"1234")
    flow.from_peer(b"1", PEER.with_port(7001))
    [summary] = flow.world.server.summaries(flow.world.now)
    assert summary.counters == Counters(2, 8, 2, 5, peers=1)
    assert (summary.permissions, summary.channels, len(summary.relays)) == (1, 1, 1)
    assert summary.expires_in == 3600
    flow.raw.refresh(0)
    [ended] = [e for e in flow.world.server_events if isinstance(e, AllocationEnded)]
    assert ended.counters == Counters(2, 8, 2, 5, peers=1)
    assert flow.world.server.summaries(0.0) == []
