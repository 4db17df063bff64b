"""One UDP socket under asyncio, as fast as Python lets it be.

``loop.add_reader`` and up to 64 receives a wake-up instead of a transport and a protocol; segmentation
offload (UDP GSO and GRO, Linux) so that one system call moves up to 64 datagrams; the don't-fragment bit
set and the kernel's own path MTU cache not obeyed, because the layers above probe the path themselves
(RFC 8899 §4.5). Errors of the network (ICMP, full buffers, no route) are counted, never raised.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable, Sequence
from functools import cache
from typing import Final, Self

from natwalk.aio.readers import Readers
from natwalk.aio.scratch import scratch
from natwalk.core import Address, Drops

OnDatagrams = Callable[[list[tuple[bytes, Address]]], None]
"""Takes what one wake-up received, as ``(data, remote)`` in the order of arrival."""

OnError = Callable[[str, Address | None], None]
"""Takes the reason (the name of an errno) and whom a failed send was for; None for a failed receive."""

RECEIVES_PER_WAKE_UP: Final = 64
BYTES_PER_WAKE_UP: Final = 1 << 20
SEND_QUEUE_LIMIT: Final = 1024
SEGMENTS_PER_SEND: Final = 64  # the kernel's UDP_MAX_SEGMENTS before Linux 6.9
BYTES_PER_SEND: Final = 65507  # what fits one IPv4 datagram, the limit of one GSO send too
FITS_EVERY_MTU: Final = 1200
ERRORS_BEFORE_A_PAUSE: Final = 16
PAUSE_SECONDS: Final = 0.05

# Numbers of the Linux ABI that Python's socket module does not name.
_SOL_UDP: Final = 17
_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_PROBE: Final = 3
_IPV6_DONTFRAG: Final = 62
_ANCILLARY_SPACE: Final = socket.CMSG_SPACE(4)
_GSO_REFUSED: Final = frozenset({errno.EINVAL, errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP})


class UdpSocket:
    """A bound, unconnected, non-blocking UDP socket of the running event loop.

    ``local`` is where it is bound, with the real port; ``drops`` counts what was not sent or received, by
    errno name. Datagrams that the kernel has no room for wait in a queue of ``SEND_QUEUE_LIMIT``; beyond
    it the newest are dropped. All methods are for the loop's thread only.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        on_datagrams: OnDatagrams,
        on_error: OnError | None = None,
        readers: Readers | None = None,
    ) -> None:
        self.local = Address.from_sockname(sock.getsockname())
        self.drops = Drops()
        self.gso = _has_gso()
        self.gro = _set(sock, _SOL_UDP, _UDP_GRO, 1)
        self._sock = sock
        self._loop = loop
        self._readers = loop if readers is None else readers
        self._on_datagrams = on_datagrams
        self._on_error = on_error
        self._queue: deque[tuple[bytes, Address]] = deque()
        self._scratch = scratch()
        self._errors_in_a_row = 0
        self._closed = False
        self._readers.add_reader(sock.fileno(), self._on_readable)

    @classmethod
    def bind(
        cls,
        address: Address,
        on_datagrams: OnDatagrams,
        *,
        receive_buffer: int = 16 << 20,
        on_error: OnError | None = None,
        readers: Readers | None = None,
        sock: socket.socket | None = None,
    ) -> Self:
        """A socket bound to ``address`` (port 0: any free one), reading from now on.

        A ``sock`` that is bound there already is taken over instead, and closed with this one.

        ``receive_buffer`` is in bytes, for both directions; without privileges the kernel caps it.
        ``readers`` tells when it is readable instead of the event loop. Raises OSError when the address
        cannot be bound and RuntimeError outside a running event loop.
        """
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        given = sock is not None
        if sock is None:
            sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            _set_buffers(sock, receive_buffer)
            cls._set_fragmentation(sock, family)
            if not given:
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(address.sockname)
            return cls(sock, loop, on_datagrams, on_error, readers)
        except BaseException:
            sock.close()
            raise

    @property
    def queued(self) -> int:
        """How many datagrams wait for room in the kernel; a bulk sender pauses while it is not 0."""
        return len(self._queue)

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def send(self, data: bytes, remote: Address) -> bool:
        """Send one datagram; False when it was dropped, with the reason counted in ``drops``."""
        if self._closed:
            self.drops.add("closed")
            return False
        if self._queue:
            return self._enqueue(data, remote)
        try:
            self._sock.sendto(data, remote)
        except (BlockingIOError, InterruptedError):
            return self._enqueue(data, remote)
        except OSError as error:
            return self._send_failed(error, data, remote)
        return True

    def send_many(self, datagrams: Sequence[bytes], remote: Address) -> int:
        """Send ``datagrams`` in order, many in one system call where the kernel can.

        Returns how many were sent or queued; the rest were dropped and counted.
        """
        accepted = 0
        start = 0
        while start < len(datagrams):
            end = self._segment_run(datagrams, start)
            accepted += self._send_run(datagrams[start:end], remote)
            start = end
        return accepted

    def close(self) -> None:
        """Stop reading, try once to send what is queued, and close the socket; harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        if self._queue:
            self._flush_queue()
            for _ in self._queue:
                self.drops.add("closed")
            self._queue.clear()
            self._loop.remove_writer(self._sock.fileno())
        self._readers.remove_reader(self._sock.fileno())
        self._sock.close()

    @staticmethod
    def _set_fragmentation(sock: socket.socket, family: int) -> None:
        """DF on everything, without the kernel's opinion of the path MTU: the layers above probe it."""
        if family == socket.AF_INET6:
            _set(sock, socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
            _set(sock, socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
        else:
            _set(sock, socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)

    # Sending.

    def _segment_run(self, datagrams: Sequence[bytes], start: int) -> int:
        """Where the run that one GSO send may carry ends: equal sizes, of which the last may be shorter."""
        if not self.gso or self._closed:
            return start + 1
        size = len(datagrams[start])
        longest = min(SEGMENTS_PER_SEND, BYTES_PER_SEND // size if size else 1)
        end = start + 1
        for data in itertools.islice(datagrams, end, start + longest):
            if len(data) > size or not data:
                break
            end += 1
            if len(data) < size:
                break
        return end

    def _send_run(self, run: Sequence[bytes], remote: Address) -> int:
        """Send a run in one system call, or one by one when the kernel does not take it whole."""
        refused = False
        if len(run) > 1 and not self._queue:
            control = [(_SOL_UDP, _UDP_SEGMENT, struct.pack("=H", len(run[0])))]
            try:
                self._sock.sendmsg(run, control, 0, remote)
            except OSError as error:
                refused = error.errno in _GSO_REFUSED
            else:
                return len(run)
        accepted = sum(self.send(data, remote) for data in run)
        # EINVAL also means that a segment exceeds the MTU; alone it passes if it may be fragmented.
        if refused and accepted and len(run[0]) <= FITS_EVERY_MTU:
            self.gso = False
        return accepted

    def _send_failed(self, error: OSError, data: bytes, remote: Address) -> bool:
        """Count why a datagram was not sent; whether it was after all."""
        self._failed(error, remote)
        return False

    def _enqueue(self, data: bytes, remote: Address) -> bool:
        if len(self._queue) >= SEND_QUEUE_LIMIT:
            self.drops.add("send queue full")
            return False
        if not self._queue:
            self._loop.add_writer(self._sock.fileno(), self._flush_queue)
        self._queue.append((data, remote))
        return True

    def _flush_queue(self) -> None:
        while self._queue:
            data, remote = self._queue.popleft()
            try:
                self._sock.sendto(data, remote)
            except (BlockingIOError, InterruptedError):
                self._queue.appendleft((data, remote))
                return
            except OSError as error:
                self._send_failed(error, data, remote)
        if not self._closed:
            self._loop.remove_writer(self._sock.fileno())

    # Receiving.

    def _on_readable(self) -> None:
        batch: list[tuple[bytes, Address]] = []
        room = BYTES_PER_WAKE_UP
        receive = self._receive_coalesced if self.gro else self._receive_one
        for _ in range(RECEIVES_PER_WAKE_UP):
            try:
                room -= receive(batch)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._receive_failed(error)
                if not batch:
                    return
                break
            if room <= 0:
                break
        if batch:
            self._errors_in_a_row = 0
            self._on_datagrams(batch)
        else:
            self._received_nothing()

    def _receive_one(self, batch: list[tuple[bytes, Address]]) -> int:
        data, sockname = self._sock.recvfrom(65536)
        batch.append((data, Address.from_sockname(sockname)))
        return len(data)

    def _receive_coalesced(self, batch: list[tuple[bytes, Address]]) -> int:
        length, ancillary, _, sockname = self._sock.recvmsg_into([self._scratch], _ANCILLARY_SPACE)
        remote = Address.from_sockname(sockname)
        size = _segment_size(ancillary)
        if 0 < size < length:
            data = bytes(self._scratch[:length])
            batch.extend((data[at : at + size], remote) for at in range(0, length, size))
        else:
            batch.append((bytes(self._scratch[:length]), remote))
        return length

    def _received_nothing(self) -> None:
        """The socket was readable and there was nothing: for those whose errors are kept apart."""

    def _receive_failed(self, error: OSError) -> None:
        """Count an error that a receive reported; pause when there is nothing but errors (FAULTS 64)."""
        self._errors_in_a_row += 1
        self._failed(error, None)
        if self._errors_in_a_row >= ERRORS_BEFORE_A_PAUSE and not self._closed:
            self._readers.remove_reader(self._sock.fileno())
            self._loop.call_later(PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        if not self._closed:
            self._errors_in_a_row = 0
            self._readers.add_reader(self._sock.fileno(), self._on_readable)

    def _failed(self, error: OSError, remote: Address | None) -> None:
        # gaierror, for an address of the other family, carries an EAI number instead of an errno
        is_errno = not isinstance(error, socket.gaierror)
        reason = errno.errorcode.get(error.errno or 0, "OSError") if is_errno else "EAFNOSUPPORT"
        self.drops.add(reason)
        if self._on_error is not None:
            self._on_error(reason, remote)


def _segment_size(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The size of the datagrams in a coalesced buffer, from UDP_GRO's control message; 0 without one."""
    for level, kind, value in ancillary:
        if level == _SOL_UDP and kind == _UDP_GRO:
            return int.from_bytes(value[:4], sys.byteorder)
    return 0


@cache
def _has_gso() -> bool:
    """Whether this kernel has UDP_SEGMENT."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return _set(probe, _SOL_UDP, _UDP_SEGMENT, 0)


@cache
def _may_force_buffers() -> bool:
    """Whether this process may have buffers beyond the system's limit."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return _set(probe, socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 16)


def _set_buffers(sock: socket.socket, size: int) -> None:
    for forced, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        if not (_may_force_buffers() and _set(sock, socket.SOL_SOCKET, forced, size)):
            sock.setsockopt(socket.SOL_SOCKET, plain, size)


def _set(sock: socket.socket, level: int, option: int, value: int) -> bool:
    """Set an option that not every kernel or user has; whether it was taken."""
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return False
    return True
