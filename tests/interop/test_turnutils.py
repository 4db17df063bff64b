"""coturn's test client against our server: turnutils_uclient and turnutils_peer on the loopback interface."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from certificates import write_certificate
from natwalk.aio.tls import ServerTls
from natwalk.aio.turn_server import TurnServerDriver
from natwalk.core import Address, Transport
from natwalk.turn import AllocationEnded, OAuthKey, PeerPolicy, TurnConfig, TurnLimits, TurnServerEvent

pytestmark = [
    pytest.mark.coturn,
    pytest.mark.skipif(
        shutil.which("turnutils_uclient") is None or shutil.which("turnutils_peer") is None,
        reason="coturn's turnutils are not installed",
    ),
]

MESSAGES = 20
CONFIG = TurnConfig(
    realm="natwalk.test",
    users={"alice": "secret"},
    relay_addresses=("127.0.0.1",),
    port_range=(61001, 65535),
    policy=PeerPolicy(allow=["127.0.0.0/8", "::1/128"]),
    rfc5766_channels=True,  # uclient picks numbers up to 0x7FFF
    tcp_relays=True,
    # all clients are one source and one user, and those that were stopped leave their allocations
    limits=TurnLimits(refusals_rate=1000, refusals_burst=1000, allocations_per_user=200),
)
TRANSPORT_FLAGS = {
    Transport.UDP: (),
    Transport.TCP: ("-t",),
    Transport.TLS: ("-t", "-S"),
    Transport.DTLS: ("-S",),
}
# uclient reads one TLS record a wake-up and leaves the last ones of a burst unread, from coturn as from us:
# over TLS they must come one by one.
SINGLY = ("-n", "5", "-z", "200")


class Server:
    """Our server on a loopback port a transport."""

    def __init__(self) -> None:
        self.events: list[TurnServerEvent] = []
        self.ports: dict[Transport, int] = {}

    @asynccontextmanager
    async def serving(self, config: TurnConfig, tls: ServerTls | None = None) -> AsyncIterator[Server]:
        driver = await TurnServerDriver.start(config, [], on_event=self.events.append)
        async with driver:
            for transport in Transport:
                secure = transport in {Transport.TLS, Transport.DTLS}
                if tls is not None or not secure:
                    local = driver.add_listener(
                        Address("127.0.0.1", 0), transport, tls=tls if secure else None
                    )
                    self.ports[transport] = local.port
            yield self

    async def uclient(
        self, *arguments: str, transport: Transport = Transport.UDP, patience: float = 60.0
    ) -> tuple[int, str]:
        """Run turnutils_uclient; its exit code and what it printed. Ended after ``patience`` seconds."""
        process = await asyncio.create_subprocess_exec(
            *("turnutils_uclient", "-u", "alice", "-w", "secret", "-n", str(MESSAGES), "-z", "5"),
            *("-p", str(self.ports[transport]), "-L", "127.0.0.1", *TRANSPORT_FLAGS[transport]),
            *arguments,
            "127.0.0.1",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        timer = asyncio.get_running_loop().call_later(patience, process.kill)
        try:
            output, _ = await process.communicate()
        finally:
            timer.cancel()
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, output.decode(errors="replace")

    async def loses_nothing(self, *arguments: str, transport: Transport = Transport.UDP) -> None:
        """Run turnutils_uclient and check that each of its messages came through."""
        code, output = await self.uclient(*arguments, transport=transport)
        assert code == 0, output
        assert lost(output) == 0, output
        assert received(output) >= int(SINGLY[1] if SINGLY[0] in arguments else MESSAGES), output


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    files = write_certificate(tmp_path)
    async with Server().serving(CONFIG, ServerTls(files.cert, files.key)) as server:
        yield server


@pytest.fixture
async def dual_server() -> AsyncIterator[Server]:
    """A server with a relay address of each family."""
    if not has_ipv6_loopback():
        pytest.skip("this machine has no ::1")
    async with Server().serving(replace(CONFIG, relay_addresses=("127.0.0.1", "::1"))) as server:
        yield server


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


async def test_tokens_of_a_third_party() -> None:
    """``-J``: RFC 7635 with coturn's three test keys, another of them for every request."""
    config = replace(
        CONFIG,
        users={},
        oauth_keys=(
            OAuthKey("north", b"01234567890123456789012345678901"),
            OAuthKey("union", b"1234567890123456"),
            OAuthKey("oldempire", b"12345678901234567890123456789012"),
        ),
        third_party_authorization="turn.natwalk.test",
    )
    async with Server().serving(config) as server:
        await at_once(server.loses_nothing("-y", "-c", "-J"), server.loses_nothing("-y", "-c", "-J", "-s"))


