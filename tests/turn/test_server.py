from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance import CoreConformance
from natwalk.core import Address, Core, LocalProtocolError, Path, Transport
from natwalk.stun import (
    CHANGE_REQUEST,
    DATA,
    LIFETIME,
    UNKNOWN_ATTRIBUTES,
    XOR_PEER_ADDRESS,
    Behaviour,
    ChangeRequest,
    MessageClass,
    Method,
    decode,
    encode,
    error,
    request,
    success,
)
from natwalk.stun.message import Message
from natwalk.turn import TurnServer, TurnStats
from turn_world import LISTENER, PEER, World, code_of, make_config, seeded


class TestTurnServerConformance(CoreConformance):
    """A server with an allocation, a permission and a channel."""

    def make(self, now: float) -> Core[Any]:
        world = World(now=now)
        client = world.allocated()
        client.bind_channel(PEER, now)
        world.run()
        self.client_path = Path(LISTENER, client.local)
        return world.server

    def path(self, core: Core[Any]) -> Path:
        return self.client_path


def test_garbage_on_a_relay_socket_is_a_peers_datagram() -> None:
    """A relay socket carries anything; without a permission it is dropped."""
    world = World()
    client = world.allocated()
    assert client.relayed is not None
    for garbage in (b"", b"\xff" * 100, encode(request(Method.ALLOCATE, bytes(12)))):
        world.from_peer(garbage, client.relayed)
    assert world.server.drops.counts["from a peer without permission"] == 3


def test_socket_that_is_no_listener_serves_nobody() -> None:
    world = World()
    path = Path(Address("203.0.113.50", 9), Address("198.51.100.7", 1000))
    world.server.receive(encode(request(Method.BINDING, bytes(12))), path, world.now)
    assert world.server.poll_transmit() is None
    assert world.server.drops.counts["on a socket that is no listener"] == 1


def test_port_zero_is_never_answered() -> None:
    world = World()
    path = Path(LISTENER, Address("198.51.100.7", 0))
    world.server.receive(encode(request(Method.BINDING, bytes(12))), path, world.now)
    world.server.receive(encode(request(Method.ALLOCATE, bytes(12))), path, world.now)
    assert world.server.poll_transmit() is None


@pytest.mark.parametrize(
    "message",
    [
        Message(Method.ALLOCATE, MessageClass.INDICATION, bytes(12)),
        Message(Method.DATA, MessageClass.INDICATION, bytes(12)),
        Message(Method.SEND, MessageClass.REQUEST, bytes(12)),
        Message(Method.CONNECTION_ATTEMPT, MessageClass.REQUEST, bytes(12)),
        Message(0xFFF, MessageClass.REQUEST, bytes(12)),
        success(request(Method.ALLOCATE, bytes(12)), (LIFETIME, 1)),
        error(request(Method.ALLOCATE, bytes(12)), 401),
    ],
)
def test_what_no_client_sends_is_dropped_in_silence(message: Message) -> None:
    """FAULTS 45 and reflection between servers: no indication, response or unknown method is answered."""
    world = World()
    assert world.raw_client().say(encode(message)) == []
    assert world.server.drops.counts["a STUN message a TURN server does not take"] == 1


def test_stats_count_what_there_is() -> None:
    world = World()
    raw = world.raw_client()
    assert world.server.stats == TurnStats(0, 0, 0, 1, 0)
    raw.allocate()
    assert raw.permit(PEER, Address("192.0.2.78", 0)) == 0
    counted = {"by_transport": {Transport.UDP: 1}, "errors": {401: 1}}
    assert world.server.stats == TurnStats(1, 0, 2, 1, 0, relay_ports=1, **counted)  # type: ignore[arg-type]
    raw.indicate((XOR_PEER_ADDRESS, PEER), (DATA, b"twelve bytes"))
    assert world.server.stats.bytes_relayed == 12
    raw.refresh(0)
    ended = world.server.stats
    assert (ended.packets_relayed, ended.bytes_relayed, ended.by_transport) == (1, 12, {})


def test_two_listeners_keep_one_clients_allocations_apart() -> None:
    """An allocation belongs to a 5-tuple (RFC 8656 §3.2)."""
    world = World()
    second = LISTENER.with_port(443)
    world.server.add_listener(second)
    raw = world.raw_client()
    assert code_of(raw.allocate()) == 0
    message = request(Method.REFRESH, bytes(12))
    world.server.receive(encode(message), Path(second, raw.address), world.now)
    assert world.server.poll_transmit() is not None
    assert world.server.stats.allocations == 1


