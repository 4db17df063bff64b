"""DTLS 1.2 on the UDP sockets of a TURN server, without state for a source that was not heard twice.

A ClientHello is answered with a cookie, from one spare connection object and two secrets, whoever sent it;
only who sends the cookie back gets an association (RFC 6347 §4.2.1).
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from natwalk.aio.client_watch import ClientWatch
from natwalk.aio.dtls_records import datagrams, is_client_hello
from natwalk.aio.stream_client import ClientHooks
from natwalk.aio.stream_limits import ClientLimits, Sources
from natwalk.aio.tls import ALPN_STUN, ALPN_TURN, ServerTls
from natwalk.core import Address, Drops, Path

SendMany = Callable[[Sequence[bytes], Address], int]
"""Sends datagrams to one address."""

MTU: Final = 1200
"""Bytes of the datagrams of a handshake; application data are not cut."""
MOST_HELLO: Final = 4096
"""Bytes of a ClientHello. One datagram carries all of it, and OpenSSL reads no more than 16 KiB at once."""
COOKIE_LIFETIME: Final = 60.0
"""Seconds after which a new secret makes the cookies; those of the one before still count."""

_DTLS_1_2: Final = 0xFEFD
_OPTIONS: Final = (
    SSL.OP_NO_QUERY_MTU,
    SSL.OP_NO_COMPRESSION,
    SSL.OP_NO_TICKET,
    SSL.OP_NO_RENEGOTIATION,
    SSL.OP_COOKIE_EXCHANGE,
    SSL.OP_CIPHER_SERVER_PREFERENCE,
)
_RELEASE_BUFFERS: Final = 0x10  # SSL_MODE_RELEASE_BUFFERS, which pyOpenSSL does not name
_CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES"
_MOST_PLAINTEXT: Final = 16384
_MOST_FLIGHT: Final = 65536
_ALPN: Final = (ALPN_TURN.encode(), ALPN_STUN.encode())


class Cookies:
    """What a source must send back to show that it receives at its address."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._secrets = (secrets.token_bytes(32), secrets.token_bytes(32))
        self._made = clock()

    def make(self, remote: Address) -> bytes:
        """The cookie of ``remote`` at this time, 32 bytes."""
        return self._cookie(self._current()[0], remote)

    def check(self, remote: Address, cookie: bytes) -> bool:
        """Whether ``cookie`` was made for ``remote`` one or two minutes ago at most."""
        valid = [hmac.compare_digest(self._cookie(secret, remote), cookie) for secret in self._current()]
        return any(valid)

    def _current(self) -> tuple[bytes, bytes]:
        age = self._clock() - self._made
        if age >= COOKIE_LIFETIME:
            before = self._secrets[0] if age < 2 * COOKIE_LIFETIME else secrets.token_bytes(32)
            self._secrets = (secrets.token_bytes(32), before)
            self._made = self._clock()
        return self._secrets

    @staticmethod
    def _cookie(secret: bytes, remote: Address) -> bytes:
        return hmac.digest(secret, str(remote).encode(), "sha256")


