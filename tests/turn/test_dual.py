"""Dual allocations: two relayed addresses of one client, one an address family (RFC 8656 §7.2, §8)."""

from __future__ import annotations

import pytest

from natwalk.core import Address
from natwalk.stun import (
    ADDITIONAL_ADDRESS_FAMILY,
    ADDRESS_ERROR_CODE,
    DATA,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    Method,
    decode,
)
from natwalk.stun.attributes import unknown
from natwalk.turn import (
    AllocationCreated,
    AllocationEnded,
    FlowAdded,
    FlowRemoved,
    RelayReleased,
    RelayWanted,
    TurnLimits,
)
from natwalk.turn.channel_data import decode_channel_data
from turn_world import PEER, RELAY, RELAY6, Raw, World, code_of, make_config

PEER6 = Address("2001:db8::77", 7000)
BOTH = (ADDITIONAL_ADDRESS_FAMILY, 2)
V4, V6 = (REQUESTED_ADDRESS_FAMILY, 1), (REQUESTED_ADDRESS_FAMILY, 2)


class Dual:
    """A client with an address of each family."""

    def __init__(self, world: World | None = None, *, lifetime: int = 600) -> None:
        self.world = world or World()
        self.raw: Raw = self.world.raw_client()
        answer = self.raw.allocate(BOTH, (LIFETIME, lifetime))
        assert code_of(answer) == 0
        self.v4, self.v6 = answer.all(XOR_RELAYED_ADDRESS)

    def reached(self, relay: Address, peer: Address) -> bool:
        """Whether a datagram from ``peer`` to ``relay`` comes to the client."""
        self.world.raw[self.raw.address].clear()
        self.world.from_peer(b"x", relay, peer)
        return bool(self.world.raw[self.raw.address])

    def refresh(self, lifetime: int, *attributes: object) -> int:
        return code_of(self.raw.signed(Method.REFRESH, (LIFETIME, lifetime), *attributes))


def test_both_families_are_one_allocation() -> None:
    """It counts once against the quota, and the event names both."""
    dual = Dual(World(make_config(limits=TurnLimits(allocations_per_user=1))))
    assert (dual.v4.host, dual.v6.host) == (RELAY, RELAY6)
    assert dual.world.server.stats.allocations == 1
    [created] = [e for e in dual.world.server_events if isinstance(e, AllocationCreated)]
    assert (created.relay, created.relays) == (dual.v4, (dual.v4, dual.v6))
    assert code_of(dual.world.raw_client(50001).allocate()) == 486
    assert dual.refresh(0) == 0
    assert code_of(dual.world.raw_client(50001).allocate()) == 0


def test_a_client_may_ask_by_the_number_of_the_drafts() -> None:
    """coturn's client up to 4.6 knows ADDITIONAL-ADDRESS-FAMILY as 0x8032."""
    answer = World().raw_client().allocate((unknown(0x8032), b"\x02\0\0\0"))
    assert [address.host for address in answer.all(XOR_RELAYED_ADDRESS)] == [RELAY, RELAY6]


def test_each_peer_is_reached_from_the_address_of_its_family() -> None:
    """FAULTS 15: what is 443 on one address is right on two."""
    dual = Dual()
    assert dual.raw.permit(PEER, PEER6) == 0
    for peer, relay in ((PEER, dual.v4), (PEER6, dual.v6)):
        dual.raw.indicate((XOR_PEER_ADDRESS, peer), (DATA, b"out"))
        assert dual.world.to_peers[-1].path.local == relay
        dual.world.from_peer(b"in", relay, peer)
        [data] = dual.world.raw[dual.raw.address]
        assert decode(data).get(XOR_PEER_ADDRESS) == peer
    assert dual.raw.bind_channel(0x4000, PEER) == 0
    assert dual.raw.bind_channel(0x4001, PEER6) == 0
    flows = {(e.channel, e.relay) for e in dual.world.server_events if isinstance(e, FlowAdded)}
    assert flows == {(0x4000, dual.v4), (0x4001, dual.v6)}
    dual.world.from_peer(b"in", dual.v6, PEER6)
    assert decode_channel_data(dual.world.raw[dual.raw.address][-1]) == (0x4001, b"in")


@pytest.mark.parametrize(("gone", "kept"), [(0, 1), (1, 0)])
def test_one_of_two_can_be_deleted_and_leaves_the_other_alone(gone: int, kept: int) -> None:
    """RFC 8656 §8.2: with its channels and permissions only; afterwards its family is 443."""
    dual = Dual()
    relays, peers = (dual.v4, dual.v6), (PEER, PEER6)
    for n in range(2):
        dual.raw.bind_channel(0x4000 + n, peers[n])
    assert dual.refresh(0, (V4, V6)[gone]) == 0
    assert dual.world.relays == {relays[kept]}
    assert [e.channel for e in dual.world.server_events if isinstance(e, FlowRemoved)] == [0x4000 + gone]
    assert dual.reached(relays[kept], peers[kept])
    assert not dual.reached(relays[gone], peers[gone])
    assert dual.world.server.stats.permissions == 1
    assert not [e for e in dual.world.server_events if isinstance(e, AllocationEnded)]
    assert dual.refresh(0, (V4, V6)[gone]) == 443
    assert dual.raw.permit(peers[gone]) == 443
    assert dual.raw.bind_channel(0x4005, peers[gone]) == 443
    assert dual.refresh(0, (V4, V6)[kept]) == 0
    [ended] = [e for e in dual.world.server_events if isinstance(e, AllocationEnded)]
    assert ended.relay == dual.v4
    assert dual.world.relays == set()
    assert dual.refresh(600) == 437


