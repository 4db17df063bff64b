"""An asyncio transport over a byte stream, so that protocols written for asyncio run on our TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from natwalk.aio.byte_stream import ByteStream
from natwalk.aio.tls import TlsStream
from natwalk.core import Address

HIGH_WATER: Final = 64 << 10


def hand_over(
    stream: ByteStream,
    protocol: asyncio.Protocol,
    data: bytes,
    *,
    remote: Address,
    on_lost: Callable[[], None],
) -> StreamTransport:
    """Make ``protocol`` the owner of ``stream``, of which ``data`` came already; returns its transport.

    ``remote`` is who is on the other side, which behind a proxy is not the stream's own remote address.
    ``on_lost`` is called when the stream is over, before the protocol hears of it.
    """
    transport = StreamTransport(stream, protocol, remote, on_lost)
    stream.sink = transport
    protocol.connection_made(transport)
    if data and not transport.is_closing():
        transport.data_received(data)
    return transport


class StreamTransport(asyncio.Transport):
    """What an ``asyncio.Protocol`` sees of a :class:`ByteStream`; the sink of that stream.

    ``get_extra_info`` knows ``peername``, ``sockname`` and, over TLS, ``ssl_object``, ``sslcontext``,
    ``cipher`` and ``peercert``. Flow control of writing is asyncio's: ``pause_writing`` above the high
    water mark; ``resume_writing`` when everything is with the kernel.
    """

    def __init__(
        self,
        stream: ByteStream,
        protocol: asyncio.Protocol,
        remote: Address,
        on_lost: Callable[[], None],
    ) -> None:
        super().__init__(_extra(stream, remote))
        self._stream = stream
        self._protocol: asyncio.BaseProtocol = protocol
        self._on_lost = on_lost
        self._high = HIGH_WATER
        self._paused = False
        self._reading = True

    # asyncio.Transport

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give what comes from now on to ``protocol``."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who gets what comes."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether nothing more can be written."""
        return self._stream.closing

    def is_reading(self) -> bool:
        """Whether reading is neither paused nor over."""
        return self._reading and not self._stream.closing

    def pause_reading(self) -> None:
        """Give nothing more to the protocol until ``resume_reading``, but what is decrypted already."""
        self._reading = False
        self._stream.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._reading = True
        self._stream.resume_reading()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send or queue ``data``."""
        if data:
            self._stream.write(bytes(data))
            self._maybe_pause()

    def write_eof(self) -> None:
        """Send what is queued, then end our direction."""
        self._stream.write_eof()

    def can_write_eof(self) -> bool:
        """Always: TLS has close_notify for it."""
        return True

    def get_write_buffer_size(self) -> int:
        """Bytes that wait for room in the kernel."""
        return self._stream.buffered

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The marks, low and high, in bytes; the low one is always 0."""
        return 0, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the high water mark in bytes; writing resumes when the queue is empty, whatever ``low`` is."""
        self._high = HIGH_WATER if high is None else high
        self._maybe_pause()

    def close(self) -> None:
        """Send what is queued, then close."""
        self._stream.close()

    def abort(self) -> None:
        """Close now."""
        self._stream.abort()

    # StreamSink

    def data_received(self, data: bytes) -> None:
        """Hand on to the protocol, of either of asyncio's two kinds."""
        protocol = self._protocol
        if isinstance(protocol, asyncio.BufferedProtocol):
            _feed_buffered(protocol, data)
        else:
            assert isinstance(protocol, asyncio.Protocol)
            protocol.data_received(data)

    def eof_received(self) -> None:
        """Close unless the protocol wants to keep its direction open."""
        protocol = self._protocol
        assert isinstance(protocol, asyncio.Protocol | asyncio.BufferedProtocol)
        if not protocol.eof_received():
            self._stream.close()

    def drained(self) -> None:
        """Let a paused protocol write again."""
        if self._paused:
            self._paused = False
            self._protocol.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the protocol."""
        self._on_lost()
        self._protocol.connection_lost(error)

    def _maybe_pause(self) -> None:
        if not self._paused and self._stream.buffered > self._high:
            self._paused = True
            self._protocol.pause_writing()


def _extra(stream: ByteStream, remote: Address) -> dict[str, Any]:
    extra: dict[str, Any] = {"peername": remote.sockname, "sockname": stream.local.sockname}
    if isinstance(stream, TlsStream):
        tls = stream.ssl_object
        extra |= {"ssl_object": tls, "sslcontext": tls.context, "cipher": tls.cipher(), "peercert": None}
    return extra


def _feed_buffered(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
    view = memoryview(data)
    while view:
        buffer = memoryview(protocol.get_buffer(len(view)))
        size = min(len(view), len(buffer))
        buffer[:size] = view[:size]
        protocol.buffer_updated(size)
        view = view[size:]
