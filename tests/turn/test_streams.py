"""Clients on TCP, TLS and DTLS: the 5-tuple has a transport, and ends (RFC 8656 §3.1, §12.5)."""

from __future__ import annotations

import pytest

from natwalk.core import Address, Path, Transport
from natwalk.stun import (
    DATA,
    MAPPED_ADDRESS,
    REQUESTED_TRANSPORT,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    Method,
    decode,
    encode,
    request,
)
from natwalk.turn import (
    Allocated,
    AllocationCreated,
    AllocationEnded,
    EndReason,
    FlowAdded,
    FlowRemoved,
    PeerData,
    RelayWanted,
    TurnLimits,
)
from natwalk.turn.channel_data import encode_channel_data
from turn_world import LISTENER, PEER, World, code_of, make_config

ALL = list(Transport)
CONNECTED = [Transport.TCP, Transport.TLS, Transport.DTLS]
STREAMS = [Transport.TCP, Transport.TLS]


@pytest.mark.parametrize("transport", ALL)
def test_binding_is_answered_over_every_transport(transport: Transport) -> None:
    world = World()
    raw = world.raw_client(transport=transport)
    answer = raw.bare(Method.BINDING)
    assert answer is not None
    assert answer.get(XOR_MAPPED_ADDRESS) == raw.address
    assert MAPPED_ADDRESS not in answer


@pytest.mark.parametrize("transport", ALL)
def test_a_client_relays_over_every_transport(transport: Transport) -> None:
    """The client and the server of this package, both ways, by indication and by channel."""
    world = World()
    client = world.allocated(transport=transport)
    assert client.relayed is not None
    assert any(isinstance(event, Allocated) for event in world.events[client.local])
    client.send(b"first", PEER, world.now)
    world.run()
    world.from_peer(b"answer", client.relayed)
    client.bind_channel(PEER, world.now)
    world.run()
    client.send(b"second", PEER, world.now)
    world.run()
    for size in range(5):
        world.from_peer(b"x" * size, client.relayed)
    assert [out.data for out in world.to_peers] == [b"first", b"second"]
    received = [event.data for event in world.events[client.local] if isinstance(event, PeerData)]
    assert received == [b"answer", b"", b"x", b"xx", b"xxx", b"xxxx"]


@pytest.mark.parametrize("transport", ALL)
def test_events_name_the_transport(transport: Transport) -> None:
    world = World()
    raw = world.raw_client(transport=transport)
    raw.allocate()
    raw.bind_channel(0x4000, PEER)
    raw.refresh(0)
    kinds = (AllocationCreated, AllocationEnded, FlowAdded, FlowRemoved)
    found = [event for event in world.server_events if isinstance(event, kinds)]
    assert [type(event) for event in found] == [AllocationCreated, FlowAdded, FlowRemoved, AllocationEnded]
    assert {event.transport for event in found} == {transport}


@pytest.mark.parametrize("transport", ALL)
def test_channel_data_are_padded_with_zeros_over_streams(transport: Transport) -> None:
    """FAULTS 27: 1000 messages with 1 to 3 pad bytes, after another client sent a marker (CVE-2020-4067)."""
    world = World()
    raw, other = (world.raw_client(50000 + n, transport=transport) for n in range(2))
    for each in (raw, other):
        each.allocate()
        each.bind_channel(0x4000, PEER)
    assert raw.relayed is not None
    for n in range(1000):
        size = 1 + n % 4
        other.say(encode_channel_data(0x4000, b"\xa5" * (5 + n % 3)) + b"\xa5" * 3)
        world.raw[raw.address].clear()
        world.from_peer(b"x" * size, raw.relayed)
        [message] = world.raw[raw.address]
        padding = -size % 4 if transport.is_stream else 0
        assert message == encode_channel_data(0x4000, b"x" * size) + bytes(padding)


