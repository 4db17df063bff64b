"""A real ``natwalk serve`` under 20,000 datagrams, each from a source of its own: no memory, no waiting."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import select
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from OpenSSL import SSL

from certificates import write_certificate
from natwalk.aio.turn_allocation import TurnAllocation
from natwalk.core import Address
from natwalk.stun import (
    ERROR_CODE,
    NONCE,
    REALM,
    REQUESTED_TRANSPORT,
    USERNAME,
    ErrorCode,
    Method,
    decode,
    encode,
    request,
)

SOURCES = 20_000
AT_ONCE = 400
GROWTH = 5_000_000
PATIENCE = 5.0  # of the real client; a second is what it takes at most when the machine is not busy
USER, PASSWORD = "alice", "correct horse battery staple"
CONFIG = f"""
[server]
listen = ["127.0.0.1"]
realm = "natwalk.test"
[stun]
port = 0
tls-port = 0
[turn]
relay-addresses = ["127.0.0.1"]
[turn.users]
{USER} = "{PASSWORD}"
[tls]
cert = "cert.pem"
key = "key.pem"
[http]
port = 0
"""


@dataclass(frozen=True, slots=True)
class Server:
    """The process and its ports."""

    pid: int
    udp: Address
    dtls: Address

    def resident(self) -> int:
        """Bytes of memory it holds."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    async def allocation_seconds(self) -> float:
        """How long a real client takes to get a relay and give it back."""
        started = time.monotonic()
        async with asyncio.timeout(PATIENCE * 4):
            allocation = await TurnAllocation.allocate(
                self.udp, USER, PASSWORD, local=Address("127.0.0.1", 0)
            )
            took = time.monotonic() - started
            await allocation.close()
        return took


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    write_certificate(tmp_path)
    config = tmp_path / "natwalk.toml"
    config.write_text(CONFIG)
    config.chmod(0o600)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "natwalk", "serve", "--json", "--config", str(config)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            ready = json.loads(await process.stdout.readline())
        yield Server(process.pid, port_of(ready["stun"], "stun:"), port_of(ready["stun"], "stuns:"))
    finally:
        process.terminate()
        await process.communicate()


def port_of(uris: list[str], scheme: str) -> Address:
    return Address.parse(next(uri for uri in uris if uri.startswith(scheme)).removeprefix(scheme))


def sources() -> Iterator[str]:
    """Addresses of this machine, each once."""
    for number in range(SOURCES):
        yield f"127.{64 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"


Answer = Callable[[bytes], bytes | None]
"""What a source sends when it has received that, or None when it is done."""


def flood(target: Address, first: Callable[[], bytes], answer: Answer) -> int:
    """Send from each source, ``AT_ONCE`` at a time, and go on as ``answer`` says; returns the answers."""
    hosts = sources()
    answers = 0
    while batch := list(itertools.islice(hosts, AT_ONCE)):
        with ExitStack() as stack:
            poll = stack.enter_context(closing(select.epoll()))
            waiting = {}
            for host in batch:
                sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                sock.setblocking(False)
                sock.bind((host, 0))
                sock.connect(target)
                sock.send(first())
                poll.register(sock.fileno(), select.EPOLLIN)
                waiting[sock.fileno()] = sock
            # an answer that does not come within a quarter of a second is not needed
            while waiting and (events := poll.poll(0.25)):
                for fd, _ in events:
                    more = answer(waiting[fd].recv(2048))
                    answers += 1
                    if more is None:
                        poll.unregister(fd)
                        del waiting[fd]
                    else:
                        waiting[fd].send(more)
    return answers


async def check(server: Server, target: Address, first: Callable[[], bytes], answer: Answer) -> int:
    """Flood the server while a real client allocates again and again; returns the answers of the flood."""
    await server.allocation_seconds()
    before = server.resident()
    flooding = asyncio.create_task(asyncio.to_thread(flood, target, first, answer))
    took = []
    while not flooding.done():
        took.append(await server.allocation_seconds())
        await asyncio.wait([flooding], timeout=0.2)
    growth = server.resident() - before
    print(f"grew by {growth} bytes; a client got its relay in {max(took):.3f} s at most")
    assert growth < GROWTH
    assert max(took) < PATIENCE
    return await flooding


def done(data: bytes) -> None:
    """Nothing more is sent."""


def binding() -> bytes:
    return encode(request(Method.BINDING, os.urandom(12)))


def allocate() -> bytes:
    return encode(request(Method.ALLOCATE, os.urandom(12), (REQUESTED_TRANSPORT, 17)))


def guess(data: bytes) -> bytes | None:
    """An Allocate with the nonce of the challenge ``data`` and a wrong password, and no more after that."""
    challenge = decode(data)
    realm, nonce, error = challenge.get(REALM), challenge.get(NONCE), challenge.get(ERROR_CODE)
    assert realm is not None
    assert nonce is not None
    assert isinstance(error, ErrorCode)
    if challenge.transaction_id[:1] == b"\0":
        return None
    credentials = ((USERNAME, USER), (REALM, realm), (NONCE, nonce))
    message = request(Method.ALLOCATE, b"\0" + os.urandom(11), (REQUESTED_TRANSPORT, 17), *credentials)
    return encode(message, integrity_key=os.urandom(16))


def first_guess() -> bytes:
    return encode(request(Method.ALLOCATE, b"\1" + os.urandom(11), (REQUESTED_TRANSPORT, 17)))


def client_hello() -> bytes:
    """The first datagram of a DTLS handshake."""
    connection = SSL.Connection(SSL.Context(SSL.DTLS_CLIENT_METHOD))
    connection.set_connect_state()
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(2048)


async def test_bindings(server: Server) -> None:
    """Each is answered, none is remembered."""
    assert await check(server, server.udp, binding, done) > SOURCES * 0.9


async def test_allocates_without_credentials(server: Server) -> None:
    """Each is challenged with a nonce that the server keeps nowhere."""
    assert await check(server, server.udp, allocate, done) > SOURCES * 0.9


async def test_allocates_with_a_wrong_password(server: Server) -> None:
    """Each answers its challenge with a MESSAGE-INTEGRITY that is wrong, and is challenged again."""
    assert await check(server, server.udp, first_guess, guess) > 2 * SOURCES * 0.9


async def test_dtls_hellos(server: Server) -> None:
    """Each gets a cookie to come back with, and until it does there is nothing of it (RFC 6347 §4.2.1)."""
    hello = client_hello()
    assert await check(server, server.dtls, lambda: hello, done) > SOURCES * 0.9
