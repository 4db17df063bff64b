"""Frames of a transfer on its one byte stream, and the control messages inside them.

A frame is a type (one byte), a length (four bytes, big endian) and that many bytes: either one control
message as JSON, or bytes of the file begun last. Lengths are checked before anything is allocated; data is
handed on as it arrives, without waiting for its frame to end. Unknown fields of a message are ignored, so a
later version may add some; an unknown message is an error.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Annotated, Final

import msgspec

from natwalk.core import MalformedMessage
from natwalk.transfer.errors import FailureKind
from natwalk.transfer.names import shown
from natwalk.transfer.offer import MAX_ENTRIES, MAX_SIZE, Entry

VERSION: Final = 1
MAX_CONTROL: Final = 1 << 20
MAX_DATA: Final = 1 << 20
MAX_MANIFEST: Final = 64 << 20
"""Bytes of control messages one side accepts before files flow: a hundred thousand long names fit."""
HEADER: Final = struct.Struct(">BI")


class FrameType(IntEnum):
    """What a frame carries."""

    CONTROL = 1
    DATA = 2


Index = Annotated[int, msgspec.Meta(ge=0, lt=MAX_ENTRIES)]
Offset = Annotated[int, msgspec.Meta(ge=0, le=MAX_SIZE)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Text = Annotated[str, msgspec.Meta(max_length=2000)]


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """First message of each side."""

    version: Annotated[int, msgspec.Meta(ge=0, le=1 << 31)] = VERSION
    software: Annotated[str, msgspec.Meta(max_length=100)] = ""


class OfferHead(msgspec.Struct, frozen=True, tag="offer"):
    """The sender offers ``count`` entries, in the messages that follow."""

    transfer_id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_ENTRIES)]


class OfferEntries(msgspec.Struct, frozen=True, tag="entries"):
    """Some of the offered entries."""

    entries: tuple[Entry, ...]


class PlanPart(msgspec.Struct, frozen=True, tag="plan"):
    """The receiver accepts; what it already holds (index, offset, hash of that prefix), what it skips."""

    have: tuple[tuple[Index, Offset, Sha256], ...] = ()
    skip: tuple[Index, ...] = ()
    last: bool = True


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """Data of this entry follows, from ``offset`` on."""

    index: Index
    offset: Offset = 0


class End(msgspec.Struct, frozen=True, tag="end"):
    """The file begun last is complete, and its hash."""

    sha256: Sha256


class Omit(msgspec.Struct, frozen=True, tag="omit"):
    """An entry will not come, or not all of it."""

    index: Index
    reason: Text


class Written(msgspec.Struct, frozen=True, tag="written"):
    """The receiver's disk has taken ``size`` bytes of data over this connection."""

    size: Offset


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """Everything was sent; the hash over all of it."""

    sha256: Sha256


class Stored(msgspec.Struct, frozen=True, tag="stored"):
    """Everything is verified and in its place at the receiver."""

    sha256: Sha256


class Fail(msgspec.Struct, frozen=True, tag="fail"):
    """Whoever sends this stops, and says why."""

    kind: str
    message: Text


Message = Hello | OfferHead | OfferEntries | PlanPart | Begin | End | Omit | Written | Sent | Stored | Fail

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def encode(message: Message) -> bytes:
    """One control frame. Raises ValueError when the message is larger than a frame may be."""
    body = _encoder.encode(message)
    if len(body) > MAX_CONTROL:
        raise ValueError(f"a control message of {len(body)} bytes; {MAX_CONTROL} is the most")
    return HEADER.pack(FrameType.CONTROL, len(body)) + body


def data_header(size: int) -> bytes:
    """What precedes ``size`` bytes of file data. Raises ValueError unless 1 <= size <= MAX_DATA."""
    if not 1 <= size <= MAX_DATA:
        raise ValueError(f"a data frame of {size} bytes; 1 to {MAX_DATA} is allowed")
    return HEADER.pack(FrameType.DATA, size)


def decode(body: bytes) -> Message:
    """The control message in ``body``; raises :class:`MalformedMessage` on anything else."""
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"a control message cannot be read: {shown(str(error))}") from error


def failure_kind(text: str) -> FailureKind:
    """The kind of failure ``text`` names; one a later version added counts as ``cancelled``."""
    try:
        return FailureKind(text)
    except ValueError:
        return FailureKind.CANCELLED


class FrameReader:
    """Cuts a byte stream into control messages and pieces of file data."""

    __slots__ = ("_body", "_header", "_left", "_type", "control_bytes")

    def __init__(self) -> None:
        self._header = b""
        self._type = FrameType.CONTROL
        self._left = 0
        self._body = bytearray()
        self.control_bytes = 0
        """Bytes of all control messages so far, for whoever bounds a manifest."""

    def feed(self, data: bytes) -> Iterator[Message | memoryview]:
        """Yield what ``data`` completes; raise :class:`MalformedMessage` where the stream is none of ours.

        Exhaust the iterator before feeding again. Pieces of data are views of ``data``.
        """
        view = memoryview(data)
        at = 0
        while at < len(view):
            if not self._left:
                at = self._take_header(view, at)
                continue
            piece = view[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            if self._type is FrameType.DATA:
                yield piece
                continue
            self._body += piece
            if not self._left:
                body, self._body = bytes(self._body), bytearray()
                yield decode(body)

    @property
    def inside_frame(self) -> bool:
        """True when the stream stopped in the middle of a frame."""
        return bool(self._left or self._header)

    def _take_header(self, view: memoryview, at: int) -> int:
        """Collect header bytes from ``view[at:]``; return the index behind them."""
        needed = HEADER.size - len(self._header)
        self._header += view[at : at + needed]
        if len(self._header) == HEADER.size:
            kind, length = HEADER.unpack(self._header)
            self._header = b""
            self._start(kind, length)
        return min(at + needed, len(view))

    def _start(self, kind: int, length: int) -> None:
        if kind not in (FrameType.CONTROL, FrameType.DATA):
            raise MalformedMessage(f"a frame of unknown type {kind}")
        self._type = FrameType(kind)
        limit = MAX_DATA if self._type is FrameType.DATA else MAX_CONTROL
        if not 1 <= length <= limit:
            raise MalformedMessage(
                f"a {self._type.name.lower()} frame of {length} bytes; 1 to {limit} is allowed"
            )
        self._left = length
        if self._type is FrameType.CONTROL:
            self.control_bytes += length
