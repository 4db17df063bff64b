"""A DTLS client on a UDP socket, for tests of the server's DTLS."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Self

from OpenSSL import SSL

from natwalk.core import Address

MTU = 1200


class DtlsClient:
    """One association; the flights of its handshake are sent again when they are lost."""

    def __init__(self, server: Address, *, alpn: Sequence[bytes] = (), host: str = "127.0.0.1") -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        self.sock.bind((host, 0))
        self.sock.connect(server)
        self.local = Address.from_sockname(self.sock.getsockname())
        self.received = 0
        self._context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
        self._context.set_options(SSL.OP_NO_QUERY_MTU)
        if alpn:
            self._context.set_alpn_protos(list(alpn))
        self.renew()

    def renew(self) -> None:
        """Begin again from the same port, as a client that was restarted."""
        self.tls = SSL.Connection(self._context, None)
        self.tls.set_connect_state()
        self.tls.set_ciphertext_mtu(MTU)

    def hello(self) -> bytes:
        """The first ClientHello, without a cookie."""
        try:
            self.tls.do_handshake()
        except SSL.WantReadError:
            return self.tls.bio_read(65536)
        raise AssertionError("a handshake without a server")

    async def shake_hands(self) -> None:
        """Complete the handshake. Raises TimeoutError or SSL.Error when that fails."""
        async with asyncio.timeout(10):
            while True:
                try:
                    self.tls.do_handshake()
                except SSL.WantReadError:
                    self.flush()
                    await self.step()
                else:
                    self.flush()
                    return

    async def step(self) -> None:
        """Take in one datagram, or have the last flight sent again when none comes."""
        delay = self.tls.DTLSv1_get_timeout()
        try:
            async with asyncio.timeout(delay):
                data = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
        except TimeoutError:
            self.tls.DTLSv1_handle_timeout()
            self.flush()
        else:
            self.received += 1
            self.tls.bio_write(data)

    def flush(self) -> None:
        """Send what OpenSSL wants to send, one record a datagram."""
        try:
            records = self.tls.bio_read(65536)
        except SSL.WantReadError:
            return
        while records:
            end = 13 + int.from_bytes(records[11:13], "big")
            self.sock.send(records[:end])
            records = records[end:]

    def send(self, data: bytes) -> None:
        self.tls.send(data)
        self.flush()

    async def message(self) -> bytes:
        """The next datagram; raises EOFError after a close_notify."""
        async with asyncio.timeout(5):
            while True:
                try:
                    return self.tls.recv(65536)
                except SSL.WantReadError:
                    await self.step()
                except SSL.ZeroReturnError:
                    raise EOFError from None

    def close(self) -> None:
        """Send a close_notify, when there is something to close."""
        if self.sock.fileno() >= 0:
            try:
                self.tls.shutdown()
                self.flush()
            except SSL.Error:
                pass  # nothing was established
            self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
