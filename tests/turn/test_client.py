"""The client's allocation: life, refresh, loss, hostile answers. FAULTS B 35, 36, C 48, D 59, 60."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance import CoreConformance, drain
from natwalk.core import Address, Core, LocalProtocolError, Path, Transport
from natwalk.stun import (
    ALTERNATE_SERVER,
    LIFETIME,
    MOBILITY_TICKET,
    NONCE,
    REALM,
    XOR_MAPPED_ADDRESS,
    XOR_RELAYED_ADDRESS,
    Message,
    Method,
    decode,
    encode,
    error,
    long_term_key,
    success,
)
from natwalk.turn import (
    Allocated,
    AllocationEnded,
    AllocationFailed,
    AllocationLost,
    AllocationOptions,
    Closed,
    EndReason,
    PasswordCredentials,
    PeerData,
    RefreshFailed,
    TurnClient,
    TurnLimits,
)
from turn_world import LISTENER, PEER, RELAY6, World, make_config, seeded

LOCAL = Address("198.51.100.7", 40000)
PATH = Path(LOCAL, LISTENER)
KEY = long_term_key("alice", "here", "pw")
RELAYED = Address("203.0.113.50", 50000)


class TestTurnClientConformance(CoreConformance):
    """A client with an allocation, a permission and a channel, and a datagram in the queue."""

    def make(self, now: float) -> Core[Any]:
        world = World(now=now)
        client = world.allocated()
        client.bind_channel(PEER, now)
        world.run()
        client.send(b"x", Address("192.0.2.78", 7000), now)
        return client

    def path(self, core: Core[Any]) -> Path:
        return PATH


class TestTurnClientAllocatingConformance(CoreConformance):
    """A client whose first request is in flight."""

    def make(self, now: float) -> Core[Any]:
        client = make()
        client.allocate(now)
        return client

    def path(self, core: Core[Any]) -> Path:
        return PATH


class TestTurnClientOverTcpConformance(CoreConformance):
    """A client on a stream that moves to another one."""

    def make(self, now: float) -> Core[Any]:
        client = make(transport=Transport.TCP, mobility=True)
        client.allocate(now)
        [bare] = sent(client)
        path = Path(LOCAL, LISTENER, Transport.TCP)
        client.receive(encode(error(bare, 401, "", (REALM, "here"), (NONCE, b"n"))), path, now)
        [signed] = sent(client)
        answer = success(signed, (XOR_RELAYED_ADDRESS, RELAYED), (LIFETIME, 600), (MOBILITY_TICKET, b"t"))
        client.receive(encode(answer, integrity_key=KEY), path, now)
        client.bind_channel(PEER, now)
        client.migrate(LOCAL.with_port(41000), now)
        return client

    def path(self, core: Core[Any]) -> Path:
        return Path(LOCAL, LISTENER, Transport.TCP)


def make(**options: Any) -> TurnClient:
    transport = options.pop("transport", Transport.UDP)
    return TurnClient(
        LISTENER,
        LOCAL,
        PasswordCredentials("alice", "pw"),
        random_bytes=seeded(),
        transport=transport,
        options=AllocationOptions(**options),
    )


def sent(client: TurnClient) -> list[Message]:
    return [decode(out.data) for out in drain(client)[0]]


def signed_allocate(client: TurnClient) -> Message:
    """Answer the first Allocate with a challenge; the second one."""
    client.allocate(0.0)
    [bare] = sent(client)
    tell(client, error(bare, 401, "", (REALM, "here"), (NONCE, b"n")), key=None)
    [signed] = sent(client)
    return signed


def tell(client: TurnClient, message: Message, *, key: bytes | None = KEY, now: float = 0.1) -> None:
    client.receive(encode(message, integrity_key=key), PATH, now)


def granted(
    to: Message, *, relayed: Address = RELAYED, lifetime: int = 600, mapped: Address = LOCAL
) -> Message:
    return success(to, (XOR_RELAYED_ADDRESS, relayed), (LIFETIME, lifetime), (XOR_MAPPED_ADDRESS, mapped))


def test_allocation_tells_what_was_granted() -> None:
    world = World()
    client = world.allocated(lifetime=700)
    assert client.relayed in world.relays
    assert client.mapped == client.local
    assert world.events[client.local] == [Allocated(client.relayed, client.mapped, 700)]


def test_ipv6_relay_on_request() -> None:
    world = World()
    client = world.allocated(family=6)
    assert client.relayed is not None
    assert client.relayed.host == RELAY6
    with pytest.raises(ValueError):
        make(family=5)


def test_misuse_is_told_at_once() -> None:
    world = World()
    client = world.client()
    for command in (
        lambda: client.send(b"x", PEER, 0.0),
        lambda: client.create_permission([PEER.ip], 0.0),
        lambda: client.bind_channel(PEER, 0.0),
    ):
        with pytest.raises(LocalProtocolError):
            command()
    client.allocate(world.now)
    with pytest.raises(LocalProtocolError):
        client.allocate(world.now)
    world.run()
    with pytest.raises(LocalProtocolError):
        client.send(b"x", Address("2001:db8::9", 9), world.now)
    with pytest.raises(LocalProtocolError):
        client.send(bytes(65_001), PEER, world.now)


def test_owns_what_the_server_sends_to_this_allocation() -> None:
    """Demultiplexing on a socket shared with ICE checks and a STUN client at the same server."""
    from natwalk.stun import request

    client = make()
    assert client.owns(b"\x40\x00\x00\x00", PATH)
    assert client.owns(encode(success(request(Method.REFRESH, bytes(12)))), PATH)
    assert client.owns(encode(Message(Method.DATA, 1, bytes(12))), PATH)  # type: ignore[arg-type]
    assert not client.owns(encode(success(request(Method.BINDING, bytes(12)))), PATH)
    assert not client.owns(b"\x40\x00\x00\x00", Path(LOCAL, PEER))
    assert not client.owns(b"\x40\x00\x00\x00", Path(LOCAL.with_port(1), LISTENER))
    assert not client.owns(b"\x80" * 20, PATH)
    assert not client.owns(b"", PATH)


def test_wrong_password_fails_with_401() -> None:
    world = World()
    client = world.client(password="wrong")
    client.allocate(world.now)
    world.run()
    assert [(type(e), e.code) for e in world.events[client.local]] == [(AllocationFailed, 401)]
    assert client.next_timeout() is None


def test_silent_server_fails_after_39_5_seconds() -> None:
    """RFC 8489 §6.2.1: 7 requests, then 16 RTOs of waiting."""
    world = World(loss=1.0)
    client = world.client()
    client.allocate(world.now)
    world.run(39.4)
    assert world.events[client.local] == []
    world.run(0.2)
    [failed] = world.events[client.local]
    assert isinstance(failed, AllocationFailed)
    assert failed.timed_out
    assert failed.code is None


def test_quota_is_told_as_its_code() -> None:
    world = World(make_config(limits=TurnLimits(allocations_per_user=1)))
    world.allocated(40000)
    client = world.client(40001)
    client.allocate(world.now)
    world.run()
    [failed] = world.events[client.local]
    assert (failed.code, failed.reason) == (486, "Allocation Quota Reached")


def test_stale_nonces_end_in_failure_not_in_a_loop() -> None:
    """FAULTS 48."""
    client = make()
    signed = signed_allocate(client)
    for n in range(50):
        tell(client, error(signed, 438, "", (REALM, "here"), (NONCE, b"n%d" % n)), key=None)
        transmits, events = drain(client)
        if events:
            break
        [signed] = [decode(out.data) for out in transmits]
    assert n <= 5
    assert [(type(e), e.code) for e in events] == [(AllocationFailed, 438)]


def test_redirect_is_a_failure_that_says_so() -> None:
    """FAULTS 35: not followed, with or without integrity."""
    for key, events in ((None, 0), (KEY, 1)):
        client = make()
        signed = signed_allocate(client)
        tell(client, error(signed, 300, "Try Alternate", (ALTERNATE_SERVER, PEER)), key=key)
        found = drain(client)[1]
        assert [(e.code, e.reason) for e in found] == [(300, "Try Alternate")] * events


@pytest.mark.parametrize(
    "relayed", [Address("0.0.0.0", 5), Address("::", 5), Address("224.0.0.1", 5), Address("203.0.113.50", 0)]
)
def test_senseless_relayed_address_is_a_failure(relayed: Address) -> None:
    client = make()
    tell(client, granted(signed_allocate(client), relayed=relayed))
    transmits, [failed] = drain(client)
    assert isinstance(failed, AllocationFailed)
    assert client.relayed is None
    [given_back] = [decode(out.data) for out in transmits]  # RFC 8656 §7.3: the client deletes it
    assert (given_back.method, given_back.get(LIFETIME)) == (Method.REFRESH, 0)
    due = client.next_timeout()
    assert due is not None
    client.handle_timeout(due)
    assert drain(client) == ([], [])
    assert client.next_timeout() is None


def test_relayed_address_of_the_wrong_family_is_a_failure() -> None:
    client = make(family=6)
    tell(client, granted(signed_allocate(client)))
    assert [type(e) for e in drain(client)[1]] == [AllocationFailed]


def test_incomplete_success_is_a_failure() -> None:
    client = make()
    tell(client, success(signed_allocate(client), (LIFETIME, 600)))
    assert [type(e) for e in drain(client)[1]] == [AllocationFailed]


def test_senseless_mapped_address_is_left_out() -> None:
    client = make()
    tell(client, granted(signed_allocate(client), mapped=Address("0.0.0.0", 1)))
    assert drain(client)[1] == [Allocated(RELAYED, None, 600)]


def test_forged_answers_do_not_disturb() -> None:
    """FAULTS 36: wrong source, no integrity, a second answer."""
    client = make()
    signed = signed_allocate(client)
    good = encode(granted(signed), integrity_key=KEY)
    client.receive(good, Path(LOCAL, LISTENER.with_port(99)), 0.1)
    tell(client, granted(signed, relayed=Address("203.0.113.66", 6)), key=None)
    tell(client, error(signed, 437), key=None)
    assert drain(client)[1] == []
    client.receive(good, PATH, 0.2)
    client.receive(good, PATH, 0.3)
    assert drain(client)[1] == [Allocated(RELAYED, LOCAL, 600)]
    assert client.drops.total == 4


def test_data_before_the_allocation_and_after_the_end_are_dropped() -> None:
    client = make()
    client.receive(b"\x40\x00\x00\x00", PATH, 0.0)
    client.close(0.0)
    client.receive(b"\x40\x00\x00\x00", PATH, 0.0)
    assert drain(client)[1] == [Closed()]
    assert client.drops.total == 2


@pytest.mark.parametrize(
    ("lifetime", "first"), [(0, 5.0), (1, 5.0), (600, 300.0), (3600, 1800.0), (2**32 - 1, 1800.0)]
)
def test_refresh_comes_at_half_life_within_bounds(lifetime: int, first: float) -> None:
    """FAULTS 59: whatever lifetime a server states, neither a storm nor an overflow."""
    client = make()
    tell(client, granted(signed_allocate(client), lifetime=lifetime), now=0.0)
    drain(client)
    assert client.next_timeout() == first
    client.handle_timeout(first)
    assert [message.method for message in sent(client)] == [Method.REFRESH]


def test_refresh_that_fails_is_tried_again_until_the_allocation_expires() -> None:
    """The server goes silent after 100 s; the client says so when its lifetime is over, not before."""
    world = World()
    client = world.allocated()
    start = world.now
    world.run(100.0)
    world.loss = 1.0
    world.run(start + 599.0 - world.now)
    first, *failures = world.events[client.local]
    assert isinstance(first, Allocated)
    assert all(isinstance(each, RefreshFailed) and each.code is None for each in failures)
    assert len(failures) >= 3
    world.run(2.0)
    assert [type(e) for e in world.events[client.local]][-1:] == [AllocationLost]
    assert client.next_timeout() is None
    assert client.relayed is None


def test_refresh_survives_an_outage_shorter_than_what_is_left() -> None:
    world = World()
    client = world.allocated()
    world.run(290.0)
    world.loss = 1.0
    world.run(200.0)
    world.loss = 0.0
    world.run(3600.0)
    assert {type(e) for e in world.events[client.local]} == {Allocated, RefreshFailed}
    assert world.server.stats.allocations == 1


def test_refused_refresh_is_tried_again() -> None:
    client = make()
    tell(client, granted(signed_allocate(client)), now=0.0)
    drain(client)
    client.handle_timeout(300.0)
    [refresh] = sent(client)
    tell(client, error(refresh, 508, "Full"), now=300.0)
    assert client.next_timeout() == 450.0
    assert drain(client)[1] == [RefreshFailed(508, "Full", 150.0)]


def test_server_that_forgot_the_allocation_is_noticed() -> None:
    """FAULTS 151: a restart of the server; the next Refresh or CreatePermission gets 437."""
    for trigger in ("refresh", "permission"):
        world = World()
        client = world.allocated()
        world.server.close(world.now)
        world.run()
        if trigger == "permission":
            client.send(b"x", PEER, world.now)
            world.run()
        else:
            world.run(301.0)
        assert [type(e) for e in world.events[client.local]] == [Allocated, AllocationLost]


def test_close_gives_the_allocation_back() -> None:
    world = World()
    client = world.allocated()
    client.send(b"waits", PEER, world.now)
    client.close(world.now)
    client.close(world.now)
    world.run()
    assert world.events[client.local][-1] == Closed()
    ended = [e for e in world.server_events if isinstance(e, AllocationEnded)]
    assert [e.reason for e in ended] == [EndReason.DELETED]
    assert client.next_timeout() is None
    assert client.relayed is None
    client.close(world.now)
    assert client.poll_event() is None


def test_close_does_not_wait_long_for_a_dead_server() -> None:
    world = World()
    client = world.allocated()
    world.loss = 1.0
    client.close(world.now)
    world.run(3.4)
    assert world.events[client.local][-1] != Closed()
    world.run(0.2)
    assert world.events[client.local][-1] == Closed()


def test_close_before_the_answer_gives_back_what_may_have_been_made() -> None:
    """FAULTS 160: the signed Allocate is on its way; a Refresh with lifetime 0 follows it."""
    world = World()
    client = world.client()
    client.allocate(world.now)
    client.close(world.now)
    world.run()
    assert world.events[client.local] == [Closed()]
    client = make()
    signed_allocate(client)
    client.close(0.2)
    [last] = sent(client)
    assert last.method is Method.REFRESH
    assert last.get(LIFETIME) == 0


def test_close_without_anything_is_closed_at_once() -> None:
    client = make()
    client.close(0.0)
    assert drain(client) == ([], [Closed()])


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), loss=st.floats(0.0, 0.4), duplicate=st.floats(0.0, 0.3))
def test_client_and_server_get_along_over_a_bad_link(seed: int, loss: float, duplicate: float) -> None:
    """Loss, duplicates and reordering: one allocation, data both ways, all given back; exact by seed."""
    world = World(loss=loss, duplicate=duplicate, delay=0.2, seed=seed)
    client = world.client()
    client.allocate(world.now)
    world.run(60.0)
    first = world.events[client.local][0]
    if isinstance(first, AllocationFailed):  # seven requests can be lost in a row
        assert first.timed_out
        return
    assert isinstance(first, Allocated)
    assert world.server.stats.allocations == 1
    for n in range(60):
        if client.relayed is None:
            break
        client.send(b"to peer %d" % n, PEER, world.now)
        world.run(0.5)
        world.server.receive(b"from peer %d" % n, Path(first.relayed, PEER), world.now)
    world.run(5.0)
    to_peer = [out.data for out in world.to_peers]
    to_client = [e.data for e in world.events[client.local] if isinstance(e, PeerData)]
    assert set(to_peer) <= {b"to peer %d" % n for n in range(60)}
    assert set(to_client) <= {b"from peer %d" % n for n in range(60)}
    if loss < 0.2:
        assert len(set(to_peer)) >= 20
        assert len(set(to_client)) >= 20
    client.close(world.now)
    world.run(4000.0)
    assert world.events[client.local][-1] in (Closed(), AllocationLost("x"))
    assert world.server.stats.allocations == 0
    assert world.relays == set()


def test_late_driver_hears_of_the_loss_once() -> None:
    """Refresh and expiry both due: nothing more is sent for an allocation that is gone."""
    client = make()
    tell(client, granted(signed_allocate(client)), now=0.0)
    drain(client)
    client.handle_timeout(300.0)
    drain(client)
    client.handle_timeout(5000.0)
    client.handle_timeout(5001.0)
    transmits, events = drain(client)
    assert [type(event) for event in events] == [AllocationLost]
    assert transmits == []


def test_requests_from_the_server_are_dropped() -> None:
    from natwalk.stun import request

    client = make()
    client.allocate(0.0)
    drain(client)
    client.receive(encode(request(Method.REFRESH, bytes(12))), PATH, 0.0)
    assert drain(client) == ([], [])
    assert client.drops.last == "a STUN message a client does not take"
