"""EVEN-PORT and RESERVATION-TOKEN: two sockets, the second for another Allocate (RFC 8656 §7.2)."""

from __future__ import annotations

import pytest

from natwalk.core import Address
from natwalk.stun import (
    ADDITIONAL_ADDRESS_FAMILY,
    DONT_FRAGMENT,
    EVEN_PORT,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    XOR_RELAYED_ADDRESS,
    Method,
)
from natwalk.turn import RelayReleased, RelayWanted, TurnLimits
from natwalk.turn.reservations import Reservations
from turn_world import RELAY, RELAY6, World, code_of, make_config, seeded

PAIR = (EVEN_PORT, True)


def reserve(world: World, port: int = 50000, **options: object) -> tuple[Address, bytes]:
    """An allocation on an even port, and the token for the port after it."""
    answer = world.raw_client(port, **options).allocate(PAIR)  # type: ignore[arg-type]
    relayed, token = answer.get(XOR_RELAYED_ADDRESS), answer.get(RESERVATION_TOKEN)
    assert relayed is not None
    assert token is not None
    return relayed, token


@pytest.mark.parametrize("family", [1, 2])
def test_the_token_is_good_for_the_next_port_of_the_same_address(family: int) -> None:
    for seed in range(10):
        world = World(seed=seed)
        answer = world.raw_client().allocate(PAIR, (REQUESTED_ADDRESS_FAMILY, family))
        relayed, token = answer.get(XOR_RELAYED_ADDRESS), answer.get(RESERVATION_TOKEN)
        assert relayed is not None
        assert token is not None
        assert len(token) == 8
        assert relayed.port % 2 == 0
        assert relayed.host == (RELAY, RELAY6)[family - 1]
        assert world.relays == {relayed, relayed.with_port(relayed.port + 1)}
        second = world.raw_client(50001).allocate((RESERVATION_TOKEN, token))
        assert second.get(XOR_RELAYED_ADDRESS) == relayed.with_port(relayed.port + 1)
        assert world.server.stats.allocations == 2


def test_a_token_is_good_once_and_for_whoever_shows_it() -> None:
    world = World()
    relayed, token = reserve(world)
    bob = world.raw_client(50001, username="bob")
    assert code_of(bob.allocate((RESERVATION_TOKEN, token))) == 0
    assert code_of(world.raw_client(50002).allocate((RESERVATION_TOKEN, token))) == 508
    assert code_of(bob.refresh(0)) == 0
    assert world.relays == {relayed}
    assert code_of(world.raw_client(50003).allocate((RESERVATION_TOKEN, token))) == 508


def test_a_socket_is_held_for_thirty_seconds_exactly() -> None:
    world = World()
    relayed, token = reserve(world)
    world.run(29.9)
    assert len(world.relays) == 2
    world.run(0.2)
    assert world.relays == {relayed}
    assert code_of(world.raw_client(50001).allocate((RESERVATION_TOKEN, token))) == 508
    assert [e.address for e in world.server_events if isinstance(e, RelayReleased)] == [
        relayed.with_port(relayed.port + 1)
    ]


def test_a_token_is_worthless_when_due_though_no_timer_has_run() -> None:
    world = World()
    _, token = reserve(world)
    other = world.raw_client(50001)
    other.challenge()
    world.now += 30.0
    world.server.poll_event()
    assert world.server._allocator._reservations.get(token, world.now) is None


def test_a_reservation_counts_until_it_ends() -> None:
    """FAULTS 55: whoever reserves and never comes back cannot hold more sockets than its quota."""
    world = World(make_config(limits=TurnLimits(allocations_per_user=2)))
    raw = world.raw_client()
    _, token = reserve(world)
    assert code_of(world.raw_client(50001).allocate()) == 486
    assert code_of(world.raw_client(50002).allocate((RESERVATION_TOKEN, token))) == 0
    assert code_of(world.raw_client(50003).allocate()) == 486
    assert code_of(raw.refresh(0)) == 0
    assert code_of(world.raw_client(50004).allocate(PAIR)) == 486
    assert code_of(world.raw_client(50005).allocate()) == 0


def test_anothers_token_needs_room_in_ones_own_quota_and_keeps_when_there_is_none() -> None:
    world = World(make_config(limits=TurnLimits(allocations_per_user=2)))
    _, token = reserve(world)
    for n in range(2):
        assert code_of(world.raw_client(50001 + n, username="bob").allocate()) == 0
    assert code_of(world.raw_client(50009, username="bob").allocate((RESERVATION_TOKEN, token))) == 486
    assert code_of(world.raw_client(50010).allocate((RESERVATION_TOKEN, token))) == 0


def test_the_total_counts_reservations_too() -> None:
    world = World(make_config(limits=TurnLimits(allocations=2)))
    _, token = reserve(world)
    assert code_of(world.raw_client(50001, username="bob").allocate()) == 508
    assert code_of(world.raw_client(50002, username="bob").allocate((RESERVATION_TOKEN, token))) == 0
    world.run(1000.0)
    assert world.server.stats.relay_ports == 0
    assert code_of(world.raw_client(50003).allocate(PAIR)) == 0


