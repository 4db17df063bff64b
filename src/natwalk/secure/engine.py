"""The only file that touches qh3's connection (others read its events), behind a few typed calls.

What qh3 2.1 does not do by itself, and this adapter does:

- it takes Ed25519 certificates only when the client names that algorithm;
- it tells of the peer's close only after the draining period; :meth:`Engine.finish_if_closed` does at once;
- one DATAGRAM frame too big for a packet blocks it for ever; :attr:`Engine.datagram_limit` keeps below;
- a server that has used up what it may send to an unproven address raises instead of waiting;
- it may stop repeating a lost Finished, or take reordered packets of a handshake for a violation: the
  remedy is another attempt (see ``attempts``).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from qh3.quic.configuration import QuicConfiguration
from qh3.quic.connection import QuicConnection, QuicConnectionError
from qh3.quic.events import QuicEvent
from qh3.tls import SignatureAlgorithm

from natwalk.core import LocalProtocolError
from natwalk.secure.identity import Identity, fingerprint

# qh3 warns through logging whenever a peer closes; without a handler Python prints that to stderr.
logging.getLogger("quic").addHandler(logging.NullHandler())

ALPN: Final = "natwalk/1"
DATAGRAM_OVERHEAD: Final = 64  # more than short header, tag and frame header take together
CLIENT_RECEIVE_LIMIT: Final = 1472  # the max_udp_payload_size that qh3 announces for every client
STREAM_REFUSALS: Final = (ValueError, QuicConnectionError)

BAD_CERTIFICATE: Final = 0x12A  # TLS alert 42 as a QUIC code (RFC 9001 §4.8): also a wrong pin
IDLE_REASON: Final = "Idle timeout"  # the engine's words, with the code of an internal error

_CERT_NONE: Final = 0  # ssl.CERT_NONE: no authority, the pin decides
_REMOTE: Final = ("192.0.2.1", 443)  # QUIC must not see path changes: those are the path room's business
_NO_SUCH_STREAM: Final = (1 << 62) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How one QUIC connection is set up; times in seconds, sizes in bytes."""

    idle_timeout: float = 60.0
    max_data: int = 64 << 20
    max_stream_data: int = 32 << 20
    max_datagram_size: int = 1280
    probe_datagram_size: bool = True


