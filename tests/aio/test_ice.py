"""The asyncio shell: two connections over loopback sockets."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from natwalk.aio.ice import Connection, ConnectionFailed
from natwalk.core import Address, LocalProtocolError
from natwalk.ice import (
    CandidateGathered,
    CandidateType,
    IceConfig,
    IceEvent,
    PairSelected,
    TransportPolicy,
    TurnServerAddress,
)

LOOPBACK = [ip_address("127.0.0.1")]


def introduce(a: Connection, b: Connection) -> None:
    for here, there in ((a, b), (b, a)):
        there.set_remote_parameters(here.local_parameters)
        for candidate in here.local_candidates:
            there.add_remote_candidate(candidate)
        there.add_remote_candidate(None)


async def test_two_connections_find_each_other_and_exchange_data() -> None:
    async with (
        Connection(controlling=True, addresses=LOOPBACK) as a,
        Connection(controlling=False, addresses=LOOPBACK) as b,
        asyncio.timeout(10),
    ):
        await asyncio.gather(a.gather(), b.gather())
        introduce(a, b)
        pair, other = await asyncio.gather(a.connect(), b.connect())
        assert pair.remote.address == other.local.address
        a.send(b"ping")
        assert await b.recv() == b"ping"
        b.send(b"pong")
        assert await a.recv() == b"pong"


async def test_candidates_trickle_through_the_event_callback() -> None:
    trickled: list[IceEvent] = []
    async with (
        Connection(controlling=True, addresses=LOOPBACK, on_event=trickled.append) as a,
        Connection(controlling=False, addresses=[ip_address("::1")]) as b,
        asyncio.timeout(10),
    ):
        await asyncio.gather(a.gather(), b.gather())
        assert [e.candidate for e in trickled if isinstance(e, CandidateGathered)] == list(a.local_candidates)
        assert a.local_candidates[0].type is CandidateType.HOST
        assert b.local_candidates[0].address.version == 6


async def test_connect_and_recv_raise_when_no_pair_works() -> None:
    """One side has IPv4 only, the other IPv6 only, and neither is told to be patient."""
    config = IceConfig(patience=0.2, early_failure=0.1)
    async with (
        Connection(config, controlling=True, addresses=LOOPBACK) as a,
        Connection(config, controlling=False, addresses=[ip_address("::1")]) as b,
        asyncio.timeout(10),
    ):
        await asyncio.gather(a.gather(), b.gather())
        introduce(a, b)
        with pytest.raises(ConnectionFailed, match="no pair"):
            await a.connect()
        with pytest.raises(ConnectionFailed, match="no pair"):
            await a.recv()
        with pytest.raises(LocalProtocolError):
            a.send(b"nowhere")


async def test_close_ends_whoever_waits_and_may_be_repeated() -> None:
    connection = Connection(controlling=True, addresses=LOOPBACK)
    await connection.gather()
    waiting = asyncio.create_task(connection.recv())
    await asyncio.sleep(0)
    await connection.close()
    await connection.close()
    with pytest.raises(ConnectionFailed, match="closed"):
        await waiting
    with pytest.raises(ConnectionFailed, match="closed"):
        await connection.connect()


async def test_close_does_not_wait_for_a_relay_that_was_never_there() -> None:
    """A TURN server that does not answer: closing while it is being asked ends at once."""
    turn = TurnServerAddress(Address("127.0.0.1", 9), "user", "secret")
    config = IceConfig(turn_servers=(turn,), policy=TransportPolicy.RELAY, gathering_timeout=0.2)
    connection = Connection(config, controlling=True, addresses=LOOPBACK)
    async with asyncio.timeout(10):
        assert await connection.gather() == ()
        await connection.close()


async def test_gather_without_a_usable_address_raises() -> None:
    connection = Connection(controlling=True, addresses=[ip_address("203.0.113.77")])
    with pytest.raises(OSError):
        await connection.gather()
    await connection.close()


async def test_gathering_on_named_interfaces() -> None:
    async with Connection(controlling=True, interfaces=["lo"]) as connection:
        assert {candidate.address.ip.is_loopback for candidate in await connection.gather()} == {True}
    async with Connection(controlling=True, interfaces=["nowhere7"]) as connection:
        with pytest.raises(OSError, match="no address"):
            await connection.gather()


async def test_gather_twice_is_refused() -> None:
    async with Connection(controlling=True, addresses=LOOPBACK) as connection:
        await connection.gather()
        with pytest.raises(LocalProtocolError):
            await connection.gather()


async def test_ipv6_is_preferred_where_both_work() -> None:
    """RFC 8421 §4."""
    both = [ip_address("127.0.0.1"), ip_address("::1")]
    async with (
        Connection(controlling=True, addresses=both) as a,
        Connection(controlling=False, addresses=both) as b,
        asyncio.timeout(10),
    ):
        await asyncio.gather(a.gather(), b.gather())
        introduce(a, b)
        pair, _ = await asyncio.gather(a.connect(), b.connect())
        assert pair.remote.address.version == 6
        a.send(b"over IPv6")
        assert await b.recv() == b"over IPv6"


async def test_a_restart_gives_new_parameters_and_keeps_the_data_going() -> None:
    events: list[IceEvent] = []
    async with (
        Connection(controlling=True, addresses=LOOPBACK, on_event=events.append) as a,
        Connection(controlling=False, addresses=LOOPBACK) as b,
        asyncio.timeout(20),
    ):
        await asyncio.gather(a.gather(), b.gather())
        introduce(a, b)
        await asyncio.gather(a.connect(), b.connect())
        old = a.local_parameters
        told = len(events)
        assert a.restart() == a.local_parameters != old
        assert len(events) == told
        a.send(b"meanwhile")
        assert await b.recv() == b"meanwhile"
        b.restart()
        introduce(a, b)
        while not any(isinstance(event, PairSelected) for event in events[told:]):
            a.send(b"x")
            assert await b.recv() == b"x"
            await asyncio.sleep(0.01)
        b.send(b"after")
        assert await a.recv() == b"after"
