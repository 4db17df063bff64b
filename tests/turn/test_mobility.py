"""Allocations that move with a ticket (RFC 8016)."""

from __future__ import annotations

import pytest

from natwalk.core import Path, Transport
from natwalk.stun import (
    CONNECTION_ID,
    DATA,
    LIFETIME,
    MOBILITY_TICKET,
    REQUESTED_TRANSPORT,
    XOR_PEER_ADDRESS,
    Message,
    Method,
    decode,
)
from natwalk.turn import (
    AllocationEnded,
    ClientReleased,
    EndReason,
    FlowAdded,
    FlowRemoved,
    RelayWanted,
    TurnLimits,
    rest_credentials,
)
from natwalk.turn.channel_data import decode_channel_data, encode_channel_data
from natwalk.turn.mobility import new_ticket
from turn_world import PEER, Raw, World, code_of, make_config

ASKS = (MOBILITY_TICKET, b"")


class Mobile:
    """A client with a ticket, a permission and channel 0x4000 to PEER."""

    def __init__(self, world: World | None = None, transport: Transport = Transport.UDP) -> None:
        self.world = world or World()
        self.first = self.world.raw_client(50000, transport=transport)
        answer = self.first.allocate(ASKS)
        assert code_of(answer) == 0
        self.ticket = ticket_of(answer)
        assert self.first.relayed is not None
        self.relayed = self.first.relayed
        assert self.first.bind_channel(0x4000, PEER) == 0

    def move(self, to: Raw, ticket: bytes | None = None, lifetime: int = 600, **options: object) -> Message:
        ticket = self.ticket if ticket is None else ticket
        attributes = ((LIFETIME, lifetime), (MOBILITY_TICKET, ticket))
        answer = to.signed(Method.REFRESH, *attributes, **options)  # type: ignore[arg-type]
        assert answer is not None
        return answer

    def from_peer(self, to: Raw) -> bytes | None:
        self.world.raw[to.address].clear()
        self.world.from_peer(b"hello", self.relayed)
        return (self.world.raw[to.address] or [None])[0]

    def flows(self) -> list[tuple[str, int]]:
        kinds = (FlowAdded, FlowRemoved)
        found = [event for event in self.world.server_events if isinstance(event, kinds)]
        return [(type(event).__name__, event.client.port) for event in found]


def ticket_of(answer: Message) -> bytes:
    ticket = answer.get(MOBILITY_TICKET)
    assert ticket is not None
    assert len(ticket) >= 32
    return ticket


def test_a_ticket_may_be_taken_for_text() -> None:
    """coturn's client ends a ticket at its first zero byte and then moves nothing."""
    assert new_ticket(bytes) == b"A" * 32
    assert new_ticket(lambda n: b"\xff" * n).decode().isprintable()


def test_a_ticket_is_given_to_who_asks() -> None:
    """RFC 8016 §3.1; and to nobody else."""
    world = World()
    assert len(ticket_of(world.raw_client(50000).allocate(ASKS))) == 32
    assert MOBILITY_TICKET not in world.raw_client(50001).allocate()
    assert code_of(world.raw_client(50002).allocate((MOBILITY_TICKET, b"x"))) == 400


def test_mobility_that_is_off_is_405() -> None:
    """RFC 8016 §3.1, §3.2."""
    world = World(make_config(mobility=False))
    raw = world.raw_client()
    assert code_of(raw.allocate(ASKS)) == 405
    assert code_of(raw.allocate()) == 0
    assert code_of(raw.signed(Method.REFRESH, (MOBILITY_TICKET, b"x" * 32))) == 405
    assert world.server.stats.allocations == 1


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TLS])
def test_the_allocation_moves_with_permissions_and_channels(transport: Transport) -> None:
    """RFC 8016 §3.2: the same relayed address, from another 5-tuple."""
    mobile = Mobile()
    second = mobile.world.raw_client(50001, transport=transport)
    answer = mobile.move(second)
    assert code_of(answer) == 0
    assert ticket_of(answer) != mobile.ticket
    data = mobile.from_peer(second)
    assert data is not None
    assert decode_channel_data(data) == (0x4000, b"hello")
    assert len(data) == (12 if transport.is_stream else 9)
    second.say(encode_channel_data(0x4000, b"x"))
    second.indicate((XOR_PEER_ADDRESS, PEER), (DATA, b"y"))
    assert [out.data for out in mobile.world.to_peers] == [b"x", b"y"]
    assert mobile.from_peer(mobile.first) is None
    mobile.first.say(encode_channel_data(0x4000, b"old"))
    assert len(mobile.world.to_peers) == 2
    assert code_of(mobile.first.refresh(600)) == 437
    assert mobile.world.server.stats.allocations == 1
    assert mobile.flows() == [("FlowAdded", 50000), ("FlowRemoved", 50000), ("FlowAdded", 50001)]


