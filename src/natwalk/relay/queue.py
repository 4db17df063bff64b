"""What one connection is to be sent: bounded, because the other side may not read."""

from __future__ import annotations

from collections import deque
from typing import Final

from natwalk.relay.frames import FrameType

QUEUE_BYTES: Final = 256 << 10
"""Bytes of packets that wait for one connection; not less than a shell reads at once."""
QUEUE_PACKETS: Final = 2048
_NOTICES: Final = 8
_AT_ONCE: Final = 64 << 10


class SendQueue:
    """Packets, the oldest dropped first when there are too many, and control frames, the latest of a type.

    While ``paused`` nothing is taken.
    """

    __slots__ = ("_bytes", "_control", "_notices", "_packets", "paused")

    def __init__(self) -> None:
        # made when needed: most connections of a server are idle
        self._packets: deque[bytes] | None = None
        self._notices: deque[bytes] | None = None
        self._control: dict[FrameType, bytes] | None = None
        self._bytes = 0
        self.paused = False

    def put_packet(self, data: bytes) -> int:
        """Queue a frame that carries a packet; returns how many older ones were dropped for it."""
        packets = self._packets
        if packets is None:
            packets = self._packets = deque()
        packets.append(data)
        self._bytes += len(data)
        dropped = 0
        while self._bytes > QUEUE_BYTES or len(packets) > QUEUE_PACKETS:
            self._bytes -= len(packets.popleft())
            dropped += 1
        return dropped

    def put_control(self, kind: FrameType, data: bytes) -> None:
        """Queue a frame, in place of one of its type that still waits: one PONG, however many PINGs came."""
        if self._control is None:
            self._control = {}
        self._control[kind] = data

    def put_notice(self, data: bytes) -> None:
        """Queue a notice; the oldest goes when too many wait."""
        if self._notices is None:
            self._notices = deque(maxlen=_NOTICES)
        self._notices.append(data)

    def take(self) -> bytes | None:
        """Some of what waits, whole frames, about 64 KiB; None when there is nothing or it is paused."""
        if self.paused:
            return None
        taken: list[bytes] = []
        if self._control:
            taken += self._control.values()
            self._control = None
        if self._notices:
            taken += self._notices
            self._notices = None
        packets, size = self._packets, 0
        while packets and size < _AT_ONCE:
            taken.append(packets.popleft())
            size += len(taken[-1])
        self._bytes -= size
        if not packets:
            self._packets = None
        if not taken:
            return None
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def clear(self) -> None:
        """Forget everything that waits."""
        self._packets = self._notices = self._control = None
        self._bytes = 0

    @property
    def queued(self) -> int:
        """Bytes of packets that wait."""
        return self._bytes

    def __bool__(self) -> bool:
        """Whether anything waits, paused or not."""
        return bool(self._packets or self._control or self._notices)
