"""Connections that come through a proxy."""

from __future__ import annotations

import pytest

from certificates import Files, client_context
from natwalk.aio.stream_limits import ClientLimits
from natwalk.aio.tls import ServerTls
from natwalk.core import Address, Transport
from natwalk.stun import (
    XOR_MAPPED_ADDRESS,
)
from turn_serving import BINDING, serving

V1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 50000 3478\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes([203, 0, 113, 7, 192, 0, 2, 1, 0xC3, 0x50, 0x0D, 0x96])


@pytest.mark.parametrize("header", [V1, V2])
async def test_a_trusted_proxy_says_who_the_client_is(header: bytes) -> None:
    async with serving(proxy_from=["127.0.0.1/32"]) as server, await server.connect(prefix=header) as client:
        response = await client.allocate()
        assert response.get(XOR_MAPPED_ADDRESS) == Address("203.0.113.7", 50000)


@pytest.mark.parametrize("header", [V1, V2])
async def test_a_proxy_that_passes_tls_through(header: bytes, files: Files, tls: ServerTls) -> None:
    async with (
        serving(Transport.TLS, tls=tls, proxy_from=["127.0.0.0/8"]) as server,
        await server.connect(prefix=header, context=client_context(files)) as client,
    ):
        response = await client.allocate()
        assert response.get(XOR_MAPPED_ADDRESS) == Address("203.0.113.7", 50000)


async def test_a_proxy_that_speaks_for_itself_is_a_client() -> None:
    async with (
        serving(proxy_from=["127.0.0.1"]) as server,
        await server.connect(prefix=b"PROXY UNKNOWN\r\n") as client,
    ):
        assert (await client.allocate()).get(XOR_MAPPED_ADDRESS) == client.local


async def test_a_trusted_proxy_must_say_it() -> None:
    async with serving(proxy_from=["127.0.0.1"]) as server:
        client = await server.connect()
        client.send(BINDING)
        assert await client.ended()
        await client.close()
        assert server.drops == {"a trusted proxy sends no PROXY protocol header": 1}


async def test_a_header_from_anybody_else_is_not_believed() -> None:
    async with serving(proxy_from=["192.0.2.0/24", "2001:db8::/32"]) as server:
        client = await server.connect(prefix=V1)
        client.send(BINDING)
        assert await client.ended()
        await client.close()
        async with await server.connect() as direct:
            direct.send(BINDING)
            await direct.message()


async def test_connections_are_counted_by_the_source_behind_the_proxy() -> None:
    limits = ClientLimits(connections_per_source=1)
    async with serving(proxy_from=["127.0.0.1"], limits=limits) as server:
        async with await server.connect(prefix=V1) as client:
            client.send(BINDING)
            await client.message()
            same = await server.connect(prefix=V1.replace(b"50000", b"50001"))
            assert await same.ended()
            await same.close()
            twin = await server.connect(prefix=V1)
            assert await twin.ended()
            await twin.close()
            async with await server.connect(prefix=V1.replace(b"113.7", b"113.8")) as other:
                other.send(BINDING)
                await other.message()
        assert server.drops["too many connections from one source"] == 1
        assert server.drops["a second connection on one 5-tuple"] == 1