COMMANDS = st.lists(
    st.tuples(
        st.sampled_from(["allocate", "refresh", "delete", "permit", "bind", "data", "wait", "long", "kill"]),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=60)
@given(commands=COMMANDS)
def test_bookkeeping_stays_exact_whatever_happens(commands: list[tuple[str, int, int]]) -> None:
    """FAULTS 55, 59: allocations, relay sockets, quotas, ports and flows always agree with each other."""
    from natwalk.stun import CHANNEL_NUMBER, XOR_PEER_ADDRESS

    world = World()
    raws = [world.raw_client(50000 + n, host=f"198.51.100.{10 + n}") for n in range(4)]
    for what, who, which in commands:
        raw, peer = raws[who], Address("192.0.2.77", 7000 + which)
        if what in {"wait", "long"}:
            world.run(100.0 if what == "wait" else 1000.0)
            for each in raws:
                each.nonce = b""
        elif what == "allocate":
            raw.allocate()
        elif what == "refresh":
            raw.refresh(600 + 100 * which)
        elif what == "delete":
            raw.refresh(0)
        elif what == "permit":
            raw.permit(peer)
        elif what == "bind":
            raw.signed(Method.CHANNEL_BIND, (CHANNEL_NUMBER, 0x4000 + who), (XOR_PEER_ADDRESS, peer))
        elif what == "data" and raw.relayed in world.relays:
            world.from_peer(b"x", raw.relayed, peer)
        elif what == "kill":
            world.server.close(world.now)
            world.run()
        check_invariants(world)
    world.run(10_000.0)
    check_invariants(world)
    assert world.server.stats.allocations == 0
    assert world.server.next_timeout() is None
    assert world.relays == set()


def check_invariants(world: World) -> None:
    table = world.server._table
    assert set(table.by_relay) == world.relays
    assert {relay.allocation for relay in table.by_relay.values()} == set(table.by_client.values())
    assert table.accounts.total == len(table.by_client)
    ports = {(relay.host, relay.port) for relay in world.relays}
    used = world.server._allocator._sockets._used
    assert {(host, port) for host, taken in used.items() for port in taken} == ports
    channels = [ch for a in table.by_client.values() for ch in a.channels.values()]
    assert table.flows == sum(channel.flowing for channel in channels)
    for allocation in table.by_client.values():
        assert {c.peer: c for c in allocation.channels.values()} == allocation.by_peer
        for channel in allocation.channels.values():
            assert not channel.flowing or allocation.permits(channel.peer.host, world.now - 1e-6)


def test_behaviour_discovery_needs_its_addresses_to_be_listeners() -> None:
    """What would be sent from a socket that is not there is refused when it is asked for."""
    behaviour = Behaviour(Address("203.0.113.1", 3478), Address("203.0.113.2", 3479))
    server = TurnServer(make_config(), random_bytes=seeded())
    for address in behaviour.local_addresses:
        with pytest.raises(LocalProtocolError, match="no listener"):
            server.set_behaviour(behaviour)
        server.add_listener(address)
    server.set_behaviour(behaviour)
    asked = encode(request(Method.BINDING, bytes(12), (CHANGE_REQUEST, ChangeRequest(True, True))))
    server.receive(asked, Path(behaviour.primary, PEER), 0.0)
    out = server.poll_transmit()
    assert out is not None
    assert out.path == Path(behaviour.alternate, PEER)
    server.set_behaviour(None)
    server.receive(asked, Path(behaviour.primary, PEER), 0.0)
    out = server.poll_transmit()
    assert out is not None
    assert decode(out.data).get(UNKNOWN_ATTRIBUTES) == (CHANGE_REQUEST.type,)


def test_clients_of_rfc_3489_are_answered_unless_told_otherwise() -> None:
    """They send no magic cookie; the configuration of a running server decides, too."""
    server = TurnServer(make_config(), random_bytes=seeded())
    server.add_listener(LISTENER)
    asked = b"\x00\x01\x00\x00" + bytes(range(16))
    server.receive(asked, Path(LISTENER, PEER), 0.0)
    out = server.poll_transmit()
    assert out is not None
    assert out.data[:2] + out.data[4:20] == b"\x01\x01" + bytes(range(16))
    server.reconfigure(make_config(classic_stun=False), 0.0)
    server.receive(asked, Path(LISTENER, PEER), 0.0)
    assert server.poll_transmit() is None
