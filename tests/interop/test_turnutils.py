"""coturn's test client against our server: turnutils_uclient and turnutils_peer on the loopback interface."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from collections.abc import AsyncIterator

import pytest

from natwalk.aio.turn_server import TurnServerDriver
from natwalk.core import Address
from natwalk.turn import AllocationEnded, OAuthKey, PeerPolicy, TurnConfig, TurnServerEvent

pytestmark = [
    pytest.mark.coturn,
    pytest.mark.skipif(
        shutil.which("turnutils_uclient") is None or shutil.which("turnutils_peer") is None,
        reason="coturn's turnutils are not installed",
    ),
]

MESSAGES = 20


class Server:
    def __init__(self) -> None:
        self.events: list[TurnServerEvent] = []
        self.driver: TurnServerDriver

    async def uclient(self, *arguments: str) -> tuple[int, str]:
        """Run turnutils_uclient; its exit code and what it printed."""
        process = await asyncio.create_subprocess_exec(
            *("turnutils_uclient", "-u", "alice", "-w", "secret", "-n", str(MESSAGES), "-z", "5"),
            *("-p", str(self.driver.listeners[0].port), "-L", "127.0.0.1"),
            *arguments,
            "127.0.0.1",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(60):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, output.decode(errors="replace")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    config = TurnConfig(
        realm="natwalk.test",
        users={"alice": "secret"},
        relay_addresses=("127.0.0.1",),
        port_range=(61001, 65535),
        policy=PeerPolicy(allow=["127.0.0.0/8"]),
        rfc5766_channels=True,  # uclient picks numbers up to 0x7FFF
    )
    listen = [Address("127.0.0.1", 0)]
    async with await TurnServerDriver.start(config, listen, on_event=server.events.append) as server.driver:
        yield server


@pytest.mark.parametrize("options", [("-y", "-c"), ("-y", "-c", "-s")], ids=" ".join)
async def test_tokens_of_a_third_party(options: tuple[str, ...]) -> None:
    """``-J``: RFC 7635 with coturn's three test keys, another of them for every request."""
    server = Server()
    config = TurnConfig(
        realm="natwalk.test",
        oauth_keys=(
            OAuthKey("north", b"01234567890123456789012345678901"),
            OAuthKey("union", b"1234567890123456"),
            OAuthKey("oldempire", b"12345678901234567890123456789012"),
        ),
        third_party_authorization="turn.natwalk.test",
        relay_addresses=("127.0.0.1",),
        port_range=(61001, 65535),
        policy=PeerPolicy(allow=["127.0.0.0/8"]),
        rfc5766_channels=True,
    )
    async with await TurnServerDriver.start(config, [Address("127.0.0.1", 0)]) as server.driver:
        code, output = await server.uclient("-J", *options)
        assert code == 0, output
        assert lost(output) == 0
        assert received(output) >= MESSAGES


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


@pytest.mark.parametrize(
    "options",
    [
        ("-y", "-c"),
        ("-y", "-c", "-s"),
        ("-y", "-c", "-X", "-G", "-m", "2", "-l", "1200"),
    ],
    ids=" ".join,
)
async def test_client_to_client_over_two_relays(server: Server, options: tuple[str, ...]) -> None:
    """Channels; Send indications; extra refreshes, more clients and full-size packets: nothing is lost."""
    code, output = await server.uclient(*options)
    assert code == 0, output
    assert lost(output) == 0
    assert received(output) >= MESSAGES


@pytest.mark.parametrize("options", [("-c",), ("-c", "-s")], ids=" ".join)
async def test_client_to_an_echoing_peer(server: Server, echo: Address, options: tuple[str, ...]) -> None:
    code, output = await server.uclient(*options, "-e", echo.host, "-r", str(echo.port))
    assert code == 0, output
    assert lost(output) == 0
    assert received(output) == MESSAGES
    totals = [event.counters for event in server.events if isinstance(event, AllocationEnded)]
    if totals:
        assert sum(counters.packets_to_peers for counters in totals) >= MESSAGES
