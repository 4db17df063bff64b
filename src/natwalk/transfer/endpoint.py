"""What both ends of a transfer have in common: bytes in, bytes out, events, and how to fail."""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, TypeVar

from natwalk.core import MalformedMessage
from natwalk.transfer import wire
from natwalk.transfer.errors import FailureKind
from natwalk.transfer.events import Failed
from natwalk.transfer.names import shown

E = TypeVar("E")

MAX_QUEUED: Final = 4096
"""Pieces waiting for the driver; commands raise above it, input that would cause more fails the transfer."""
MAX_MESSAGE: Final = 1000
"""Characters of a failure message that are sent or shown."""


class Endpoint(Generic[E]):
    """One end of the stream. After each input or command drain ``poll_data`` and ``poll_event``."""

    def __init__(self, software: str) -> None:
        self._frames = wire.FrameReader()
        self._out: deque[bytes | memoryview] = deque()
        self._events: deque[E | Failed] = deque()
        self._greeted = False
        self._over = False
        self._send(wire.Hello(software=software[:100]))

    @property
    def over(self) -> bool:
        """True once the transfer has completed or failed; input is ignored from then on."""
        return self._over

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes of the peer's side of the stream; never raises on them."""
        try:
            for piece in self._frames.feed(data):
                if self._over:
                    return
                self._dispatch(piece)
        except MalformedMessage as error:
            self.fail(FailureKind.PROTOCOL, str(error))

    def poll_data(self) -> bytes | memoryview | None:
        """The next bytes to write to the stream, or None."""
        return self._out.popleft() if self._out else None

    def poll_event(self) -> E | Failed | None:
        """The next event, or None."""
        return self._events.popleft() if self._events else None

    def fail(self, kind: FailureKind, message: str) -> None:
        """Stop, and tell the peer why; harmless once the transfer is over."""
        if self._over:
            return
        message = message[:MAX_MESSAGE].encode(errors="backslashreplace").decode()
        self._send(wire.Fail(kind=kind.value, message=message))
        self._end(Failed(kind, message, by_peer=False))

    def _dispatch(self, piece: wire.Message | memoryview) -> None:
        match piece:
            case memoryview():
                self._on_data(piece)
            case wire.Hello():
                self._on_hello(piece)
            case _ if not self._greeted:
                raise MalformedMessage("the peer did not say hello")
            case wire.Fail():
                kind = wire.failure_kind(piece.kind)
                self._end(Failed(kind, shown(piece.message, MAX_MESSAGE), by_peer=True))
            case _:
                self._on_message(piece)

    def _on_hello(self, hello: wire.Hello) -> None:
        if self._greeted:
            raise MalformedMessage("the peer said hello twice")
        self._greeted = True
        if hello.version != wire.VERSION:
            ours = f"this side speaks version {wire.VERSION} of the transfer protocol"
            self.fail(FailureKind.VERSION, f"{ours}, the other side version {hello.version}")

    def _on_message(self, message: wire.Message) -> None:
        raise NotImplementedError

    def _on_data(self, data: memoryview) -> None:
        raise MalformedMessage("file data where none belongs")

    def _send(self, message: wire.Message) -> None:
        self._out.append(wire.encode(message))

    def _emit(self, event: E) -> None:
        self._events.append(event)

    def _end(self, event: E | Failed) -> None:
        self._over = True
        self._events.append(event)