@pytest.mark.parametrize("transport", STREAMS)
@pytest.mark.parametrize("size", range(6))
def test_channel_data_come_with_padding_or_without(size: int, transport: Transport) -> None:
    """RFC 8656 §12.5: whatever the padding is, peers never see it."""
    world = World()
    raw = world.raw_client(transport=transport)
    raw.allocate()
    raw.bind_channel(0x4000, PEER)
    message = encode_channel_data(0x4000, b"x" * size)
    raw.say(message)
    raw.say(message + b"\xff" * (-size % 4))
    assert [out.data for out in world.to_peers] == [b"x" * size] * 2


@pytest.mark.parametrize("transport", CONNECTED)
def test_an_allocation_ends_with_the_connection(transport: Transport) -> None:
    """RFC 8656 §3.1: its 5-tuple is gone; the quota is free at once."""
    world = World(make_config(limits=TurnLimits(allocations_per_user=1)))
    raw = world.raw_client(transport=transport)
    raw.allocate()
    raw.bind_channel(0x4000, PEER)
    raw.close()
    raw.close()
    [ended] = [event for event in world.server_events if isinstance(event, AllocationEnded)]
    assert (ended.reason, ended.transport) == (EndReason.CLIENT_GONE, transport)
    assert world.relays == set()
    assert world.server.stats.flows == 0
    assert world.server.next_timeout() is None
    assert code_of(world.raw_client(50001).allocate()) == 0


def test_closing_while_the_relay_socket_opens_leaves_nothing() -> None:
    """FAULTS 160."""
    world = World(make_config(limits=TurnLimits(allocations_per_user=1)))
    raw = world.raw_client(transport=Transport.TCP)
    held: list[RelayWanted] = []
    world._open = held.append  # type: ignore[method-assign]
    raw.signed(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))
    raw.close()
    world.relays.add(held[0].address)
    world.server.relay_opened(held[0].token, world.now)
    world.run()
    assert world.relays == set()
    assert world.raw[raw.address] == []
    del world._open
    assert code_of(world.raw_client(50001).allocate()) == 0


def test_one_address_over_two_transports_is_two_clients() -> None:
    """RFC 8656 §3.2: an allocation belongs to a 5-tuple, and the transport is part of it."""
    world = World()
    udp = world.raw_client(50000)
    udp.allocate()
    tcp = world.raw_client(50000, transport=Transport.TCP)
    assert code_of(tcp.refresh(600)) == 437
    assert code_of(tcp.allocate()) == 0
    assert world.server.stats.allocations == 2
    tcp.close()
    assert world.server.stats.allocations == 1
    assert code_of(udp.refresh(600)) == 0


def test_a_listener_is_one_transport() -> None:
    world = World()
    path = Path(LISTENER, Address("198.51.100.7", 1000), Transport.TCP)
    world.server.receive(encode(request(Method.BINDING, bytes(12))), path, world.now)
    assert world.server.poll_transmit() is None
    world.listen(Transport.TCP)
    world.server.receive(encode(request(Method.BINDING, bytes(12))), path, world.now)
    out = world.server.poll_transmit()
    assert out is not None
    assert out.path == path


def test_a_relay_may_have_the_number_of_a_stream_listener() -> None:
    """A UDP relay and a TCP listener on one port are two sockets."""
    world = World(make_config(port_range=(50000, 50000)))
    raw = world.raw_client()
    raw.allocate()
    assert raw.relayed is not None
    world.server.add_listener(raw.relayed, Transport.TCP)
    path = Path(raw.relayed, Address("198.51.100.7", 1000), Transport.TCP)
    world.server.receive(encode(request(Method.BINDING, bytes(12))), path, world.now)
    out = world.server.poll_transmit()
    assert out is not None
    assert decode(out.data).get(XOR_MAPPED_ADDRESS) == path.remote


@pytest.mark.parametrize("transport", STREAMS)
def test_indications_over_streams_are_never_answered(transport: Transport) -> None:
    """FAULTS 26, 45: as over UDP."""
    world = World()
    raw = world.raw_client(transport=transport)
    raw.allocate()
    raw.permit(PEER)
    for attributes in ((), ((DATA, b"x"),), ((XOR_PEER_ADDRESS, PEER),)):
        assert raw.indicate(*attributes) == []
    assert raw.say(encode_channel_data(0x4000, b"abcd")[:6]) == []
    assert world.to_peers == []