def test_a_refresh_of_one_family_lets_the_other_expire() -> None:
    dual = Dual()
    dual.world.run(300.0)
    assert dual.refresh(600, V6) == 0
    dual.world.run(301.0)
    assert dual.world.relays == {dual.v6}
    dual.raw.nonce = b""
    assert dual.refresh(600) == 0
    dual.world.run(599.0)
    assert dual.world.relays == {dual.v6}
    dual.world.run(2.0)
    assert dual.world.server.stats.allocations == 0


def test_the_family_that_is_due_is_gone_though_no_timer_has_run() -> None:
    dual = Dual()
    assert dual.raw.permit(PEER) == 0
    dual.world.run(300.0)
    assert dual.refresh(600, V6) == 0
    dual.world.now += 300.0
    assert dual.raw.permit(PEER) == 443
    assert dual.world.relays == {dual.v6}


def test_a_refresh_without_family_is_for_both() -> None:
    dual = Dual()
    dual.world.run(300.0)
    assert dual.refresh(600) == 0
    dual.world.run(599.0)
    assert dual.world.relays == {dual.v4, dual.v6}
    dual.world.run(2.0)
    assert dual.world.relays == set()
    assert len([e for e in dual.world.server_events if isinstance(e, AllocationEnded)]) == 1


@pytest.mark.parametrize(
    ("have", "missing", "code"),
    [((RELAY,), 2, 440), ((RELAY6,), 1, 440)],
)
def test_the_family_that_cannot_be_had_is_named(have: tuple[str, ...], missing: int, code: int) -> None:
    """ADDRESS-ERROR-CODE beside the address of the other (RFC 8656 §7.2)."""
    world = World(make_config(relay_addresses=have))
    raw = world.raw_client()
    answer = raw.allocate(BOTH)
    assert [relayed.host for relayed in answer.all(XOR_RELAYED_ADDRESS)] == list(have)
    declined = answer.get(ADDRESS_ERROR_CODE)
    assert declined is not None
    assert (declined.family, declined.code) == (missing, code)


def test_a_family_without_a_free_port_is_declined_with_508() -> None:
    world = World(make_config(port_range=(50000, 50000)))
    assert code_of(world.raw_client(40000).allocate()) == 0
    answer = world.raw_client(40001).allocate(BOTH)
    assert [relayed.host for relayed in answer.all(XOR_RELAYED_ADDRESS)] == [RELAY6]
    declined = answer.get(ADDRESS_ERROR_CODE)
    assert declined is not None
    assert (declined.family, declined.code) == (1, 508)
    assert code_of(world.raw_client(40002).allocate(BOTH)) == 508


@pytest.mark.parametrize("refused", [0, 1])
def test_a_socket_that_opens_for_one_family_only(refused: int) -> None:
    """The other is declined with 508 when no port could be opened; what did open is not asked for again."""
    world = World()
    raw = world.raw_client()
    host = (RELAY, RELAY6)[refused]
    opens = world._open

    def choosy(event: RelayWanted) -> None:
        if event.address.host == host:
            world.server.relay_failed(event.token, world.now)
        else:
            opens(event)

    world._open = choosy  # type: ignore[method-assign]
    answer = raw.allocate(BOTH)
    [relayed] = answer.all(XOR_RELAYED_ADDRESS)
    assert relayed.host == (RELAY, RELAY6)[not refused]
    declined = answer.get(ADDRESS_ERROR_CODE)
    assert declined is not None
    assert (declined.family, declined.code) == (refused + 1, 508)
    assert world.server.stats.relay_ports == 1


def test_nothing_opens_at_all() -> None:
    world = World()
    world.unbindable = set(range(65536))
    assert code_of(world.raw_client().allocate(BOTH)) == 508
    assert world.server.stats.relay_ports == 0
    assert world.server.stats.allocations == 0


def test_given_up_while_one_socket_is_open_and_one_is_not() -> None:
    """FAULTS 160: both are closed, and the quota is free again."""
    world = World(make_config(limits=TurnLimits(allocations_per_user=1)))
    raw = world.raw_client()
    held: list[RelayWanted] = []
    world._open = held.append  # type: ignore[method-assign]
    raw.signed(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17), BOTH)
    first, second = held
    world.relays.add(first.address)
    world.server.relay_opened(first.token, world.now)
    assert code_of(raw.refresh(0)) == 0
    world.relays.add(second.address)
    world.server.relay_opened(second.token, world.now)
    world.run()
    assert world.relays == set()
    assert world.server.stats.relay_ports == 0
    del world._open
    assert code_of(raw.allocate()) == 0


def test_close_while_one_socket_is_open_and_one_is_not() -> None:
    world = World()
    raw = world.raw_client()
    held: list[RelayWanted] = []
    world._open = held.append  # type: ignore[method-assign]
    raw.signed(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17), BOTH)
    world.relays.add(held[0].address)
    world.server.relay_opened(held[0].token, world.now)
    world.server.close(world.now)
    world.run()
    assert world.relays == set()
    assert [e.address for e in world.server_events if isinstance(e, RelayReleased)] == [held[0].address]