def test_a_move_repeated_gets_the_same_answer() -> None:
    """RFC 8016 §3.2.2: the old ticket still answers a Refresh whose response got lost, and nothing else."""
    mobile = Mobile()
    second = mobile.world.raw_client(50001)
    first_answer = mobile.move(second, tid=b"transaction1")
    assert mobile.move(second, tid=b"transaction1").raw == first_answer.raw
    current = ticket_of(first_answer)
    assert ticket_of(mobile.move(second, tid=b"transaction2")) == current
    third = mobile.world.raw_client(50002)
    assert code_of(mobile.move(third)) == 400
    assert code_of(mobile.move(third, current)) == 0
    assert code_of(mobile.move(third, mobile.ticket)) == 400
    assert mobile.world.server.stats.allocations == 1


def test_a_client_may_come_back_to_where_it_was() -> None:
    mobile = Mobile()
    second = mobile.world.raw_client(50001)
    ticket = ticket_of(mobile.move(second))
    assert code_of(mobile.move(mobile.first, ticket)) == 0
    assert mobile.from_peer(mobile.first) is not None


def test_a_refresh_with_the_ticket_where_it_is_changes_nothing() -> None:
    mobile = Mobile()
    answer = mobile.move(mobile.first)
    assert ticket_of(answer) == mobile.ticket
    assert mobile.flows() == [("FlowAdded", 50000)]


def test_a_ticket_is_for_its_user() -> None:
    mobile = Mobile()
    bob = mobile.world.raw_client(50001, username="bob")
    assert code_of(mobile.move(bob)) == 441
    assert code_of(mobile.move(mobile.world.raw_client(50002), password="wrong")) == 401
    assert mobile.from_peer(mobile.first) is not None


def test_a_ticket_nobody_made_is_400() -> None:
    mobile = Mobile()
    second = mobile.world.raw_client(50001)
    for wrong in (b"", b"x" * 32, mobile.ticket[:-1], mobile.ticket + b"\0"):
        assert code_of(mobile.move(second, wrong)) == 400


def test_a_5_tuple_with_an_allocation_takes_no_other() -> None:
    mobile = Mobile()
    second = mobile.world.raw_client(50001)
    second.allocate()
    assert code_of(mobile.move(second)) == 437
    assert mobile.from_peer(mobile.first) is not None


def test_a_5_tuple_that_waits_for_an_allocation_takes_no_other() -> None:
    """Allocate and Refresh in one breath: the first decides, whenever its socket opens."""
    mobile = Mobile()
    second = mobile.world.raw_client(50001)
    held: list[RelayWanted] = []
    mobile.world._open = held.append  # type: ignore[method-assign]
    assert second.signed(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17)) is None
    assert code_of(mobile.move(second)) == 437
    mobile.world.relays.add(held[0].address)
    mobile.world.server.relay_opened(held[0].token, mobile.world.now)
    mobile.world.run()
    assert mobile.world.server.stats.allocations == 2
    assert mobile.from_peer(mobile.first) is not None


def test_a_ticket_is_worthless_when_due_though_no_timer_has_run() -> None:
    mobile = Mobile()
    second = mobile.world.raw_client(50001)
    second.challenge()
    mobile.world.now += 600.0
    second.nonce = b""
    assert code_of(mobile.move(second)) == 400
    assert mobile.world.server.stats.allocations == 0


def test_delete_from_elsewhere() -> None:
    """LIFETIME 0 with the ticket ends it where it is; the 5-tuple it came from is free."""
    mobile = Mobile()
    second = mobile.world.raw_client(50001)
    answer = mobile.move(second, lifetime=0)
    assert (code_of(answer), answer.get(LIFETIME)) == (0, 0)
    assert MOBILITY_TICKET not in answer
    assert mobile.world.relays == set()
    assert code_of(mobile.move(second)) == 400
    assert code_of(second.allocate()) == 0


def test_tickets_end_with_the_allocation() -> None:
    mobile = Mobile()
    mobile.move(mobile.world.raw_client(50001))
    assert len(mobile.world.server._table.by_ticket) == 2
    mobile.world.run(601.0)
    assert mobile.world.server._table.by_ticket == {}


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.TLS, Transport.DTLS])
def test_a_connection_left_behind_is_closed(transport: Transport) -> None:
    mobile = Mobile(transport=transport)
    mobile.move(mobile.world.raw_client(50001))
    released = [e for e in mobile.world.server_events if isinstance(e, ClientReleased)]
    assert released == [ClientReleased(mobile.first.path)]
    mobile.first.close()
    assert mobile.world.server.stats.allocations == 1


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.TLS, Transport.DTLS])
def test_a_client_whose_connection_broke_comes_back(transport: Transport) -> None:
    """The allocation waits to its lifetime; what peers send meanwhile is dropped."""
    mobile = Mobile(transport=transport)
    mobile.first.close()
    assert mobile.world.server.stats.allocations == 1
    assert mobile.flows() == [("FlowAdded", 50000), ("FlowRemoved", 50000)]
    mobile.world.from_peer(b"lost", mobile.relayed)
    assert mobile.world.raw[mobile.first.address] == []
    mobile.world.run(100.0)
    second = mobile.world.raw_client(50001, transport=transport)
    assert code_of(mobile.move(second)) == 0
    assert mobile.from_peer(second) is not None
    assert not [e for e in mobile.world.server_events if isinstance(e, ClientReleased)]
    assert mobile.flows()[-1] == ("FlowAdded", 50001)


