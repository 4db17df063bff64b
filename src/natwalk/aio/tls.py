"""TLS over a byte stream without asyncio's quarter of a megabyte for each connection."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from natwalk.aio.byte_stream import ByteStream, StreamSink
from natwalk.core import Address

ALPN_TURN: Final = "stun.turn"  # RFC 7443
ALPN_STUN: Final = "stun.nat-discovery"
ALPN_HTTP: Final = "http/1.1"

MOST_UNASKED: Final = 65536
"""Bytes that TLS may have to say for itself once the handshake is done: tickets and key updates are small."""
_READ_SIZE: Final = 16384  # the plaintext of one record
_READ_ATTEMPTS: Final = 3


class ServerTls:
    """A certificate with its key, and the TLS contexts made of them.

    ``cert`` is a PEM file of the certificate and its chain, ``key`` one of the key. After :meth:`reload` new
    handshakes get the new certificate and running connections go on. Raises OSError when a file cannot be
    read and ValueError when the two are no certificate and its key.
    """

    def __init__(self, cert: str | Path, key: str | Path) -> None:
        self._cert = Path(cert)
        self._key = Path(key)
        self.generation = 0
        """How often the certificate was loaded; whoever builds something of the PEM compares it."""
        self.reload()

    def reload(self) -> None:
        """Read both files again. When that raises, as the constructor does, the old certificate stays."""
        for _ in range(_READ_ATTEMPTS):
            cert_pem, key_pem = self._cert.read_bytes(), self._key.read_bytes()
            turn = self._context(http=False)
            http = self._context(http=True)
            if (cert_pem, key_pem) == (self._cert.read_bytes(), self._key.read_bytes()):
                break
        else:
            raise ValueError(f"{self._cert} and {self._key} change while they are being read")
        self.cert_pem, self.key_pem = cert_pem, key_pem
        self._turn, self._http = turn, http
        self.generation += 1

    def context(self, *, http: bool = False) -> ssl.SSLContext:
        """The context of the next handshake; ``http`` offers HTTP/1.1 beside STUN and TURN."""
        return self._http if http else self._turn

    def _context(self, *, http: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols([ALPN_TURN, ALPN_STUN, *([ALPN_HTTP] if http else [])])
        try:
            context.load_cert_chain(self._cert, self._key, password=_no_password)
        except ssl.SSLError as error:
            reason = error.reason or "they do not parse"
            raise ValueError(
                f"{self._cert} and {self._key} are no certificate and its key: {reason}"
            ) from error
        return context


class TlsStream:
    """The plaintext of a server's TLS connection over ``stream``; a ByteStream and the sink of one.

    The handshake runs by itself, without a deadline of its own: the owner sets one. A failed handshake, a
    broken record and a lost ``stream`` all end in ``connection_lost``. Renegotiation and early data are
    refused (FAULTS 53).
    """

    def __init__(
        self,
        stream: ByteStream,
        context: ssl.SSLContext,
        sink: StreamSink,
        *,
        on_handshake: Callable[[], None] | None = None,
    ) -> None:
        self.sink = sink
        self.handshaken = False
        self._stream = stream
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._on_handshake = on_handshake
        self._eof_sent = False
        self._eof_told = False
        self._unasked = 0
        self._error: Exception | None = None
        stream.sink = self

    @property
    def local(self) -> Address:
        """Our end of the TCP connection."""
        return self._stream.local

    @property
    def remote(self) -> Address:
        """The other end of the TCP connection."""
        return self._stream.remote

    @property
    def buffered(self) -> int:
        """Encrypted bytes that wait for room in the kernel."""
        return self._stream.buffered

    @property
    def closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._stream.closing

    @property
    def alpn(self) -> str | None:
        """The application protocol agreed on, None without one or before the handshake."""
        return self._tls.selected_alpn_protocol()

    @property
    def ssl_object(self) -> ssl.SSLObject:
        """The TLS state, for those who want to know its version or cipher."""
        return self._tls

    def write(self, data: bytes) -> None:
        """Encrypt and send or queue ``data``. Raises ValueError before the handshake is done."""
        if self.closing or self._eof_sent:
            return
        if not self.handshaken:
            raise ValueError("the TLS handshake is not done")
        view = memoryview(data)
        try:
            while view:
                view = view[self._tls.write(view) :]
        except ssl.SSLError as error:
            self._fail(error)
            return
        self._send()

    def write_eof(self) -> None:
        """Send close_notify after what is queued; reading goes on."""
        if self._shut_down():
            self._stream.write_eof()

    def pause_reading(self) -> None:
        """Take nothing more from the kernel; at most one receive's worth still comes."""
        self._stream.pause_reading()

    def resume_reading(self) -> None:
        """Read again; harmless when not paused."""
        self._stream.resume_reading()

    def close(self) -> None:
        """Send what is queued and close_notify, then close; harmless when repeated."""
        self._shut_down()
        self._stream.close()

    def abort(self) -> None:
        """Close now, whatever is queued; harmless when repeated."""
        self._stream.abort()

    # What the stream below says.

    def data_received(self, data: bytes) -> None:
        """Decrypt, and do the handshake before that."""
        self._incoming.write(data)
        try:
            if not self.handshaken:
                self._shake_hands()
            self._read()
        except ssl.SSLWantReadError:
            self._send_own()
        except ssl.SSLZeroReturnError:
            self._tell_eof()
        except ssl.SSLError as error:
            self._fail(error)

    def eof_received(self) -> None:
        """A FIN without close_notify ends the data as well: messages are framed, none is taken for whole."""
        if self.handshaken:
            self._tell_eof()
        else:
            self._fail(ConnectionResetError("the connection ended during the TLS handshake"))

    def drained(self) -> None:
        """Hand on that the queue is empty."""
        self.sink.drained()

    def connection_lost(self, error: Exception | None) -> None:
        """Hand on that it is over, with the first reason."""
        self.sink.connection_lost(self._error or error)

    def _shake_hands(self) -> None:
        self._tls.do_handshake()
        self.handshaken = True
        self._send()
        if self._on_handshake is not None:
            self._on_handshake()

    def _read(self) -> None:
        while not self.closing:
            data = self._tls.read(_READ_SIZE)
            if not data:
                raise ssl.SSLZeroReturnError
            self.sink.data_received(data)

    def _tell_eof(self) -> None:
        if not self._eof_told:
            self._eof_told = True
            self.sink.eof_received()

    def _shut_down(self) -> bool:
        """Queue close_notify once; False when it was or cannot be."""
        if self._eof_sent or self.closing or not self.handshaken:
            return False
        self._eof_sent = True
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass  # the other side's close_notify may come later
        except ssl.SSLError as error:
            self._fail(error)
            return False
        self._send()
        return True

    def _send(self) -> None:
        if self._outgoing.pending:
            self._stream.write(self._outgoing.read())

    def _send_own(self) -> None:
        """Send what nobody wrote: the next flight of a handshake, tickets, key updates, warnings.

        Who makes the TLS layer talk for its own sake, by asking for renegotiation over and over, is left.
        """
        if self.handshaken:
            self._unasked += self._outgoing.pending
        self._send()
        if self._unasked > MOST_UNASKED:
            self._error = self._error or ConnectionAbortedError("TLS that has to be answered without end")
            self._stream.abort()

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._send()  # the alert that says why
        self._stream.close()


def _no_password() -> str:
    """Refuse an encrypted key instead of asking the terminal for its password."""
    raise ValueError("the key is encrypted; the server takes keys without a password")
