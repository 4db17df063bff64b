"""One byte stream, whatever carries it: what TCP and TLS look like to the shells above them."""

from __future__ import annotations

from typing import Protocol

from natwalk.core import Address


class StreamSink(Protocol):
    """Takes what happens on a :class:`ByteStream`; called from the loop, never from within a command.

    The exception is a stream over another one: its calls come from within the other's.
    """

    def data_received(self, data: bytes) -> None:
        """Take the next bytes, never none."""

    def eof_received(self) -> None:
        """The other side sends nothing more; it may still read."""

    def drained(self) -> None:
        """What was queued is with the kernel."""

    def connection_lost(self, error: Exception | None) -> None:
        """It is over, for ``error`` or because ``close`` or ``abort`` was called; called once."""


class ByteStream(Protocol):
    """A connected stream of the running event loop; all methods are for the loop's thread only."""

    sink: StreamSink
    """Who takes what arrives; may be replaced at any time."""

    @property
    def local(self) -> Address:
        """Our end."""

    @property
    def remote(self) -> Address:
        """The other end of the TCP connection."""

    @property
    def buffered(self) -> int:
        """Bytes that wait for room in the kernel."""

    @property
    def closing(self) -> bool:
        """Whether nothing more can be written: ``close`` was called or the connection is lost."""

    def write(self, data: bytes) -> None:
        """Send or queue ``data``, without a bound: look at ``buffered``. Forgotten when ``closing``."""

    def write_eof(self) -> None:
        """Send what is queued, then say that nothing more comes; reading goes on."""

    def pause_reading(self) -> None:
        """Take nothing more from the kernel until ``resume_reading``."""

    def resume_reading(self) -> None:
        """Read again; harmless when not paused."""

    def close(self) -> None:
        """Stop reading, send what is queued, then close; harmless when repeated."""

    def abort(self) -> None:
        """Close now, whatever is queued; harmless when repeated."""
