"""The client's side of DTLS 1.2 (RFC 6347), by OpenSSL with a UDP socket in front.

OpenSSL's datagrams pass through memory; its retransmission timer runs in the event loop. A record is a
message: nothing is reassembled, as below DTLS there are datagrams.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from natwalk.aio.client_tls import ClientTls, check_name
from natwalk.aio.server_link import HANDSHAKE_TIMEOUT, OnClosed, OnMessages, server_name, wildcard
from natwalk.aio.udp import UdpSocket
from natwalk.core import Address, NatError, Path, Transport
from natwalk.stun.resolution import ServerEndpoint

try:
    from OpenSSL import SSL
except ImportError:  # pragma: no cover - the extra is there when tests run
    raise NatError("DTLS needs pyOpenSSL: install natwalk[dtls]") from None

HANDSHAKE_MTU: Final = 1200
"""Bytes of the datagrams that carry the handshake; what every path passes."""

_DTLS_1_2: Final = 0xFEFD  # RFC 6347 §4.1
_RECORD_HEADER: Final = 13
_LENGTH_AT: Final = 11
_READ_LIMIT: Final = 65_536


class DtlsFailed(NatError):
    """There is no DTLS association with the server, and why."""


class DtlsLink:
    """A DTLS association with one server."""

    def __init__(
        self,
        endpoint: ServerEndpoint,
        on_messages: OnMessages,
        on_closed: OnClosed,
        local: Address | None,
        tls: ClientTls,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._endpoint = endpoint
        self._tls = tls
        self._on_messages = on_messages
        self._on_closed: OnClosed | None = on_closed
        self._timer: asyncio.TimerHandle | None = None
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._connection = _connection(server_name(endpoint), tls)
        self._socket = UdpSocket.bind(local or wildcard(endpoint.address), self._on_datagrams)
        self.path = Path(self._socket.local, endpoint.address, Transport.DTLS)
        self.drops = self._socket.drops

    @classmethod
    async def open(
        cls,
        endpoint: ServerEndpoint,
        on_messages: OnMessages,
        on_closed: OnClosed,
        local: Address | None,
        tls: ClientTls,
    ) -> DtlsLink:
        """Shake hands with the server.

        Raises :class:`DtlsFailed`, :class:`CertificateMismatch` and, after ``HANDSHAKE_TIMEOUT`` seconds,
        TimeoutError; OSError when ``local`` cannot be bound.
        """
        self = cls(endpoint, on_messages, on_closed, local, tls)
        try:
            self._advance()
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                await self._ready
        except TimeoutError:
            self.close()
            raise TimeoutError("no DTLS handshake with the server") from None
        except BaseException:
            self.close()
            raise
        return self

    @property
    def certificate(self) -> bytes | None:
        """The server's certificate, in DER."""
        found = self._connection.get_peer_certificate()
        return None if found is None else found.to_cryptography().public_bytes(Encoding.DER)

    def send(self, messages: Sequence[bytes]) -> None:
        """Send each message as a record; one of more than 16 KiB is dropped, as DTLS has none so long."""
        if self._socket.closed:
            self.drops.add("closed")
            return
        for message in messages:
            try:
                self._connection.send(message)
            except SSL.Error:
                self.drops.add("a message that does not fit a DTLS record")
        self._flush()

    def close(self) -> None:
        """Tell the server, and close the socket."""
        if self._socket.closed:
            return
        self._on_closed = None
        if self._ready.done() and not self._ready.cancelled() and self._ready.exception() is None:
            try:
                self._connection.shutdown()
            except SSL.Error:
                self.drops.add("no close_notify")
            self._flush()
        if self._timer is not None:
            self._timer.cancel()
        self._socket.close()

    async def wait_closed(self) -> None:
        """Nothing to wait for."""

    def _on_datagrams(self, batch: list[tuple[bytes, Address]]) -> None:
        messages: list[bytes] = []
        for data, remote in batch:
            if remote != self.path.remote:
                self.drops.add("not from the server")
                continue
            self._connection.bio_write(data)
            if not self._ready.done():
                self._advance()
            if self._ready.done():
                self._read(messages)
        if not self._socket.closed:
            self._flush()
        if messages:
            self._on_messages(self.path, messages)

    def _advance(self) -> None:
        """Go on with the handshake as far as what has arrived allows."""
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            self._flush()
            return
        except SSL.Error as problem:
            self._flush()  # the alert that tells the server
            self._fail(DtlsFailed(f"DTLS handshake: {_words(problem)}"))
            return
        try:
            if self._tls.verify:
                self._check_server()
        except NatError as problem:
            self._fail(problem)
            return
        self._flush()
        if not self._ready.done():
            self._ready.set_result(None)

    def _check_server(self) -> None:
        certificate = self._connection.get_peer_certificate()
        if certificate is None:
            raise DtlsFailed("the server has no certificate")
        check_name(certificate.to_cryptography(), server_name(self._endpoint))

    def _read(self, messages: list[bytes]) -> None:
        if self._ready.exception() is not None:
            return
        while True:
            try:
                messages.append(self._connection.recv(_READ_LIMIT))
            except SSL.WantReadError:
                return
            except SSL.ZeroReturnError:
                self._end("the server closed the DTLS association")
                return
            except SSL.Error as problem:
                self._end(f"DTLS: {_words(problem)}")
                return

    def _on_timer(self) -> None:
        self._timer = None
        self._connection.DTLSv1_handle_timeout()
        self._flush()

    def _flush(self) -> None:
        """Send what OpenSSL has written, and arm the timer it wants."""
        for record in _records(self._pending()):
            self._socket.send(record, self.path.remote)
        if self._timer is not None:
            self._timer.cancel()
        delay = self._connection.DTLSv1_get_timeout()
        self._timer = None if delay is None else self._loop.call_later(delay, self._on_timer)

    def _pending(self) -> bytes:
        written = bytearray()
        while True:
            try:
                written += self._connection.bio_read(_READ_LIMIT)
            except SSL.WantReadError:
                return bytes(written)

    def _fail(self, error: NatError) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)

    def _end(self, reason: str) -> None:
        on_closed = self._on_closed
        self.close()
        if on_closed is not None:
            on_closed(self.path, reason)


