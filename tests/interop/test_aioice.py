"""Our agent with aioice over loopback sockets, in both roles: they connect and data passes both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import aioice
import pytest

from natwalk.aio.ice import Connection
from natwalk.ice import Candidate, IceParameters

LOOPBACK = [ip_address("127.0.0.1")]


@pytest.fixture(autouse=True)
def aioice_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have aioice gather on loopback, which it leaves out by itself."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])


def for_aioice(candidate: Candidate) -> aioice.Candidate:
    return aioice.Candidate.from_sdp(candidate.to_sdp().removeprefix("candidate:"))


@asynccontextmanager
async def pair(ours: bool, theirs: bool) -> AsyncIterator[tuple[Connection, aioice.Connection]]:
    """Two sides that know each other's credentials, controlling or not; nobody has a candidate yet."""
    peer = aioice.Connection(ice_controlling=theirs)
    connection = Connection(controlling=ours, addresses=LOOPBACK)
    try:
        await peer.gather_candidates()
        await connection.gather()
        parameters = connection.local_parameters
        peer.remote_username, peer.remote_password = parameters.ufrag, parameters.pwd
        connection.set_remote_parameters(IceParameters(peer.local_username, peer.local_password))
        yield connection, peer
    finally:
        await peer.close()
        await connection.close()


async def introduce(ours: Connection, theirs: aioice.Connection) -> None:
    """Give each side the other's candidates."""
    for candidate in ours.local_candidates:
        await theirs.add_remote_candidate(for_aioice(candidate))
    await theirs.add_remote_candidate(None)
    for candidate in theirs.local_candidates:
        ours.add_remote_candidate(Candidate.from_sdp("candidate:" + candidate.to_sdp()))
    ours.add_remote_candidate(None)


async def exchange(ours: Connection, theirs: aioice.Connection) -> None:
    for number in range(20):
        ours.send(b"from natwalk %d" % number)
        await theirs.send(b"from aioice %d" % number)
    for number in range(20):
        assert await theirs.recv() == b"from natwalk %d" % number
        assert await ours.recv() == b"from aioice %d" % number


@pytest.mark.parametrize("ours_controlling", [True, False])
async def test_data_passes_both_ways(ours_controlling: bool) -> None:
    async with pair(ours_controlling, not ours_controlling) as (ours, theirs), asyncio.timeout(20):
        await introduce(ours, theirs)
        await asyncio.gather(ours.connect(), theirs.connect())
        await exchange(ours, theirs)
        assert ours.selected is not None
        assert ours.selected.rtt is not None
        assert ours.agent.controlling is ours_controlling


@pytest.mark.parametrize("role", [True, False])
async def test_a_role_conflict_is_resolved_between_the_two(role: bool) -> None:
    async with pair(role, role) as (ours, theirs), asyncio.timeout(20):
        await introduce(ours, theirs)
        await asyncio.gather(ours.connect(), theirs.connect())
        assert ours.agent.controlling is not theirs.ice_controlling
        await exchange(ours, theirs)


async def test_the_peer_is_found_by_its_checks_alone() -> None:
    """We are told no candidate of aioice's: its check makes a peer-reflexive one."""
    async with pair(True, False) as (ours, theirs), asyncio.timeout(20):
        for candidate in ours.local_candidates:
            await theirs.add_remote_candidate(for_aioice(candidate))
        await theirs.add_remote_candidate(None)
        # aioice must have a candidate of its own list to check from; ours stays without any of them
        await asyncio.gather(ours.connect(), theirs.connect())
        assert ours.selected is not None
        assert ours.selected.remote.type.value == "prflx"
        await exchange(ours, theirs)
