"""Allocate: FAULTS A 16, D 55, 59, 60 and RFC 8656 §7.2."""

from __future__ import annotations

import pytest

from natwalk.core import Address, LocalProtocolError
from natwalk.stun import (
    ADDITIONAL_ADDRESS_FAMILY,
    ADDRESS_ERROR_CODE,
    DONT_FRAGMENT,
    EVEN_PORT,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    UNKNOWN_ATTRIBUTES,
    XOR_MAPPED_ADDRESS,
    XOR_RELAYED_ADDRESS,
    AttributeSpec,
    Method,
)
from natwalk.stun.attributes import unknown
from natwalk.turn import (
    AllocationCreated,
    AllocationEnded,
    EndReason,
    RelayReleased,
    RelayWanted,
    TurnLimits,
    TurnServer,
)
from turn_world import RELAY, RELAY6, World, code_of, make_config

UDP = (REQUESTED_TRANSPORT, 17)


def test_success_tells_relayed_mapped_and_lifetime() -> None:
    world = World()
    raw = world.raw_client()
    answer = raw.allocate()
    relayed = answer.get(XOR_RELAYED_ADDRESS)
    assert relayed is not None
    assert relayed.host == RELAY
    assert 49152 <= relayed.port <= 65535
    assert answer.get(XOR_MAPPED_ADDRESS) == raw.address
    assert answer.get(LIFETIME) == 600
    created = next(e for e in world.server_events if isinstance(e, AllocationCreated))
    assert (created.client, created.username, created.relay) == (raw.address, "alice", relayed)


@pytest.mark.parametrize("protocol", [n for n in range(256) if n != 17])
def test_only_udp_is_relayed(protocol: int) -> None:
    """FAULTS 16: all other 255 transports get 442."""
    assert code_of(World().raw_client().signed(Method.ALLOCATE, (REQUESTED_TRANSPORT, protocol))) == 442


def test_transport_is_required() -> None:
    assert code_of(World().raw_client().signed(Method.ALLOCATE)) == 400


@pytest.mark.parametrize(
    ("asked", "granted"),
    [(None, 600), (0, 600), (1, 600), (599, 600), (601, 601), (3600, 3600), (2**32 - 1, 3600)],
)
def test_lifetime_is_clamped(asked: int | None, granted: int) -> None:
    """FAULTS 59."""
    attributes = () if asked is None else ((LIFETIME, asked),)
    assert World().raw_client().allocate(*attributes).get(LIFETIME) == granted


def test_address_families() -> None:
    """Default and 1 are IPv4, 2 is IPv6, others and those without a relay address get 440 (RFC 8656 §7.2)."""
    for family, host in ((None, RELAY), (1, RELAY), (2, RELAY6)):
        attributes = () if family is None else ((REQUESTED_ADDRESS_FAMILY, family),)
        relayed = World().raw_client().allocate(*attributes).get(XOR_RELAYED_ADDRESS)
        assert relayed is not None
        assert relayed.host == host
    assert code_of(World().raw_client().allocate((REQUESTED_ADDRESS_FAMILY, 3))) == 440
    only4 = make_config(relay_addresses=(RELAY,))
    assert code_of(World(only4).raw_client().allocate((REQUESTED_ADDRESS_FAMILY, 2))) == 440
    only6 = make_config(relay_addresses=(RELAY6,))
    assert code_of(World(only6).raw_client().allocate()) == 440


def test_second_family_is_declined_and_the_first_granted() -> None:
    only4 = make_config(relay_addresses=(RELAY,))
    answer = World(only4).raw_client().allocate((ADDITIONAL_ADDRESS_FAMILY, 2))
    assert code_of(answer) == 0
    declined = answer.get(ADDRESS_ERROR_CODE)
    assert declined is not None
    assert (declined.family, declined.code) == (2, 440)


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        (((RESERVATION_TOKEN, b"12345678"),), 508),
        (((RESERVATION_TOKEN, b"12345678"), (EVEN_PORT, False)), 400),
        (((RESERVATION_TOKEN, b"12345678"), (REQUESTED_ADDRESS_FAMILY, 1)), 400),
        (((ADDITIONAL_ADDRESS_FAMILY, 1),), 400),
        (((ADDITIONAL_ADDRESS_FAMILY, 2), (REQUESTED_ADDRESS_FAMILY, 1)), 400),
        (((ADDITIONAL_ADDRESS_FAMILY, 2), (EVEN_PORT, True)), 400),
    ],
)
def test_combinations_the_rfc_forbids_and_unknown_tokens(
    attributes: tuple[tuple[AttributeSpec[object], object], ...], code: int
) -> None:
    """RFC 8656 §7.2: contradictions are 400, a token that reserves nothing is 508."""
    assert code_of(World().raw_client().allocate(*attributes)) == code