def _connection(name: str, tls: ClientTls) -> SSL.Connection:
    context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
    context.set_min_proto_version(_DTLS_1_2)
    context.set_max_proto_version(_DTLS_1_2)
    context.set_options(SSL.OP_NO_QUERY_MTU)
    if tls.verify:
        context.set_verify(SSL.VERIFY_PEER)
        if tls.ca_file is None:
            context.set_default_verify_paths()
        else:
            context.load_verify_locations(str(tls.ca_file))
    if tls.alpn:
        context.set_alpn_protos([each.encode() for each in tls.alpn])
    connection = SSL.Connection(context, None)
    try:
        ip_address(name)
    except ValueError:
        connection.set_tlsext_host_name(name.encode())
    connection.set_ciphertext_mtu(HANDSHAKE_MTU)
    connection.set_connect_state()
    return connection


def _records(data: bytes) -> Iterator[bytes]:
    """The records in ``data``: in memory, OpenSSL's datagrams run together (RFC 6347 §4.1)."""
    at = 0
    while at + _RECORD_HEADER <= len(data):
        end = at + _RECORD_HEADER + int.from_bytes(data[at + _LENGTH_AT : at + _RECORD_HEADER])
        yield data[at:end]
        at = end


def _words(problem: SSL.Error) -> str:
    """OpenSSL's reason in words."""
    reasons = problem.args[0] if problem.args else ()
    found = [entry[2] for entry in reasons if len(entry) > 2 and entry[2]] if reasons else []
    return found[0] if found else "the association failed"
