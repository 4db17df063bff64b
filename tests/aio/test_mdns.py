"""Multicast DNS on the loopback interface, and two connections that know each other by name only."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from natwalk.aio.ice import Connection
from natwalk.aio.mdns import MdnsSocket
from natwalk.core import IPAddress
from natwalk.ice import HostCandidates, IceConfig, NamedCandidate, read_candidate

LOOPBACK = [ip_address("127.0.0.1")]
NAME = "1f4712db-ea17-4bcf-a596-105139dfd8bf.local"


async def test_a_name_is_found_and_another_is_not() -> None:
    found: asyncio.Queue[tuple[str, IPAddress | None]] = asyncio.Queue()
    owner = MdnsSocket(LOOPBACK, lambda name, ip: None)
    asker = MdnsSocket(LOOPBACK, lambda name, ip: found.put_nowait((name, ip)))
    try:
        owner.publish(NAME, ip_address("192.168.7.9"))
        async with asyncio.timeout(10):
            asker.look_up(NAME)
            assert await found.get() == (NAME, ip_address("192.168.7.9"))
            asker.look_up("nobody.local")
            assert await found.get() == ("nobody.local", None)
    finally:
        owner.close()
        asker.close()
        asker.close()


async def test_without_an_ipv4_network_there_is_no_multicast_dns() -> None:
    with pytest.raises(OSError, match="multicast DNS"):
        MdnsSocket([ip_address("::1")], lambda name, ip: None)


async def test_two_connections_that_hide_their_addresses_find_each_other() -> None:
    config = IceConfig(hosts=HostCandidates.NAMED)
    async with (
        Connection(config, controlling=True, addresses=LOOPBACK) as a,
        Connection(config, controlling=False, addresses=LOOPBACK) as b,
        asyncio.timeout(10),
    ):
        await asyncio.gather(a.gather(), b.gather())
        for here, there in ((a, b), (b, a)):
            there.set_remote_parameters(here.local_parameters)
            for candidate in here.local_candidates:
                line = candidate.to_sdp()
                assert "127.0.0.1" not in line
                told = read_candidate(line)
                assert isinstance(told, NamedCandidate)
                there.add_remote_candidate(told)
            there.add_remote_candidate(None)
        await asyncio.gather(a.connect(), b.connect())
        a.send(b"ping")
        assert await b.recv() == b"ping"


async def test_a_name_of_a_network_without_multicast_stands_for_nothing() -> None:
    config = IceConfig(patience=0.2, early_failure=0.1)
    async with (
        Connection(config, controlling=True, addresses=[ip_address("::1")]) as connection,
        asyncio.timeout(10),
    ):
        await connection.gather()
        told = read_candidate(f"candidate:1 1 udp 5 {NAME} 5000 typ host")
        connection.add_remote_candidate(told)
        assert connection.agent.drops.last == "remote candidate: its name does not resolve"


async def test_sockets_are_bound_within_the_range_of_ports() -> None:
    async with (
        Connection(controlling=True, addresses=LOOPBACK, ports=(21_100, 21_101)) as a,
        Connection(controlling=True, addresses=LOOPBACK, ports=(21_100, 21_101)) as b,
        Connection(controlling=True, addresses=LOOPBACK, ports=(21_100, 21_101)) as c,
    ):
        await asyncio.gather(a.gather(), b.gather())
        ports = {candidate.address.port for one in (a, b) for candidate in one.local_candidates}
        assert ports == {21_100, 21_101}
        with pytest.raises(OSError, match="in use"):
            await c.gather()
    with pytest.raises(ValueError, match="range"):
        Connection(controlling=True, ports=(5, 4))