class _Endpoint:
    """One UDP socket that takes DTLS: its certificate and the connection object that answers hellos."""

    def __init__(self, tls: ServerTls, cookies: Cookies, send: SendMany) -> None:
        self.send = send
        self._tls = tls
        self._cookies = cookies
        self._remote: Address | None = None
        self._generation = tls.generation
        self._context = self._load()
        self._spare = self._connection()

    def listen(self, hello: bytes, remote: Address) -> SSL.Connection | None:
        """Answer a ClientHello; a connection to shake hands on when it carries the cookie of ``remote``."""
        if self._generation != self._tls.generation:
            self._generation = self._tls.generation
            self._context = self._load()
            self._spare = self._connection()
        self._remote = remote
        spare = self._spare
        spare.bio_write(hello)
        try:
            spare.DTLSv1_listen()
        except SSL.WantReadError:
            if flight := _outgoing(spare):
                self.send(flight, remote)
            else:  # refused, and what was not read of it is not to stand before the next one's
                self._spare = self._connection()
            return None
        except SSL.Error:
            self._spare = self._connection()
            return None
        self._spare = self._connection()
        return spare

    def _load(self) -> SSL.Context:
        """A context of the certificate as it is now."""
        context = SSL.Context(SSL.DTLS_SERVER_METHOD)
        context.set_min_proto_version(_DTLS_1_2)
        context.set_max_proto_version(_DTLS_1_2)
        for option in _OPTIONS:
            if option is not None:  # None where pyOpenSSL was built without it
                context.set_options(option)
        context.set_mode(_RELEASE_BUFFERS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_cipher_list(_CIPHERS)
        context.set_alpn_select_callback(_choose_alpn)
        context.set_cookie_generate_callback(self._make_cookie)
        context.set_cookie_verify_callback(self._check_cookie)
        chain = x509.load_pem_x509_certificates(self._tls.cert_pem)
        context.use_certificate(chain[0])
        for certificate in chain[1:]:
            context.add_extra_chain_cert(certificate)
        context.use_privatekey(load_pem_private_key(self._tls.key_pem, None))  # type: ignore[arg-type]
        return context

    def _connection(self) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        connection.set_ciphertext_mtu(MTU)
        return connection

    def _make_cookie(self, _: SSL.Connection) -> bytes:
        assert self._remote is not None
        return self._cookies.make(self._remote)

    def _check_cookie(self, _: SSL.Connection, cookie: bytes) -> bool:
        assert self._remote is not None
        return self._cookies.check(self._remote, cookie)


class DtlsServer:
    """Every DTLS association of a TURN server.

    ``hooks`` is the TURN server's side. Associations are bounded in total, by source and while their
    handshake lasts; what is beyond gets no answer. All methods are for the loop's thread only.
    """

    def __init__(self, hooks: ClientHooks, limits: ClientLimits, drops: Drops) -> None:
        self.hooks = hooks
        self.limits = limits
        self.drops = drops
        self.handshaking = 0
        self._loop = asyncio.get_running_loop()
        self._cookies = Cookies(self._loop.time)
        self._endpoints: dict[Address, _Endpoint] = {}
        self._associations: dict[Path, Association] = {}
        self._sources = Sources(limits.connections_per_source)

    def __len__(self) -> int:
        return len(self._associations)

    def listen(self, local: Address, tls: ServerTls, send: SendMany) -> None:
        """Take DTLS that came to the socket bound to ``local``; ``send`` sends from it."""
        self._endpoints[local] = _Endpoint(tls, self._cookies, send)

    def receive(self, data: bytes, path: Path) -> None:
        """Take one datagram whose first byte says DTLS (RFC 7983)."""
        association = self._associations.get(path)
        if association is not None and not (association.established and is_client_hello(data)):
            association.receive(data)
        elif is_client_hello(data):
            self._listen(data, path, association)
        else:
            self.drops.add("DTLS without an association")

    def send(self, messages: Sequence[bytes], path: Path) -> None:
        """Send datagrams to the client on ``path``."""
        association = self._associations.get(path)
        if association is None:
            self.drops.add("the client's association is closed")
        else:
            association.send(messages)

    def close_client(self, path: Path) -> None:
        """End the association of ``path`` with a close_notify; harmless when there is none."""
        association = self._associations.get(path)
        if association is not None:
            association.close()

    def close(self) -> None:
        """End every association."""
        for association in list(self._associations.values()):
            association.close()

    def forget(self, association: Association) -> None:
        """``association`` is over."""
        del self._associations[association.path]
        self._sources.remove(association.path.remote)

    def _listen(self, hello: bytes, path: Path, before: Association | None) -> None:
        """Answer a hello; one with the right cookie begins an association (RFC 6347 §4.2.8)."""
        if len(hello) > MOST_HELLO:
            self.drops.add("a DTLS hello that is too long")
            return
        endpoint = self._endpoints[path.local]
        connection = endpoint.listen(hello, path.remote)
        if connection is None:
            return
        if before is not None:
            before.end()
        if len(self._associations) >= self.limits.connections:
            self.drops.add("too many DTLS associations")
        elif self.handshaking >= self.limits.handshakes:
            self.drops.add("too many DTLS handshakes")
        elif not self._sources.add(path.remote):
            self.drops.add("too many DTLS associations from one source")
        else:
            association = Association(self, endpoint.send, connection, path)
            self._associations[path] = association
            association.receive(b"")


class Association:
    """One client over DTLS."""

    def __init__(self, server: DtlsServer, send: SendMany, connection: SSL.Connection, path: Path) -> None:
        self.path = path
        self.established = False
        self._server = server
        self._send = send
        self._connection = connection
        self._served = False
        self._over = False
        self._loop = asyncio.get_running_loop()
        self._retransmission: asyncio.TimerHandle | None = None
        self._watch = ClientWatch(
            server.limits, close=self._refuse, may_be_idle=lambda: server.hooks.has_allocation(path)
        )
        server.handshaking += 1

    def receive(self, data: bytes) -> None:
        """Take one datagram, or none to begin the handshake with what came already."""
        if data:
            self._connection.bio_write(data)
        try:
            if not self.established:
                self._shake_hands()
            while not self._over:
                message = self._connection.recv(_MOST_PLAINTEXT)
                self._served = True
                self._watch.message_received()
                self._server.hooks.message_received(message, self.path)
        except SSL.WantReadError:
            self._flush()
        except SSL.ZeroReturnError:
            self.close()
        except SSL.Error:
            self._server.drops.add("a DTLS association failed")
            self._flush()
            self.end()

    def send(self, messages: Sequence[bytes]) -> None:
        """Send each of ``messages`` as a record in a datagram of its own."""
        if not self.established:
            self._server.drops.add("the DTLS handshake is not done")
            return
        sealed: list[bytes] = []
        for message in messages:
            try:
                self._connection.send(message)
                sealed.append(self._connection.bio_read(_MOST_FLIGHT))
            except SSL.Error:
                self._server.drops.add("too long for DTLS")
        self._send(sealed, self.path.remote)

    def close(self) -> None:
        """Say close_notify and end."""
        if self.established and not self._over:
            try:
                self._connection.shutdown()
            except SSL.Error:
                self._server.drops.add("a DTLS association failed")
            self._flush()
        self.end()

    def end(self) -> None:
        """Forget the association and tell the server, when it knew it; harmless when repeated."""
        if self._over:
            return
        self._over = True
        self._watch.cancel()
        if self._retransmission is not None:
            self._retransmission.cancel()
        if not self.established:
            self._server.handshaking -= 1
        self._server.forget(self)
        if self._served:
            self._server.hooks.client_closed(self.path)

    def _shake_hands(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            self._arm()
            raise
        self.established = True
        self._server.handshaking -= 1
        self._arm()
        self._flush()

    def _arm(self) -> None:
        """Wait as long as OpenSSL wants to before it sends its flight again."""
        if self._retransmission is not None:
            self._retransmission.cancel()
            self._retransmission = None
        delay = self._connection.DTLSv1_get_timeout()
        if delay is not None and not self._over:
            self._retransmission = self._loop.call_later(delay, self._retransmit)

    def _retransmit(self) -> None:
        self._retransmission = None
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error:
            self._refuse("a DTLS handshake got no answers")
            return
        self._flush()
        self._arm()

    def _flush(self) -> None:
        if flight := _outgoing(self._connection):
            self._send(flight, self.path.remote)

    def _refuse(self, reason: str) -> None:
        self._server.drops.add(reason)
        self.close()


def _outgoing(connection: SSL.Connection) -> list[bytes]:
    """What OpenSSL wants to send, as datagrams: its memory keeps no boundaries."""
    try:
        return datagrams(connection.bio_read(_MOST_FLIGHT), MTU)
    except SSL.WantReadError:
        return []


def _choose_alpn(_: SSL.Connection, offered: list[bytes]) -> Any:
    """The first of ours that is offered; none is no reason to refuse (RFC 7443)."""
    for name in _ALPN:
        if name in offered:
            return name
    return SSL.NO_OVERLAPPING_PROTOCOLS
