"""TLS: versions, certificates, ALPN and what is not TLS."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Callable

import pytest
from OpenSSL import SSL

from certificates import Files, client_context, serial_of, write_certificate
from natwalk.aio.stream_limits import ClientLimits
from natwalk.aio.tls import ServerTls
from natwalk.core import Transport
from turn_serving import BINDING, relay_both_ways, serving, until


async def test_a_reloaded_certificate_is_for_new_connections(
    peer: socket.socket, files: Files, tls: ServerTls
) -> None:
    """FAULTS 158: the old connection goes on, the next handshake gets the new certificate."""
    async with (
        serving(Transport.TLS, tls=tls) as server,
        await server.connect(context=client_context(files)) as client,
    ):
        new = write_certificate(files.cert.parent)
        tls.reload()
        async with await server.connect(context=client_context(new)) as later:
            assert serial_of(later.writer.get_extra_info("ssl_object")) == new.serial
            assert serial_of(client.writer.get_extra_info("ssl_object")) == files.serial
            await relay_both_ways(client, peer)


async def test_a_bad_certificate_keeps_the_old_one(files: Files, tls: ServerTls) -> None:
    context = client_context(files)
    other = write_certificate(files.cert.parent.joinpath("..").resolve())
    for cert, key in ((other.cert.read_bytes(), None), (b"nothing", None), (None, b"nothing")):
        saved = files.cert.read_bytes(), files.key.read_bytes()
        files.cert.write_bytes(cert or saved[0])
        files.key.write_bytes(key or saved[1])
        with pytest.raises(ValueError, match="no certificate and its key"):
            tls.reload()
        files.cert.write_bytes(saved[0])
        files.key.write_bytes(saved[1])
    files.cert.rename(files.cert.with_suffix(".old"))
    with pytest.raises(FileNotFoundError):
        tls.reload()
    assert tls.generation == 1
    async with serving(Transport.TLS, tls=tls) as server, await server.connect(context=context) as client:
        client.send(BINDING)
        await client.message()


async def test_old_tls_is_refused(files: Files, tls: ServerTls) -> None:
    context = client_context(files)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(Transport.TLS, tls=tls) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await server.connect(context=context)
        await until(lambda: server.driver.connections == 0)


async def test_what_is_not_tls_is_refused(tls: ServerTls) -> None:
    async with serving(Transport.TLS, tls=tls) as server:
        client = await server.connect()
        client.send(BINDING)
        with contextlib.suppress(EOFError):
            async with asyncio.timeout(5):
                await client.reader.readexactly(1 << 16)  # an alert, then the end
        await client.close()
        await until(lambda: server.driver.connections == 0)


async def test_renegotiation_is_refused(files: Files, tls: ServerTls) -> None:
    """FAULTS 53: a client that asks for it again and again gets no handshake out of it."""
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    async with serving(Transport.TLS, tls=tls) as server:
        reader, writer = await asyncio.open_connection(server.address.host, server.address.port)
        client = SSL.Connection(context, None)
        client.set_connect_state()

        async def drive(step: Callable[[], object]) -> object:
            """Do ``step`` with as many exchanges as it takes."""
            async with asyncio.timeout(5):
                while True:
                    try:
                        result = step()
                    except SSL.WantReadError:
                        result = None
                    with contextlib.suppress(SSL.WantReadError):
                        writer.write(client.bio_read(65536))
                    if result is not None:
                        return result
                    data = await reader.read(65536)
                    if not data:
                        raise EOFError
                    client.bio_write(data)

        await drive(lambda: client.do_handshake() or True)
        await drive(lambda: client.send(BINDING))
        assert await drive(lambda: client.recv(1000))
        assert client.renegotiate()
        with pytest.raises((SSL.Error, EOFError)):
            await drive(lambda: client.do_handshake() or True)
        writer.close()


async def test_there_is_no_early_data(files: Files, tls: ServerTls) -> None:
    """FAULTS 53: the tickets of the server allow none, so no Allocate can be replayed in it."""
    limits = ClientLimits(first_message_timeout=0.5)  # s_client prints what it saw when we hang up
    async with serving(Transport.TLS, tls=tls, limits=limits) as server:
        process = await asyncio.create_subprocess_exec(
            *("openssl", "s_client", "-connect", str(server.address), "-tls1_3", "-CAfile", str(files.cert)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        async with asyncio.timeout(10):
            output = await process.stdout.read()
            await process.wait()
        allowed = re.findall(rb"Max Early Data: (\d+)", output)
        assert allowed, output
        assert set(allowed) == {b"0"}
