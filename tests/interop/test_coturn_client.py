"""Our TURN client with Debian's coturn, which these tests start themselves on the loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from natwalk.aio.turn import TurnAllocation
from natwalk.core import Address, ErrorResponse
from natwalk.stun import Method, encode, request

pytestmark = [
    pytest.mark.coturn,
    pytest.mark.skipif(shutil.which("turnserver") is None, reason="coturn's turnserver is not installed"),
]

USER, PASSWORD = "alice", "correct horse"  # a space in a password is what users have
RELAY_PORTS = (40100, 40199)

CONFIG = """
listening-ip=127.0.0.1
relay-ip=127.0.0.1
listening-port={port}
min-port={low}
max-port={high}
realm=natwalk.test
lt-cred-mech
user={user}:{password}
allow-loopback-peers
fingerprint
no-tls
no-dtls
no-tcp
no-cli
no-stdout-log
log-file={folder}/turn.log
simple-log
pidfile={folder}/turn.pid
userdb={folder}/turn.db
"""


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def answers_stun(server: Address) -> bool:
    """Whether a Binding request is answered within 100 ms."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(server)
        with contextlib.suppress(ConnectionRefusedError, TimeoutError):
            sock.send(encode(request(Method.BINDING, secrets.token_bytes(12))))
            async with asyncio.timeout(0.1):
                return bool(await loop.sock_recv(sock, 2048))
    await asyncio.sleep(0.02)  # a refused datagram comes back at once
    return False


@pytest.fixture
async def coturn(tmp_path: Path) -> AsyncIterator[Address]:
    server = Address("127.0.0.1", free_udp_port())
    low, high = RELAY_PORTS
    config = tmp_path / "turnserver.conf"
    text = CONFIG.format(port=server.port, low=low, high=high, user=USER, password=PASSWORD, folder=tmp_path)
    config.write_text(text)
    process = await asyncio.create_subprocess_exec(
        "turnserver",
        "-c",
        str(config),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            assert process.returncode is None, (tmp_path / "turn.log").read_text()
            if await answers_stun(server):
                break
        else:
            raise AssertionError("coturn does not answer: " + (tmp_path / "turn.log").read_text())
        yield server
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


class Peer:
    """A plain UDP socket."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind(("127.0.0.1", 0))
        self.address = Address.from_sockname(self.sock.getsockname())

    async def receive(self) -> tuple[bytes, Address]:
        async with asyncio.timeout(5):
            data, sockname = await asyncio.get_running_loop().sock_recvfrom(self.sock, 65536)
        return data, Address.from_sockname(sockname)


@pytest.fixture
def peer() -> Iterator[Peer]:
    found = Peer()
    with contextlib.closing(found.sock):
        yield found


async def allocate(server: Address, password: str = PASSWORD) -> TurnAllocation:
    async with asyncio.timeout(10):
        return await TurnAllocation.allocate(server, USER, password, local=Address("127.0.0.1", 0))


async def receive(allocation: TurnAllocation) -> tuple[bytes, Address]:
    async with asyncio.timeout(5):
        return await allocation.receive()


async def test_indications_and_channels_both_ways(coturn: Address, peer: Peer) -> None:
    """Allocate, permission, Send and Data, then a channel, then LIFETIME 0."""
    async with await allocate(coturn) as allocation:
        low, high = RELAY_PORTS
        assert allocation.relayed.host == "127.0.0.1"
        assert low <= allocation.relayed.port <= high
        assert allocation.mapped == allocation.core.local
        for n in range(20):
            allocation.send(b"ping %d" % n, peer.address)
            assert await peer.receive() == (b"ping %d" % n, allocation.relayed)
            peer.sock.sendto(b"pong %d" % n, allocation.relayed)
            assert await receive(allocation) == (b"pong %d" % n, peer.address)
        assert allocation.core.overhead(peer.address) == 4
        assert allocation.denials == {}


async def test_sizes_up_to_a_full_datagram(coturn: Address, peer: Peer) -> None:
    async with await allocate(coturn) as allocation:
        for channel in (False, True):
            if channel:
                allocation.bind_channel(peer.address)
            for size in (1, 2, 3, 4, 1200, 1452):
                data = secrets.token_bytes(size)
                allocation.send(data, peer.address)
                assert (await peer.receive())[0] == data
                peer.sock.sendto(data, allocation.relayed)
                assert (await receive(allocation))[0] == data


async def test_wrong_password_is_401(coturn: Address) -> None:
    with pytest.raises(ErrorResponse) as caught:
        await allocate(coturn, "wrong")
    assert caught.value.code == 401


async def test_two_allocations_reach_each_other(coturn: Address) -> None:
    """Relay to relay, as two peers behind hard NATs do."""
    async with await allocate(coturn) as a, await allocate(coturn) as b:
        a.create_permission([b.relayed.ip])
        b.send(b"prime", a.relayed)
        for n in range(10):
            a.send(b"%d" % n, b.relayed)
        got = [await receive(b) for _ in range(5)]
        assert all(remote == a.relayed for _, remote in got)