def test_a_retransmitted_allocate_gets_the_same_token() -> None:
    """FAULTS 60."""
    world = World()
    raw = world.raw_client()
    first = raw.allocate(PAIR, tid=b"transaction1")
    assert raw.allocate(PAIR, tid=b"transaction1").raw == first.raw
    assert len(world.relays) == 2


@pytest.mark.parametrize("taken", [0, 1])
def test_a_pair_of_which_one_port_is_in_use_is_given_back_whole(taken: int) -> None:
    world = World(make_config(port_range=(50000, 50003)))
    world.unbindable = {50000 + taken}
    relayed, _ = reserve(world)
    assert relayed.port == 50002
    assert {relay.port for relay in world.relays} == {50002, 50003}
    assert world.server.stats.relay_ports == 2


def test_no_pair_is_508_though_single_ports_are_free() -> None:
    world = World(make_config(port_range=(50001, 50002)))
    assert code_of(world.raw_client(50000).allocate(PAIR)) == 508
    assert code_of(world.raw_client(50001).allocate((EVEN_PORT, False))) == 0
    assert code_of(world.raw_client(50002).allocate((EVEN_PORT, False))) == 508
    assert code_of(world.raw_client(50003).allocate()) == 0


def test_no_pair_opens() -> None:
    world = World()
    world.unbindable = set(range(65536))
    assert code_of(world.raw_client().allocate(PAIR)) == 508
    assert len([e for e in world.server_events if isinstance(e, RelayWanted)]) == 16
    assert world.server.stats.relay_ports == 0
    world.unbindable = set()
    assert code_of(world.raw_client(50001).allocate(PAIR)) == 0


def test_what_comes_to_a_reserved_socket_goes_nowhere() -> None:
    world = World()
    relayed, _ = reserve(world)
    world.from_peer(b"x", relayed.with_port(relayed.port + 1))
    assert world.server.drops.counts["on a socket that is no listener"] == 1


def test_a_reserved_socket_is_no_peer() -> None:
    """Nothing of it is open to others before it has an allocation."""
    world = World()
    relayed, _ = reserve(world)
    raw = world.raw_client(50001)
    raw.allocate()
    assert raw.bind_channel(0x4000, relayed.with_port(relayed.port + 1)) == 403


@pytest.mark.parametrize(
    "attribute",
    [(EVEN_PORT, False), PAIR, (REQUESTED_ADDRESS_FAMILY, 1), (ADDITIONAL_ADDRESS_FAMILY, 2)],
    ids=str,
)
def test_a_token_goes_alone(attribute: tuple[object, object]) -> None:
    """RFC 8656 §7.2: 400, and the token stays good; DONT-FRAGMENT is no contradiction."""
    world = World()
    _, token = reserve(world)
    assert code_of(world.raw_client(50001).allocate((RESERVATION_TOKEN, token), attribute)) == 400
    assert code_of(world.raw_client(50001).allocate((RESERVATION_TOKEN, token), (DONT_FRAGMENT, True))) == 0


@pytest.mark.parametrize("opened", [0, 1, 2])
def test_given_up_while_the_pair_opens(opened: int) -> None:
    """FAULTS 160: whichever of the two is open by then."""
    world = World(make_config(limits=TurnLimits(allocations_per_user=2)))
    raw = world.raw_client()
    held: list[RelayWanted] = []
    world._open = held.append  # type: ignore[method-assign]
    raw.signed(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17), PAIR)
    for n, wanted in enumerate(held):
        if n == 1:
            assert code_of(raw.refresh(0)) == 0
        if n < opened:
            world.relays.add(wanted.address)
            world.server.relay_opened(wanted.token, world.now)
        else:
            world.server.relay_failed(wanted.token, world.now)
    world.run()
    assert world.relays == set()
    assert world.server.stats.relay_ports == 0
    del world._open
    assert code_of(raw.allocate(PAIR)) == 0


def test_close_while_one_of_the_pair_is_open() -> None:
    world = World()
    raw = world.raw_client()
    held: list[RelayWanted] = []
    world._open = held.append  # type: ignore[method-assign]
    raw.signed(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17), PAIR)
    world.relays.add(held[0].address)
    world.server.relay_opened(held[0].token, world.now)
    world.server.close(world.now)
    world.run()
    assert world.relays == set()
    assert world.server.stats.relay_ports == 0


def test_close_gives_reserved_sockets_back() -> None:
    world = World()
    reserve(world)
    world.server.close(world.now)
    world.run()
    assert world.relays == set()
    assert world.server.next_timeout() is None


def test_tokens_are_random_and_forgotten() -> None:
    reservations = Reservations(seeded())
    tokens = {reservations.hold(Address(RELAY, 50001 + n), "alice", 0.0) for n in range(100)}
    assert len(tokens) == len(reservations) == 100
    assert reservations.next_timeout() == 30.0
    assert len(reservations.handle_timeout(30.0)) == 100
    assert len(reservations) == 0
