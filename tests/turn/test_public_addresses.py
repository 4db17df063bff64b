"""A server behind a NAT that maps its addresses one to one: what is bound and what is told."""

from __future__ import annotations

from typing import Any

import pytest

from natwalk.core import Address, Path, Transport
from natwalk.stun import (
    ADDITIONAL_ADDRESS_FAMILY,
    CONNECTION_ID,
    DATA,
    EVEN_PORT,
    ICMP,
    LIFETIME,
    MOBILITY_TICKET,
    REQUESTED_ADDRESS_FAMILY,
    RESERVATION_TOKEN,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    IcmpError,
    Method,
    decode,
)
from natwalk.turn import (
    AllocationCreated,
    AllocationEnded,
    ConnectWanted,
    FlowAdded,
    FlowRemoved,
    PeerPolicy,
    TurnLimits,
)
from natwalk.turn.channel_data import decode_channel_data, encode_channel_data
from natwalk.turn.public_addresses import PublicAddresses
from turn_world import LAB, LISTENER, PEER, Raw, World, code_of, make_config

BOUND, BOUND6 = "10.0.0.5", "2001:db8:ffff::5"
PUBLIC, PUBLIC6 = "203.0.113.60", "2001:db8::60"
MAPPED = {BOUND: PUBLIC, BOUND6: PUBLIC6}


def behind_a_nat(**overrides: Any) -> World:
    """A world whose server has addresses of its own network only."""
    settings = {"relay_addresses": (BOUND, BOUND6), "public_addresses": MAPPED}
    return World(make_config(**(settings | overrides)))


def bound(address: Address | None) -> Address:
    assert address is not None
    return Address({PUBLIC: BOUND, PUBLIC6: BOUND6}[address.host], address.port)


class Pair:
    """Two clients of one server, and the relayed addresses they were told."""

    def __init__(self, world: World | None = None, *attributes: Any) -> None:
        self.world = world or behind_a_nat()
        self.alice = self.world.raw_client(50000)
        self.bob = self.world.raw_client(50001, username="bob")
        for raw in (self.alice, self.bob):
            assert code_of(raw.allocate(*attributes)) == 0
        assert self.alice.relayed is not None
        assert self.bob.relayed is not None
        self.at_alice, self.at_bob = self.alice.relayed, self.bob.relayed


def heard(raw: Raw) -> list[tuple[Address | None, bytes | None]]:
    return [(message.get(XOR_PEER_ADDRESS), message.get(DATA)) for message in raw.inbox()]


# What is told.


def test_clients_are_told_the_public_address_and_sockets_have_the_other() -> None:
    world = behind_a_nat()
    raw = world.raw_client()
    raw.allocate()
    assert raw.relayed is not None
    assert raw.relayed.host == PUBLIC
    assert world.relays == {bound(raw.relayed)}


def test_both_addresses_of_a_dual_allocation_are_public() -> None:
    world = behind_a_nat()
    v4, v6 = world.raw_client().allocate((ADDITIONAL_ADDRESS_FAMILY, 2)).all(XOR_RELAYED_ADDRESS)
    assert (v4.host, v6.host) == (PUBLIC, PUBLIC6)
    assert world.relays == {bound(v4), bound(v6)}


def test_an_address_that_is_not_mapped_is_told_as_it_is() -> None:
    world = behind_a_nat(public_addresses={BOUND: PUBLIC})
    v4, v6 = world.raw_client().allocate((ADDITIONAL_ADDRESS_FAMILY, 2)).all(XOR_RELAYED_ADDRESS)
    assert (v4.host, v6.host) == (PUBLIC, BOUND6)


def test_a_reserved_port_is_public_when_its_allocation_comes() -> None:
    world = behind_a_nat()
    answer = world.raw_client().allocate((EVEN_PORT, True))
    first, token = answer.get(XOR_RELAYED_ADDRESS), answer.get(RESERVATION_TOKEN)
    assert first is not None
    second = world.raw_client(50001).allocate((RESERVATION_TOKEN, token)).get(XOR_RELAYED_ADDRESS)
    assert second == Address(PUBLIC, first.port + 1)
    assert world.relays == {bound(first), bound(second)}


def test_the_operator_is_told_both() -> None:
    world = behind_a_nat()
    raw = world.raw_client()
    told = tuple(raw.allocate((ADDITIONAL_ADDRESS_FAMILY, 2)).all(XOR_RELAYED_ADDRESS))
    [created] = [e for e in world.server_events if isinstance(e, AllocationCreated)]
    assert (created.relays, created.advertised) == (tuple(map(bound, told)), told)
    [summary] = world.server.summaries(world.now)
    assert (summary.relays, summary.advertised) == (tuple(map(bound, told)), told)
    raw.refresh(0)
    [ended] = [e for e in world.server_events if isinstance(e, AllocationEnded)]
    assert (ended.relay, ended.advertised) == (bound(told[0]), told[0])