def test_whoever_gets_the_old_port_does_not_get_the_allocation() -> None:
    mobile = Mobile(transport=Transport.TCP)
    mobile.first.close()
    assert code_of(mobile.first.refresh(600)) == 437
    mobile.first.say(encode_channel_data(0x4000, b"x"))
    assert mobile.world.to_peers == []
    assert code_of(mobile.first.allocate()) == 0


def test_a_client_may_come_back_on_the_very_same_5_tuple() -> None:
    mobile = Mobile(transport=Transport.TCP)
    mobile.first.close()
    assert code_of(mobile.move(mobile.first)) == 0
    assert mobile.from_peer(mobile.first) is not None


def test_a_client_that_does_not_come_back_loses_it_in_time() -> None:
    """And its quota is held till then (FAULTS 55)."""
    world = World(make_config(limits=TurnLimits(allocations_per_user=1)))
    mobile = Mobile(world, Transport.TCP)
    mobile.first.close()
    mobile.first.close()
    assert code_of(world.raw_client(50001).allocate()) == 486
    world.run(601.0)
    [ended] = [e for e in world.server_events if isinstance(e, AllocationEnded)]
    assert ended.reason is EndReason.EXPIRED
    assert world.server.stats.flows == 0
    assert code_of(world.raw_client(50002).allocate()) == 0


def test_permissions_go_on_running_out_while_away() -> None:
    mobile = Mobile(transport=Transport.TCP)
    mobile.first.close()
    mobile.world.run(301.0)
    second = mobile.world.raw_client(50001, transport=Transport.TCP)
    assert code_of(mobile.move(second)) == 0
    assert mobile.from_peer(second) is None
    assert second.permit(PEER) == 0
    assert mobile.from_peer(second) is not None


def test_connections_to_peers_stay_while_the_client_moves() -> None:
    """TCP allocations move as well; a peer that connects while the client is away is refused."""
    world = World(make_config(tcp_relays=True))
    control = world.raw_client(50000, transport=Transport.TCP)
    ticket = ticket_of(control.allocate_tcp(ASKS))
    assert control.relayed is not None
    world.accepting.add(PEER)
    control.permit(PEER)
    answer = control.connect(PEER)
    assert answer is not None
    connection_id = answer.get(CONNECTION_ID)
    assert connection_id is not None
    assert world.raw_client(51000, transport=Transport.TCP).bind_connection(connection_id) == 0
    control.close()
    assert world.peer_connects(control.relayed, PEER.with_port(1)) is None
    second = world.raw_client(50001, transport=Transport.TCP)
    assert code_of(second.signed(Method.REFRESH, (MOBILITY_TICKET, ticket))) == 0
    assert world.connections == {connection_id}
    assert world.peer_connects(control.relayed, PEER.with_port(1)) is not None
    assert decode(world.raw[second.address][-1]).method == Method.CONNECTION_ATTEMPT


def test_rest_credentials_that_expired_since_still_move() -> None:
    """An expiry limits when a session starts, and this one has."""
    world = World(make_config(users={}, auth_secrets=("s",)))
    world.server.set_wall_offset(0.0)
    username, password = rest_credentials("s", world.now, 60, "alice")
    login = {"username": username, "password": password}
    first = world.raw_client(50000)
    ticket = ticket_of(first.allocate(ASKS, **login))
    world.run(120.0)
    second = world.raw_client(50001)
    answer = second.signed(Method.REFRESH, (MOBILITY_TICKET, ticket), **login)
    assert code_of(answer) == 0


def test_the_path_of_another_transport_is_another_5_tuple() -> None:
    """One client address over UDP and over TCP: two allocations."""
    world = World()
    udp = world.raw_client(50000)
    udp.allocate()
    world.listen(Transport.TCP)
    other = Path(udp.path.local, udp.path.remote, Transport.TCP)
    assert world.server.has_allocation(udp.path)
    assert not world.server.has_allocation(other)
    world.server.client_closed(other, world.now)
    assert world.server.has_allocation(udp.path)
