"""One TCP connection under asyncio without a transport, a task or a receive buffer of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

from natwalk.aio.byte_stream import StreamSink
from natwalk.aio.scratch import scratch
from natwalk.core import Address

WRITE_TIMEOUT: Final = 10.0
SEND_BUFFER: Final = 512 << 10

_KEEPALIVE_IDLE: Final = 60
_WRITE_AT_ONCE: Final = 256 << 10


class TcpStream:
    """A :class:`~natwalk.aio.byte_stream.ByteStream` over a connected TCP socket, which it owns.

    A connection whose other side takes none of the queued bytes for ``write_timeout`` seconds is lost with
    TimeoutError (FAULTS 63). Without ``reading`` it begins paused. Raises OSError when ``sock`` is not
    connected any more.
    """

    def __init__(
        self,
        sock: socket.socket,
        sink: StreamSink,
        *,
        write_timeout: float = WRITE_TIMEOUT,
        reading: bool = True,
    ) -> None:
        self.sink = sink
        self.local = Address.from_sockname(sock.getsockname())
        self.remote = Address.from_sockname(sock.getpeername())
        self.closing = False
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._scratch = scratch()
        self._write_timeout = write_timeout
        self._out = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._progress = 0.0
        self._reading = False
        self._ended = False  # the other side said that nothing more comes
        self._eof_after_queue = False
        self._lost = False
        _configure(sock)
        if reading:
            self.resume_reading()

    @property
    def buffered(self) -> int:
        """Bytes that wait for room in the kernel."""
        return len(self._out)

    def write(self, data: bytes) -> None:
        """Send or queue ``data``; forgotten when ``closing`` or after ``write_eof``."""
        if self.closing or self._eof_after_queue:
            return
        if self._out:
            self._out += data
            return
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._lose_soon(error)
            return
        if sent < len(data):
            self._out += data[sent:] if sent else data
            self._loop.add_writer(self._sock.fileno(), self._on_writable)
            self._watch_progress()

    def write_eof(self) -> None:
        """Send what is queued, then a FIN; reading goes on."""
        if not self.closing and not self._eof_after_queue:
            self._eof_after_queue = True
            self._finish_writing()

    def pause_reading(self) -> None:
        """Take nothing more from the kernel until ``resume_reading``."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock.fileno())

    def resume_reading(self) -> None:
        """Read again; harmless when not paused."""
        if not (self._reading or self.closing or self._ended):
            self._reading = True
            self._loop.add_reader(self._sock.fileno(), self._on_readable)

    def close(self) -> None:
        """Stop reading, send what is queued, then close; harmless when repeated."""
        if not self.closing:
            self.pause_reading()
            self.closing = True
            if not self._out:
                self._lose_soon(None)

    def abort(self) -> None:
        """Close now, whatever is queued; harmless when repeated."""
        self._lose_soon(None)

    def _on_readable(self) -> None:
        try:
            size = self._sock.recv_into(self._scratch)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose_soon(error)
            return
        if size:
            self.sink.data_received(bytes(self._scratch[:size]))
        else:
            self.pause_reading()
            self._ended = True
            self.sink.eof_received()

    def _on_writable(self) -> None:
        try:
            with memoryview(self._out) as view:
                sent = self._sock.send(view[:_WRITE_AT_ONCE])
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose_soon(error)
            return
        del self._out[:sent]
        self._progress = self._loop.time()
        if not self._out:
            self._loop.remove_writer(self._sock.fileno())
            self._finish_writing()
            if not self._lost:
                self.sink.drained()

    def _finish_writing(self) -> None:
        if self._out:
            return
        if self.closing:
            self._lose_soon(None)
        elif self._eof_after_queue:
            with contextlib.suppress(OSError):  # the other side reset it: the next read says so
                self._sock.shutdown(socket.SHUT_WR)

    def _watch_progress(self) -> None:
        self._progress = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._write_timeout, self._check_progress)

    def _check_progress(self) -> None:
        self._timer = None
        if not self._out:
            return
        due = self._progress + self._write_timeout
        if self._loop.time() >= due:
            self._lose_soon(TimeoutError("the other side does not read"))
        else:
            self._timer = self._loop.call_at(due, self._check_progress)

    def _lose_soon(self, error: Exception | None) -> None:
        """Close the socket; the sink hears of it from the loop, as it may be what called us."""
        if self._lost:
            return
        self.pause_reading()
        self.closing = self._lost = True
        self._out.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._loop.call_soon(self._tell_lost, error)

    def _tell_lost(self, error: Exception | None) -> None:
        self.sink.connection_lost(error)


def _configure(sock: socket.socket) -> None:
    """No waiting for more to send, a bounded queue in the kernel, and dead peers noticed."""
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)