# Peers elsewhere notice nothing.


def test_other_peers_are_relayed_to_and_from_as_ever() -> None:
    world = behind_a_nat()
    raw = world.raw_client()
    raw.allocate()
    relay = bound(raw.relayed)
    assert raw.permit(PEER) == 0
    raw.indicate((XOR_PEER_ADDRESS, PEER), (DATA, b"out"))
    world.from_peer(b"in", relay)
    assert heard(raw) == [(PEER, b"in")]
    assert raw.bind_channel(0x4000, PEER) == 0
    raw.say(encode_channel_data(0x4000, b"out again"))
    assert [(t.data, t.path) for t in world.to_peers] == [
        (b"out", Path(relay, PEER)),
        (b"out again", Path(relay, PEER)),
    ]


# Two clients of one server.


def test_two_allocations_reach_each_other_by_their_public_names() -> None:
    """Indications both ways; each hears the address the other was told."""
    pair = Pair()
    assert pair.alice.permit(pair.at_bob) == pair.bob.permit(pair.at_alice) == 0
    pair.alice.indicate((XOR_PEER_ADDRESS, pair.at_bob), (DATA, b"hello"))
    assert heard(pair.bob) == [(pair.at_alice, b"hello")]
    pair.bob.indicate((XOR_PEER_ADDRESS, pair.at_alice), (DATA, b"back"))
    assert heard(pair.alice) == [(pair.at_bob, b"back")]
    assert pair.world.to_peers == []


def test_two_allocations_reach_each_other_on_channels() -> None:
    """The flow that data planes get names the sockets, and ends with the other allocation."""
    pair = Pair()
    assert pair.alice.bind_channel(0x4000, pair.at_bob) == 0
    assert pair.bob.bind_channel(0x4001, pair.at_alice) == 0
    pair.alice.say(encode_channel_data(0x4000, b"hello"))
    [data] = pair.world.raw[pair.bob.address]
    assert decode_channel_data(data) == (0x4001, b"hello")
    flows = [(e.relay, e.peer) for e in pair.world.server_events if isinstance(e, FlowAdded)]
    assert flows == [(bound(pair.at_alice), bound(pair.at_bob)), (bound(pair.at_bob), bound(pair.at_alice))]
    assert pair.alice.bind_channel(0x4000, pair.at_bob) == 0  # refreshed, as the same
    assert pair.alice.bind_channel(0x4002, pair.at_bob) == 400
    assert pair.alice.bind_channel(0x4000, PEER) == 400
    pair.bob.refresh(0)
    gone = [(e.relay, e.peer) for e in pair.world.server_events if isinstance(e, FlowRemoved)]
    assert set(gone) == set(flows)
    assert pair.world.server.stats.flows == 0


def test_without_a_permission_for_the_public_name_nothing_comes_through() -> None:
    pair = Pair()
    assert pair.alice.permit(pair.at_bob) == 0
    pair.alice.indicate((XOR_PEER_ADDRESS, pair.at_bob), (DATA, b"hello"))
    assert pair.bob.inbox() == []
    assert pair.world.server.drops.counts["from a peer without permission"] == 1


def test_icmp_about_another_relay_of_ours_names_it_as_the_client_does() -> None:
    pair = Pair()
    pair.alice.permit(pair.at_bob)
    error = IcmpError(3, 3)
    pair.world.server.icmp_received(bound(pair.at_alice), bound(pair.at_bob), error, pair.world.now)
    pair.world.run()
    [message] = pair.alice.inbox()
    assert (message.get(XOR_PEER_ADDRESS), message.get(ICMP)) == (pair.at_bob, error)


def test_relays_over_ipv6_reach_each_other_too() -> None:
    pair = Pair(None, (REQUESTED_ADDRESS_FAMILY, 2))
    assert pair.at_bob.host == PUBLIC6
    pair.bob.permit(pair.at_alice)
    pair.alice.permit(pair.at_bob)
    pair.alice.indicate((XOR_PEER_ADDRESS, pair.at_bob), (DATA, b"six"))
    assert heard(pair.bob) == [(pair.at_alice, b"six")]


def test_a_client_that_moves_keeps_its_peers_on_this_server() -> None:
    pair = Pair(None, (MOBILITY_TICKET, b""))
    pair.bob.refresh(0)
    ticket = pair.bob.allocate((MOBILITY_TICKET, b"")).get(MOBILITY_TICKET)
    at_bob = pair.bob.relayed
    assert at_bob is not None
    assert pair.alice.bind_channel(0x4000, at_bob) == pair.bob.bind_channel(0x4001, pair.at_alice) == 0
    elsewhere = pair.world.raw_client(50009, username="bob")
    moved = elsewhere.signed(Method.REFRESH, (MOBILITY_TICKET, ticket), (LIFETIME, 600))
    assert code_of(moved) == 0
    pair.alice.say(encode_channel_data(0x4000, b"still there?"))
    [data] = pair.world.raw[elsewhere.address]
    assert decode_channel_data(data) == (0x4001, b"still there?")


