"""coturn's test client against our server: tokens of a third party, and turnutils_peer to talk to.

Its other modes and the other transports are in test_turnutils_modes.py.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from natwalk.aio.turn_server import TurnServerDriver
from natwalk.core import Address
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
    policy=PeerPolicy(allow=["127.0.0.0/8"]),
    rfc5766_channels=True,  # uclient picks numbers up to 0x7FFF
    # all clients are one source and one user, and those that were stopped leave their allocations
    limits=TurnLimits(refusals_rate=1000, refusals_burst=1000, allocations_per_user=200),
)


class Server:
    """Our server on a loopback port."""

    def __init__(self, driver: TurnServerDriver, events: list[TurnServerEvent]) -> None:
        self.events = events
        self._port = driver.listeners[0].port

    async def loses_nothing(self, *arguments: str) -> None:
        """Run turnutils_uclient and check that each of its messages came through."""
        process = await asyncio.create_subprocess_exec(
            *("turnutils_uclient", "-u", "alice", "-w", "secret", "-n", str(MESSAGES), "-z", "5"),
            *("-p", str(self._port), "-L", "127.0.0.1", *arguments, "127.0.0.1"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(60):
                printed, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        output = printed.decode(errors="replace")
        assert process.returncode == 0, output
        assert lost(output) == 0, output
        assert received(output) >= MESSAGES, output


@asynccontextmanager
async def serving(config: TurnConfig) -> AsyncIterator[Server]:
    events: list[TurnServerEvent] = []
    listen = [Address("127.0.0.1", 0)]
    async with await TurnServerDriver.start(config, listen, on_event=events.append) as driver:
        yield Server(driver, events)


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
    async with serving(config) as server:
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


async def test_client_to_an_echoing_peer(echo: Address) -> None:
    """Channels and indications to coturn's turnutils_peer."""
    peer = ("-e", echo.host, "-r", str(echo.port))
    async with serving(CONFIG) as server:
        await at_once(server.loses_nothing("-c", *peer), server.loses_nothing("-c", "-s", *peer))
    totals = [event.counters for event in server.events if isinstance(event, AllocationEnded)]
    assert sum(counters.packets_to_peers for counters in totals) >= 2 * MESSAGES
