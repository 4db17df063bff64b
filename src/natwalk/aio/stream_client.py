"""One connection to the TURN server over TCP or TLS, from the first byte to the last."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from natwalk.aio.byte_stream import ByteStream
from natwalk.aio.client_watch import ClientWatch
from natwalk.aio.stream_transport import hand_over
from natwalk.aio.tcp import TcpStream
from natwalk.aio.tls import ALPN_STUN, ALPN_TURN, TlsStream
from natwalk.core import Address, MalformedMessage, Path
from natwalk.turn.framing import StreamFramer, carries_data
from natwalk.turn.proxy_protocol import ProxyParser

if TYPE_CHECKING:
    from natwalk.aio.streams import StreamListener, StreamServer

_LAST_STUN_BYTE = 0x03  # methods end at 0xFFF; 0x40 to 0x4F, ChannelData, are letters of HTTP too


class ClientHooks(Protocol):
    """What connections need of the TURN server they belong to."""

    @property
    def channel_max(self) -> int:
        """The highest channel number that is taken."""

    def message_received(self, message: bytes, path: Path) -> None:
        """Take one message; the answer may come from within."""

    def client_closed(self, path: Path) -> None:
        """A connection that messages came on is over."""

    def has_allocation(self, path: Path) -> bool:
        """Whether the client on ``path`` has an allocation, so that its connection may be idle."""


class StreamClient:
    """A sink that takes a connection through its stages: PROXY header, TLS, demultiplexing, messages.

    It closes the connection when its first message is late, when there is neither a message nor an
    allocation for long, on bytes that are no message, and when the client does not read.
    """

    def __init__(
        self,
        sock: socket.socket,
        listener: StreamListener,
        server: StreamServer,
        hooks: ClientHooks,
    ) -> None:
        self._listener = listener
        self._server = server
        self._hooks = hooks
        self._limits = server.limits
        self._tcp = TcpStream(sock, self, write_timeout=self._limits.write_timeout)
        self._stream: ByteStream = self._tcp
        self._take: Callable[[bytes], None] = self._take_first
        self._framer = StreamFramer(channel_max=hooks.channel_max)
        self._proxy: ProxyParser | None = None
        self._path: Path | None = None
        self._served = False
        self._detached = False
        self._watch = ClientWatch(self._limits, close=self._hang_up, may_be_idle=self._has_allocation)

    def start(self) -> None:
        """Begin with whatever the listener expects."""
        if self._listener.expects_header(self._tcp.remote):
            self._proxy = ProxyParser()
            self._take = self._take_header
        else:
            self._begin(self._tcp.remote)

    def send(self, messages: Sequence[bytes]) -> None:
        """Send framed messages; peers' datagrams beyond the limit are dropped, as a network would."""
        stream, limits = self._stream, self._limits
        if self._detached:
            self._server.drops.add("the client's connection carries something else now")
            return
        if stream.buffered >= limits.write_buffer:
            kept = [message for message in messages if not carries_data(message)]
            for _ in range(len(messages) - len(kept)):
                self._server.drops.add("the client reads too slowly")
            messages = kept
        if stream.buffered > limits.write_buffer_most:
            self._server.drops.add("the client does not read its responses")
            stream.abort()
        elif messages:
            stream.write(messages[0] if len(messages) == 1 else b"".join(messages))

    def detach(self) -> tuple[ByteStream, bytes]:
        """Give the connection away with the bytes not taken yet; messages and deadlines end here.

        It still counts as a connection: whoever takes it calls :meth:`finish` when it is lost.
        """
        self._watch.cancel()
        self._detached = True
        return self._stream, self._framer.rest()

    def finish(self) -> None:
        """A connection that was given away is over."""
        path, self._path = self._path, None
        self._server.forget(self, path)

    def close(self) -> None:
        """Close when everything queued is sent."""
        self._stream.close()

    # What the stream says.

    def data_received(self, data: bytes) -> None:
        """Bytes of the stage the connection is in."""
        self._take(data)

    def eof_received(self) -> None:
        """Nobody is left who would ask anything."""
        self._stream.close()

    def drained(self) -> None:
        """Nothing waits for that."""

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the connection and tell the server, when it knew it."""
        self._watch.cancel()
        if error is not None:
            reason = getattr(error, "reason", None) or type(error).__name__  # TLS errors have reasons
            self._server.drops.add(f"a client's connection: {reason}")
        path = self._path
        self.finish()
        if path is not None and self._served:
            self._hooks.client_closed(path)

    # The stages.

    def _take_header(self, data: bytes) -> None:
        assert self._proxy is not None
        try:
            header = self._proxy.feed(data)
        except MalformedMessage:
            self._refuse("a trusted proxy sends no PROXY protocol header")
            return
        if header is None:
            return
        rest = self._proxy.rest()
        self._proxy = None
        if self._begin(header.source or self._tcp.remote) and rest:
            self._tcp.sink.data_received(rest)

    def _begin(self, remote: Address) -> bool:
        """The client's address is known: count it, and start TLS where there is to be TLS."""
        path = Path(self._listener.local, remote, self._listener.transport)
        if not self._server.admit(self, path):
            self._tcp.abort()
            return False
        self._path = path
        other = self._listener.on_other is not None
        self._take = self._take_first if other else self._take_messages
        if self._listener.tls is not None:
            self._stream = TlsStream(self._tcp, self._listener.tls.context(http=other), self)
        return True

    def _take_first(self, data: bytes) -> None:
        """Find out whose the first bytes are on a port that TURN shares with another protocol."""
        on_other = self._listener.on_other
        alpn = self._stream.alpn if isinstance(self._stream, TlsStream) else None
        turn = data[0] <= _LAST_STUN_BYTE if alpn is None else alpn in {ALPN_TURN, ALPN_STUN}
        if turn or on_other is None or self._path is None:
            self._take = self._take_messages
            self._take_messages(data)
        else:
            stream, _ = self.detach()
            hand_over(stream, on_other(), data, remote=self._path.remote, on_lost=self.finish)

    def _take_messages(self, data: bytes) -> None:
        try:
            for message in self._framer.feed(data):
                path = self._path
                if path is None or self._detached or self._stream.closing:
                    return  # closed or given away by the message before
                self._served = True
                self._watch.message_received()
                self._hooks.message_received(message, path)
        except MalformedMessage:
            self._refuse("a stream of something else")

    def _refuse(self, reason: str) -> None:
        self._server.drops.add(reason)
        self._stream.abort()

    def _hang_up(self, reason: str) -> None:
        self._server.drops.add(reason)
        self._stream.close()

    def _has_allocation(self) -> bool:
        return self._path is not None and self._hooks.has_allocation(self._path)
