"""TLS: versions, certificates, ALPN and what is not TLS."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import re
import socket
import ssl
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from OpenSSL import SSL

from certificates import Files, client_context, serial_of, write_certificate
from natwalk.aio.stream_limits import ClientLimits
from natwalk.aio.tls import ServerTls, TlsStream
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


class _Below:
    """A stream whose other end does not read: what is written stays."""

    closing = False
    buffered = 0

    def __init__(self) -> None:
        self.out = bytearray()

    def write(self, data: bytes) -> None:
        self.out += data

    def close(self) -> None:
        self.closing = True

    abort = close


class _Above:
    def data_received(self, data: bytes) -> None:
        raise AssertionError("no data were sent")


def renegotiations(client: SSL.Connection, numbers: range) -> bytes:
    """ClientHellos as records of these ``numbers``, by TLS 1.2 with AES-128-GCM: OpenSSL would send none."""
    secret, label = client.master_key(), b"key expansion" + client.server_random() + client.client_random()
    block, a = b"", label
    while len(block) < 40:  # RFC 5246 §5
        a = hmac.digest(secret, a, "sha256")
        block += hmac.digest(secret, a + label, "sha256")
    seal, salt = AESGCM(block[:16]), block[32:36]
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\x02\xc0\x2b" + b"\x01\0"
    hello = b"\x01" + len(body).to_bytes(3, "big") + body
    records = []
    for number in numbers:
        sequence = number.to_bytes(8, "big")
        about = sequence + b"\x16\x03\x03" + len(hello).to_bytes(2, "big")
        sealed = sequence + seal.encrypt(salt + sequence, hello, about)
        records.append(b"\x16\x03\x03" + len(sealed).to_bytes(2, "big") + sealed)
    return b"".join(records)


def test_who_asks_for_renegotiation_over_and_over_is_left(tls: ServerTls) -> None:
    """FAULTS 53: each is refused with a warning, and warnings that nobody reads are not kept without end."""
    below = _Below()
    stream = TlsStream(below, tls.context(), _Above())  # type: ignore[arg-type]
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256")
    client = SSL.Connection(context, None)
    client.set_connect_state()
    for _ in range(10):
        with contextlib.suppress(SSL.WantReadError):
            client.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            stream.data_received(client.bio_read(65536))
        if below.out:
            client.bio_write(bytes(below.out))
            below.out.clear()
    assert stream.handshaken
    first = 1
    while not below.closing and first < 20_000:
        assert first < 2500, "long after the bound"
        stream.data_received(renegotiations(client, range(first, first + 100)))
        first += 100
    assert first > 1000, "a few are no reason"
    assert len(below.out) < 70_000
    assert isinstance(stream._error, ConnectionAbortedError)


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
