"""A TURN server on the loopback interface, for tests that drive it over streams and DTLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

from natwalk.aio.stream_limits import ClientLimits
from natwalk.aio.turn_server import TurnServerDriver
from natwalk.core import Address, Transport
from natwalk.stun import (
    XOR_MAPPED_ADDRESS,
    MessageClass,
    Method,
    encode,
    request,
)
from natwalk.turn import (
    AllocationEnded,
    EndReason,
    PeerPolicy,
    TurnConfig,
    TurnServerEvent,
)
from turn_stream import StreamTurnClient

LOOPBACK = Address("127.0.0.1", 0)
BINDING = encode(request(Method.BINDING, bytes(12)))


def make_config(**overrides: Any) -> TurnConfig:
    settings: dict[str, Any] = {
        "users": {"alice": "correct horse"},
        "relay_addresses": ("127.0.0.1",),
        "port_range": (61001, 65535),
        "policy": PeerPolicy(allow=["127.0.0.0/8", "::1"]),
    }
    return TurnConfig(**(settings | overrides))


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until ``condition`` holds, ten real seconds at most."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the condition does not come true")


@contextlib.asynccontextmanager
async def serving(
    transport: Transport = Transport.TCP,
    *,
    limits: ClientLimits | None = None,
    config: TurnConfig | None = None,
    address: Address = LOOPBACK,
    **listener: Any,
) -> AsyncIterator[Server]:
    events: list[TurnServerEvent] = []
    driver = TurnServerDriver(config or make_config(), on_event=events.append, limits=limits)
    async with driver:
        yield Server(driver, driver.add_listener(address, transport, **listener), events)


class Server:
    def __init__(self, driver: TurnServerDriver, address: Address, events: list[TurnServerEvent]) -> None:
        self.driver = driver
        self.address = address
        self.events = events

    async def connect(self, **options: Any) -> StreamTurnClient:
        return await StreamTurnClient.connect(self.address, **options)

    @property
    def drops(self) -> dict[str, int]:
        return dict(self.driver.drops.counts)

    def ended(self) -> list[EndReason]:
        return [event.reason for event in self.events if isinstance(event, AllocationEnded)]


def address_of(sock: socket.socket) -> Address:
    return Address.from_sockname(sock.getsockname())


async def datagram(sock: socket.socket) -> bytes:
    async with asyncio.timeout(5):
        return await asyncio.get_running_loop().sock_recv(sock, 65536)


async def relay_both_ways(client: StreamTurnClient, peer: socket.socket) -> None:
    """Allocate, bind a channel, and pass datagrams of lengths that need padding and of those that do not."""
    response = await client.allocate()
    assert response.message_class is MessageClass.SUCCESS
    assert client.relay is not None
    assert response.get(XOR_MAPPED_ADDRESS) == client.local
    assert (await client.bind_channel(0x4000, address_of(peer))).message_class is MessageClass.SUCCESS
    for size in (0, 1, 2, 3, 4, 1200, 9001, 65_000):
        data = os.urandom(size)
        client.send(b"\x40\x00" + size.to_bytes(2, "big") + data + b"\xff" * (-size & 3))
        assert await datagram(peer) == data
        peer.sendto(data, client.relay)
        assert await client.message() == b"\x40\x00" + size.to_bytes(2, "big") + data