def test_even_port_without_reservation_is_honoured() -> None:
    for seed in range(20):
        relayed = World(seed=seed).raw_client().allocate((EVEN_PORT, False)).get(XOR_RELAYED_ADDRESS)
        assert relayed is not None
        assert relayed.port % 2 == 0


def test_unknown_required_attributes_get_420_with_at_most_128_listed() -> None:
    """FAULTS 30: 200 unknown types; optional ones are no reason to refuse, nor is DONT-FRAGMENT."""
    many = tuple((unknown(0x4000 + n), b"") for n in range(200))
    answer = World().raw_client().allocate(*many)
    assert code_of(answer) == 420
    listed = answer.get(UNKNOWN_ATTRIBUTES)
    assert listed is not None
    assert listed == tuple(range(0x4000, 0x4000 + 128))
    assert code_of(World().raw_client().allocate((unknown(0xC0FE), b"optional"))) == 0
    assert code_of(World().raw_client().allocate((DONT_FRAGMENT, True))) == 0


def test_retransmitted_allocate_gets_the_same_answer() -> None:
    """FAULTS 60: same transaction, same bytes; another transaction is 437; another user is 441."""
    world = World()
    raw = world.raw_client()
    first = raw.allocate(tid=b"transaction1")
    world.run(5.0)
    assert raw.allocate(tid=b"transaction1").raw == first.raw
    assert code_of(raw.allocate(tid=b"transaction2")) == 437
    assert code_of(raw.allocate(tid=b"transaction1", username="bob")) == 441
    assert world.server.stats.allocations == 1


def test_allocate_repeated_while_the_socket_opens_is_one_allocation() -> None:
    """FAULTS 60: the driver may take its time."""
    world = World()
    raw = world.raw_client()
    raw.challenge()
    held: list[RelayWanted] = []
    world._open = held.append  # type: ignore[method-assign]
    assert raw.signed(Method.ALLOCATE, UDP, tid=b"transaction1") is None
    assert raw.signed(Method.ALLOCATE, UDP, tid=b"transaction1") is None
    assert code_of(raw.signed(Method.ALLOCATE, UDP, tid=b"transaction2")) == 437
    assert len(held) == 1
    world.relays.add(held[0].address)
    world.server.relay_opened(held[0].token, world.now)
    world.run()
    assert world.server.stats.allocations == 1


@pytest.mark.parametrize("opens", [True, False])
def test_allocate_given_up_while_the_socket_opens_leaves_nothing(opens: bool) -> None:
    """FAULTS 160: Allocate and Refresh with lifetime 0 come in one batch."""
    world = World(make_config(limits=TurnLimits(allocations_per_user=1)))
    raw = world.raw_client()
    held: list[RelayWanted] = []
    world._open = held.append  # type: ignore[method-assign]
    assert raw.signed(Method.ALLOCATE, UDP) is None
    assert code_of(raw.refresh(0, username="bob")) == 437
    assert code_of(raw.refresh(600)) == 437
    assert code_of(raw.refresh(0)) == 0
    del world._open
    world.raw[raw.address].clear()
    if opens:
        world.relays.add(held[0].address)
        world.server.relay_opened(held[0].token, world.now)
    else:
        world.server.relay_failed(held[0].token, world.now)
    world.run()
    assert world.raw[raw.address] == []
    assert world.relays == set()
    assert world.server.stats.allocations == 0
    assert code_of(raw.allocate()) == 0