@pytest.fixture
async def echo() -> AsyncIterator[Address]:
    """turnutils_peer, which sends back what it gets."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        address = Address.from_sockname(sock.getsockname())
    process = await asyncio.create_subprocess_exec(
        *("turnutils_peer", "-L", "127.0.0.1", "-p", str(address.port)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await until_it_echoes(address)
        yield address
    finally:
        process.terminate()
        await process.wait()


async def until_it_echoes(address: Address) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(address)
        for _ in range(200):
            try:
                sock.send(b"ready?")
                async with asyncio.timeout(0.1):
                    await loop.sock_recv(sock, 100)
            except (ConnectionRefusedError, TimeoutError):
                await asyncio.sleep(0.02)
            else:
                return
    raise AssertionError("turnutils_peer does not echo")


def lost(output: str) -> int:
    """The packets uclient says were lost in all."""
    found = re.findall(r"Total lost packets (\d+)", output)
    assert found, output
    return int(found[-1])


def received(output: str) -> int:
    """The messages uclient says came back."""
    found = re.findall(r"tot_recv_msgs=(\d+)", output)
    assert found, output
    return int(found[-1])


async def at_once(*runs: Coroutine[None, None, None]) -> None:
    """Await ``runs`` side by side: uclient mostly waits for its own timers."""
    async with asyncio.TaskGroup() as group:
        for run in runs:
            group.create_task(run)


async def test_client_to_client_over_two_relays(server: Server) -> None:
    """Channels, Send indications, DONT-FRAGMENT, padded channels; more refreshes, clients and bytes."""
    options = (
        (),
        ("-s",),
        ("-g",),
        ("-D",),
        ("-X", "-G", "-m", "2", "-l", "1200"),
    )
    await at_once(*(server.loses_nothing("-y", "-c", *more) for more in options))


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.TLS, Transport.DTLS])
async def test_over_each_transport(server: Server, transport: Transport) -> None:
    """``-t``, ``-t -S`` and ``-S``: clients over TCP, TLS and DTLS, with channels and indications."""
    options = SINGLY if transport is Transport.TLS else ()
    await at_once(
        server.loses_nothing("-y", "-c", *options, transport=transport),
        server.loses_nothing("-y", "-c", "-s", *options, transport=transport),
    )


async def test_tcp_relays(server: Server) -> None:
    """``-T``: RFC 6062, each client over TCP or TLS connecting to the other's relay."""
    await at_once(
        server.loses_nothing("-T", transport=Transport.TCP),
        server.loses_nothing("-T", *SINGLY, transport=Transport.TLS),
    )


async def test_ipv6_relays(dual_server: Server) -> None:
    """``-x``: IPv4 clients with IPv6 relays."""
    await at_once(
        dual_server.loses_nothing("-y", "-c", "-x"),
        dual_server.loses_nothing("-y", "-c", "-x", "-s"),
    )


async def test_dual_allocations(dual_server: Server) -> None:
    """``-Z``: a relay of each family by one Allocate; coturn 4.6 asks by the number that drafts had."""
    await at_once(
        dual_server.loses_nothing("-y", "-Z"),
        dual_server.loses_nothing("-y", "-Z", transport=Transport.TCP),
    )


async def test_mobility(server: Server) -> None:
    """``-M``: each client moves to another socket after its Allocate; what it does next is up to chance."""
    await at_once(*(server.loses_nothing("-y", "-c", "-M") for _ in range(4)))


async def test_negative_requests(server: Server) -> None:
    """``-N``: requests that must be refused are, and the session goes on."""
    await server.loses_nothing("-y", "-c", "-N")


async def test_damaged_messages(server: Server) -> None:
    """``-R``: uclient damages bytes of its own messages at random; who sends whole ones notices nothing.

    Each damaged client ends or waits in vain for an answer to what is no STUN any more: how that goes is
    chance, and against coturn a third of them give up, too.
    """
    damaged = [asyncio.create_task(server.uclient("-y", "-c", "-R", patience=6.0)) for _ in range(6)]
    await server.loses_nothing("-y", "-c")
    crashes = {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS}
    assert all(code not in crashes for code, _ in await asyncio.gather(*damaged))
    await server.loses_nothing("-y", "-c")


async def test_client_to_an_echoing_peer(server: Server, echo: Address) -> None:
    """Channels and indications to coturn's turnutils_peer."""
    peer = ("-e", echo.host, "-r", str(echo.port))
    await at_once(server.loses_nothing("-c", *peer), server.loses_nothing("-c", "-s", *peer))
    totals = [event.counters for event in server.events if isinstance(event, AllocationEnded)]
    if totals:
        assert sum(counters.packets_to_peers for counters in totals) >= MESSAGES