def test_own_relays_cost_no_new_peer() -> None:
    """Under their public names, too."""
    pair = Pair(behind_a_nat(limits=TurnLimits(new_peers_burst=1, new_peers_rate=1)))
    assert pair.alice.bind_channel(0x4000, PEER) == 0
    assert pair.alice.bind_channel(0x4001, pair.at_bob) == 0


# TCP allocations.


def test_tcp_allocations_of_one_server_connect_by_their_public_names() -> None:
    """RFC 6062 §5.2, §5.3: the socket goes to what is bound, both clients hear what is public."""
    world = behind_a_nat(tcp_relays=True)
    alice = world.raw_client(50000, transport=Transport.TCP)
    bob = world.raw_client(50001, username="bob", transport=Transport.TCP)
    for raw in (alice, bob):
        assert code_of(raw.allocate_tcp()) == 0
    at_alice, at_bob = alice.relayed, bob.relayed
    assert at_alice is not None
    assert at_bob is not None
    assert world.tcp_relays == {bound(at_alice), bound(at_bob)}
    assert bob.permit(at_alice) == 0
    alice.connect(at_bob)
    [wanted] = [e for e in world.server_events if isinstance(e, ConnectWanted)]
    assert (wanted.relay, wanted.peer) == (bound(at_alice), bound(at_bob))
    assert world.peer_connects(bound(at_bob), bound(at_alice)) is not None
    [attempt] = bob.inbox()
    assert (attempt.method, attempt.get(XOR_PEER_ADDRESS)) == (Method.CONNECTION_ATTEMPT, at_alice)
    assert CONNECTION_ID in attempt
    assert code_of(alice.connect(at_bob)) == 446
    assert code_of(alice.connect(bound(at_bob))) == 403
    assert code_of(alice.connect(Address(PUBLIC, at_bob.port ^ 1))) == 403


# What stays shut.


@pytest.mark.parametrize("allow", [LAB, (*LAB, "10.0.0.0/8")], ids=["denied", "allowed"])
def test_bound_addresses_are_no_peers_under_their_own_name(allow: tuple[str, ...]) -> None:
    """FAULTS 8: not an open relay, not a port beside it, not even when the operator opened the network."""
    pair = Pair(behind_a_nat(policy=PeerPolicy(allow=allow)))
    for peer in (bound(pair.at_bob), Address(BOUND, 22), Address(BOUND, 49152), Address(BOUND6, 22)):
        family = (REQUESTED_ADDRESS_FAMILY, 1 if peer.version == 4 else 2)
        raw = pair.world.raw_client(50005)
        raw.allocate(family)
        assert raw.permit(peer) == 403
        assert raw.bind_channel(0x4000, peer) == 403
        raw.refresh(0)


def test_of_the_public_address_only_open_relays_are_peers() -> None:
    """FAULTS 8: the listener and every other port of the server are behind the same public address."""
    pair = Pair(behind_a_nat(policy=PeerPolicy(allow=[])))
    for port in (22, 3478, 8478, pair.at_bob.port ^ 1):
        peer = Address(PUBLIC, port)
        assert pair.alice.bind_channel(0x4000, peer) == 403
        pair.alice.permit(pair.at_bob)
        pair.alice.indicate((XOR_PEER_ADDRESS, peer), (DATA, b"x"))
    assert pair.world.to_peers == []
    assert pair.alice.bind_channel(0x4000, pair.at_bob) == 0


@pytest.mark.parametrize("host", [BOUND, "0.0.0.0"])
def test_a_listener_is_refused_at_its_public_address(host: str) -> None:
    """FAULTS 8: even where an entry allows the host."""
    world = behind_a_nat(policy=PeerPolicy(allow=[*LAB, PUBLIC]))
    raw = world.raw_client()
    raw.allocate()
    world.server.add_listener(Address(host, 3478))
    world.server.add_own_endpoint(Address(host, 8478))
    for port in (3478, 8478):
        assert raw.permit(Address(PUBLIC, port)) == 403
        assert raw.bind_channel(0x4000, Address(PUBLIC, port)) == 403
    assert raw.bind_channel(0x4000, Address(PUBLIC, 9999)) == 0