def test_user_quota_is_exact() -> None:
    """FAULTS 55: N of N+1 parallel allocations from N+1 sources; deleting makes room again."""
    world = World(make_config(limits=TurnLimits(allocations_per_user=3)))
    raws = [world.raw_client(50000 + n, host=f"198.51.100.{10 + n}") for n in range(4)]
    held: list[RelayWanted] = []
    world._open = held.append  # type: ignore[method-assign]
    answers = [code_of(raw.signed(Method.ALLOCATE, UDP)) for raw in raws]
    assert answers == [-1, -1, -1, 486]
    for wanted in held:
        world.relays.add(wanted.address)
        world.server.relay_opened(wanted.token, world.now)
    world.run()
    del world._open
    assert code_of(world.raw_client(username="bob").allocate()) == 0
    assert code_of(raws[0].refresh(0)) == 0
    assert code_of(raws[3].allocate()) == 0
    assert code_of(raws[0].allocate()) == 486


def test_rest_users_share_a_quota_however_their_credentials_rotate() -> None:
    from natwalk.turn import rest_credentials

    limits = TurnLimits(allocations_per_user=1)
    world = World(make_config(users={}, auth_secrets=("s",), limits=limits))
    world.server.set_wall_offset(0.0)
    codes = []
    for n, ttl in enumerate((100, 200)):
        username, password = rest_credentials("s", world.now, ttl, "alice")
        codes.append(code_of(world.raw_client(50000 + n).allocate(username=username, password=password)))
    assert codes == [0, 486]


def test_total_limit_is_insufficient_capacity() -> None:
    world = World(make_config(limits=TurnLimits(allocations=1)))
    assert code_of(world.raw_client(50000).allocate()) == 0
    assert code_of(world.raw_client(50001, username="bob").allocate()) == 508


def test_ports_run_out_with_508_and_come_back() -> None:
    world = World(make_config(port_range=(50000, 50002)))
    raws = [world.raw_client(40000 + n) for n in range(4)]
    answers = [raw.allocate() for raw in raws]
    assert [code_of(answer) for answer in answers] == [0, 0, 0, 508]
    ports = {answer.get(XOR_RELAYED_ADDRESS) for answer in answers[:3]}
    assert ports == {Address(RELAY, port) for port in (50000, 50001, 50002)}
    assert code_of(raws[1].refresh(0)) == 0
    assert code_of(raws[3].allocate()) == 0


def test_port_in_use_elsewhere_is_passed_over() -> None:
    world = World(make_config(port_range=(50000, 50003)))
    world.unbindable = {50000, 50001, 50002}
    relayed = world.raw_client().allocate().get(XOR_RELAYED_ADDRESS)
    assert relayed == Address(RELAY, 50003)


def test_no_socket_at_all_is_508_and_leaves_nothing() -> None:
    """FAULTS 65: out of file descriptors."""
    world = World()
    world.unbindable = set(range(65536))
    raw = world.raw_client()
    assert code_of(raw.allocate()) == 508
    assert len([e for e in world.server_events if isinstance(e, RelayWanted)]) == 8
    assert world.server.stats.allocations == 0
    world.unbindable = set()
    for port in range(12):
        assert code_of(world.raw_client(40000 + port).allocate()) == 0


def test_token_nobody_wanted_is_the_drivers_mistake() -> None:
    server: TurnServer = World().server
    with pytest.raises(LocalProtocolError):
        server.relay_opened(99, 0.0)
    with pytest.raises(LocalProtocolError):
        server.relay_failed(99, 0.0)


def test_close_ends_everything_and_forgets_what_waits() -> None:
    world = World()
    raw = world.raw_client()
    raw.allocate()
    held: list[RelayWanted] = []
    world._open = held.append  # type: ignore[method-assign]
    world.raw_client(50001).signed(Method.ALLOCATE, UDP)
    world.server.close(world.now)
    world.run()
    ended = [e for e in world.server_events if isinstance(e, AllocationEnded)]
    assert [e.reason for e in ended] == [EndReason.SHUTDOWN]
    assert [e for e in world.server_events if isinstance(e, RelayReleased)]
    assert world.relays == set()
    with pytest.raises(LocalProtocolError):
        world.server.relay_opened(held[0].token, world.now)
    assert world.server.next_timeout() is None