class Engine:
    """One QUIC connection, client or server, over an address that never changes."""

    def __init__(
        self,
        settings: EngineSettings,
        identity: Identity,
        *,
        pin: bytes | None = None,
        original_destination: bytes | None = None,
    ) -> None:
        """A client with the fingerprint it expects as ``pin``, or a server with the first Initial's ID."""
        self.is_client = original_destination is None
        size = settings.max_datagram_size
        configuration = QuicConfiguration(
            alpn_protocols=[ALPN],
            idle_timeout=settings.idle_timeout,
            is_client=self.is_client,
            max_data=settings.max_data,
            max_stream_data=settings.max_stream_data,
            max_datagram_size=size,
            max_datagram_frame_size=65535,
            probe_datagram_size=settings.probe_datagram_size and self.is_client,
        )
        if self.is_client:
            if pin is None:
                raise LocalProtocolError("a client needs the server's fingerprint")
            configuration.server_name = "natwalk"
            configuration.verify_mode = _CERT_NONE
            configuration.assert_fingerprint = pin.hex()
            configuration.signature_algorithms = [int(SignatureAlgorithm.ED25519)]
        else:
            configuration.load_cert_chain(identity.certificate_pem, identity.private_key_pem)
        self._pin = pin
        self._quic = QuicConnection(
            configuration=configuration, original_destination_connection_id=original_destination
        )
        self.datagram_limit = min(size, size if self.is_client else CLIENT_RECEIVE_LIMIT) - DATAGRAM_OVERHEAD

    @property
    def connection_id(self) -> bytes:
        """The connection ID that the peer's handshake packets carry as destination."""
        return bytes(self._quic.host_cid)

    def connect(self, now: float) -> None:
        """Begin the handshake of a client."""
        self._quic.connect(_REMOTE, now)

    def receive(self, datagrams: Sequence[bytes], now: float) -> str | None:
        """Take datagrams of this connection; the name of the error when the engine choked on them."""
        try:
            self._quic.receive_many_datagrams(list(datagrams), _REMOTE, now)
        except Exception as error:
            # A foreign parser on wire bytes: whatever it raises is the sender's doing and must not
            # reach the driver. The caller counts it.
            return type(error).__name__
        return None

    def handle_timer(self, now: float) -> None:
        """Let the engine act when its timer is due."""
        due = self._quic.get_timer()
        if due is not None and due <= now:
            self._quic.handle_timer(now)

    def timer(self) -> float | None:
        """When the engine wants ``handle_timer``."""
        timer = self._quic.get_timer()
        return None if timer is None else float(timer)

    def datagrams(self, now: float) -> list[bytes]:
        """Everything that may be sent at ``now``; raises one of STREAM_REFUSALS when the engine cannot."""
        return [data for data, _ in self._quic.datagrams_to_send(now)]

    def next_event(self) -> QuicEvent | None:
        """The engine's next event, or None."""
        return self._quic.next_event()

    def finish_if_closed(self, now: float) -> list[bytes] | None:
        """If the engine or the peer has ended the connection, let ``next_event`` say so now.

        Returns None while the connection lives, else the last datagrams to send: none when it was the
        peer, because a draining engine sends nothing (RFC 9000 §10.2.2). The engine has no public word for
        its state, but it refuses commands with another exception when it is closed; and it reports the
        end only after the draining period, so that period is skipped.
        """
        try:
            self._quic.stop_stream(_NO_SUCH_STREAM, 0)
        except QuicConnectionError:
            last = self.datagrams(now)
            if (timer := self._quic.get_timer()) is not None:
                self._quic.handle_timer(timer)
            return last
        except (ValueError, AssertionError):
            return None  # alive, or (the assertion) not begun: a server's engine before a readable Initial
        raise LocalProtocolError("the engine stopped a stream that does not exist")

    def peer_is_pinned(self) -> bool:
        """Whether a client's server showed the pinned certificate: checked again, after the engine did."""
        certificate = self._quic.get_peercert()
        return certificate is not None and fingerprint(certificate.public_bytes()) == self._pin

    def open_stream(self, stream_id: int) -> None:
        """Reserve a stream of ours, in the order of identifiers."""
        self._quic.send_stream_data(stream_id, b"")

    def stream_limit(self) -> int:
        """How many bidirectional streams we may have opened so far; 0 before the handshake."""
        return int(self._quic.max_concurrent_bidi_streams)

    def send_stream(self, stream_id: int, data: bytes | bytearray | memoryview, fin: bool) -> None:
        """Queue bytes of a stream; raises one of STREAM_REFUSALS when the stream cannot take them."""
        self._quic.send_stream_data(stream_id, data, fin)

    def reset_stream(self, stream_id: int, code: int) -> None:
        """Give up sending; raises one of STREAM_REFUSALS."""
        self._quic.reset_stream(stream_id, code)

    def stop_stream(self, stream_id: int, code: int) -> None:
        """Ask the peer to give up sending; raises one of STREAM_REFUSALS."""
        self._quic.stop_stream(stream_id, code)

    def backlog(self, stream_id: int | None = None) -> int:
        """Bytes queued and not yet sent for the first time, on one stream or on all."""
        return int(self._quic.get_send_buffer_size(stream_id))

    def send_datagram(self, data: bytes) -> None:
        """Queue an unreliable datagram of at most ``datagram_limit`` bytes."""
        self._quic.send_datagram_frame(data)

    def ping(self, uid: int) -> None:
        """Send something that the peer acknowledges."""
        self._quic.send_ping(uid)

    def close(self, code: int, reason: str) -> None:
        """Close with an application's code (RFC 9000 §10.2)."""
        self._quic.close(code, None, reason)