def test_an_address_that_only_listens_is_an_own_host_by_both_names() -> None:
    """FAULTS 8: a mapped address without relays."""
    world = behind_a_nat(
        public_addresses=MAPPED | {"10.0.0.6": "203.0.113.61"}, policy=PeerPolicy(allow=["10.0.0.0/8"])
    )
    raw = world.raw_client()
    raw.allocate()
    for host in ("10.0.0.6", "203.0.113.61"):
        assert raw.bind_channel(0x4000, Address(host, 3478)) == 403


def test_a_service_beside_the_relay_cannot_answer_as_a_peer() -> None:
    """FAULTS 8: a permission for the public address lets open relays through, nothing else that is there."""
    pair = Pair()
    pair.alice.permit(pair.at_bob)
    pair.world.from_peer(b"secret", bound(pair.at_alice), Address(BOUND, 53))
    assert pair.alice.inbox() == []
    assert pair.world.server.drops.counts["from a peer that is refused"] == 1


def test_a_denied_private_network_does_not_shut_own_relays_and_a_denied_public_address_does() -> None:
    """The policy judges what clients name."""
    pair = Pair(behind_a_nat(policy=PeerPolicy(deny=["10.0.0.0/8"])))
    assert pair.alice.permit(pair.at_bob) == 0
    pair = Pair(behind_a_nat(policy=PeerPolicy(deny=[PUBLIC])))
    assert pair.alice.permit(pair.at_bob) == 403


def test_a_new_endpoint_cuts_what_runs_to_its_public_address() -> None:
    """FAULTS 8: recomputed while allocations are there."""
    world = behind_a_nat(policy=PeerPolicy(allow=[*LAB, PUBLIC]))
    raw = world.raw_client()
    raw.allocate()
    assert raw.bind_channel(0x4000, Address(PUBLIC, 9999)) == 0
    world.server.add_own_endpoint(Address(BOUND, 9999))
    raw.say(encode_channel_data(0x4000, b"x"))
    assert world.to_peers == []


def test_plain_bindings_are_answered_where_they_came_to() -> None:
    """The listener knows nothing of public addresses; the client's own address is what it asks for."""
    world = behind_a_nat()
    raw = world.raw_client()
    assert raw.bare(Method.BINDING) is not None
    assert raw.path.local == LISTENER
    assert decode(raw.say(bytes.fromhex("000100002112a442") + bytes(12))[0])


# The values.


@pytest.mark.parametrize(
    ("mapped", "fault"),
    [
        ({"10.0.0.5": "2001:db8::1"}, "not of one IP version"),
        ({"10.0.0.5": "relay.example"}, "'relay.example' is not an IP address"),
        ({"10.0.0": "203.0.113.1"}, "'10.0.0' is not an IP address"),
        ({"0.0.0.0": "203.0.113.1"}, "not one address"),
        ({"10.0.0.5": "224.0.0.1"}, "not one address"),
        ({"10.0.0.5": "::ffff:203.0.113.1"}, "not one address"),
        ({"2001:DB8::5": "2001:db8::1"}, "not one address"),
        ({"10.0.0.5": "203.0.113.1", "10.0.0.6": "203.0.113.1"}, "the same public address"),
        ({"10.0.0.5": "10.0.0.6", "10.0.0.6": "203.0.113.1"}, "10.0.0.6 is a public address and has one"),
        ({"10.0.0.5": "10.0.0.5"}, "10.0.0.5 is a public address and has one"),
    ],
)
def test_what_is_not_one_to_one_is_refused(mapped: dict[str, str], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        make_config(public_addresses=mapped)


def test_a_relay_address_is_not_the_public_address_of_another() -> None:
    with pytest.raises(ValueError, match="is a relay address and the public address"):
        make_config(relay_addresses=(BOUND, PUBLIC), public_addresses={BOUND: PUBLIC})


def test_the_mapping_stays_while_the_server_runs() -> None:
    world = behind_a_nat()
    same = make_config(relay_addresses=(BOUND, BOUND6), public_addresses=dict(MAPPED))
    world.server.reconfigure(same, world.now)
    with pytest.raises(ValueError, match="public_addresses"):
        world.server.reconfigure(make_config(relay_addresses=(BOUND, BOUND6)), world.now)


def test_translation_goes_there_and_back() -> None:
    public = PublicAddresses(MAPPED)
    for host, told in MAPPED.items():
        assert public.advertised(Address(host, 50000)) == Address(told, 50000)
        assert public.bound(Address(told, 50000)) == Address(host, 50000)
    assert public.advertised(PEER) is public.bound(PEER) is PEER
    relays = {Address(BOUND, 50000)}
    view = public.as_advertised(relays)
    assert Address(PUBLIC, 50000) in view
    assert Address(BOUND, 50000) not in view
    assert Address(PUBLIC, 50001) not in view
    assert "x" not in view


def test_without_a_mapping_nothing_is_wrapped() -> None:
    public, relays = PublicAddresses(), {PEER}
    assert not public
    assert public.as_advertised(relays) is relays
