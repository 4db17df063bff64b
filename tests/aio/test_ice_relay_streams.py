"""A connection by a relay that is reached over TCP, TLS and DTLS, with our own server on the loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from certificates import write_certificate
from natwalk.aio.client_tls import ClientTls
from natwalk.aio.ice import Connection
from natwalk.aio.tls import ServerTls
from natwalk.aio.turn_server import TurnServerDriver
from natwalk.core import Address, Transport
from natwalk.ice import (
    CandidateType,
    GatheringProblem,
    IceConfig,
    IceEvent,
    TransportPolicy,
    TurnServerAddress,
)
from natwalk.turn import PeerPolicy, TurnConfig

LOOPBACK = [ip_address("127.0.0.1")]
LISTENER = Address("127.0.0.1", 0)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    write_certificate(folder)
    return folder


@pytest.fixture
async def server() -> AsyncIterator[TurnServerDriver]:
    config = TurnConfig(
        users={"user": "secret"},
        relay_addresses=("127.0.0.1",),
        port_range=(61001, 65535),  # beyond what sockets get by themselves, which peers here are behind
        policy=PeerPolicy(allow=["127.0.0.0/8"]),
    )
    async with await TurnServerDriver.start(config, []) as driver:
        yield driver


def relay_only(address: Address, transport: Transport) -> IceConfig:
    turn = TurnServerAddress(address, "user", "secret", transport, "localhost")
    return IceConfig(turn_servers=(turn,), policy=TransportPolicy.RELAY)


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.TLS, Transport.DTLS])
async def test_data_pass_by_a_relay_over_every_transport(
    server: TurnServerDriver, certificates: Path, transport: Transport
) -> None:
    secure = None
    if transport is not Transport.TCP:
        secure = ServerTls(certificates / "cert.pem", certificates / "key.pem")
    address = server.add_listener(LISTENER, transport, tls=secure)
    trusted = ClientTls(ca_file=certificates / "cert.pem")
    async with (
        asyncio.timeout(20),
        Connection(relay_only(address, transport), controlling=True, addresses=LOOPBACK, tls=trusted) as a,
        Connection(controlling=False, addresses=LOOPBACK) as b,
    ):
        await asyncio.gather(a.gather(), b.gather())
        assert [candidate.type for candidate in a.local_candidates] == [CandidateType.RELAYED]
        for here, there in ((a, b), (b, a)):
            there.set_remote_parameters(here.local_parameters)
            for candidate in here.local_candidates:
                there.add_remote_candidate(candidate)
            there.add_remote_candidate(None)
        pair, _ = await asyncio.gather(a.connect(), b.connect())
        assert pair.relayed
        for size in (1, 2, 3, 1200):
            a.send(b"a" * size)
            assert await b.recv() == b"a" * size
            b.send(b"b" * size)
            assert await a.recv() == b"b" * size
    assert server.allocations == 0


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.TLS])
async def test_a_server_that_cannot_be_connected_to_is_a_problem(
    server: TurnServerDriver, certificates: Path, transport: Transport
) -> None:
    """Nobody listens there; or the certificate is not trusted."""
    problems: list[IceEvent] = []
    if transport is Transport.TLS:
        tls = ServerTls(certificates / "cert.pem", certificates / "key.pem")
        address = server.add_listener(LISTENER, transport, tls=tls)
    else:
        address = Address("127.0.0.1", 1)
    async with (
        asyncio.timeout(20),
        Connection(
            relay_only(address, transport), controlling=True, addresses=LOOPBACK, on_event=problems.append
        ) as connection,
    ):
        assert await connection.gather() == ()
    (problem,) = [event for event in problems if isinstance(event, GatheringProblem)]
    assert problem.server == address
    assert ("certificate" if transport is Transport.TLS else "refused").lower() in problem.reason.lower()


async def test_a_connection_that_is_closed_while_it_connects_leaves_nothing() -> None:
    """FAULTS 160: the task is gone, and so is what it was opening."""
    gate = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gate.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        config = relay_only(Address("127.0.0.1", port), Transport.TLS)
        connection = Connection(config, controlling=True, addresses=LOOPBACK)
        gathering = asyncio.create_task(connection.gather())
        async with asyncio.timeout(10):
            await gate.wait()
            await connection.close()
        gathering.cancel()
        await asyncio.gather(gathering, return_exceptions=True)
        assert len(connection._links) == 0
