"""The fast path of ``decode``: messages laid out like one seen before are read in one stroke.

A program's STUN traffic has few layouts (which attributes, in which order, of which lengths): a check, its
response, a refresh. A :class:`Layout` is one of them as a single :class:`struct.Struct`. Reading with it
gives what the attribute-by-attribute reader gives, values checked alike; whatever it does not fit goes there.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from struct import Struct
from typing import Any, Final, NamedTuple
from zlib import crc32

from natwalk.core import MalformedMessage
from natwalk.stun.attributes import ATTRIBUTES, FINGERPRINT, AttributeSpec, unknown
from natwalk.stun.codecs import Mac, Opaque, UInt
from natwalk.stun.message import TYPES, Draft, Message, Method

FINGERPRINT_XOR: Final = 0x5354554E
MAX_SIZE: Final = 256
"""Longer messages carry data or padding of many lengths and are not worth remembering."""
MAX_PER_SIZE: Final = 4
"""With sizes in steps of four, at most 240 layouts are remembered in all."""

REPLACE_EVERY: Final = 16
"""Learning costs more than reading, so where a layout must make room only one miss in so many is learned
from: traffic without pattern stays cheap, and a pattern is still found soon."""

_TLV: Final = Struct("!HH")
_NUMBERS: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}

Reader = Callable[[bytes, bytes], Any]


class Layout(NamedTuple):
    """One layout: how to take a message apart, and what the parts must be for the layout to fit."""

    unpack: Callable[[bytes], tuple[Any, ...]]
    """Message type, then alternately a part of the signature and a value; the first value is the ID."""
    signature: tuple[Any, ...]
    """Length and cookie, then each attribute's type and length as one number."""
    specs: tuple[AttributeSpec[Any], ...]
    readers: tuple[tuple[int, Reader], ...]
    """Index and codec of the attributes that unpacking alone does not read."""
    integrity_offsets: tuple[int, int]
    fingerprint: bool


def recall(raw: bytes) -> Message | None:
    """The message ``raw`` is, if it is laid out like one seen before; None to have it read the long way.

    None also when a value or the fingerprint is wrong, which the long way puts in words, and when no RFC
    here names the method.
    """
    for unpack, signature, specs, readers, offsets, fingerprint in _known.get(len(raw), ()):
        fields = unpack(raw)
        if fields[1::2] != signature:
            continue
        if fingerprint and crc32(raw[:-8]) ^ FINGERPRINT_XOR != fields[-1]:
            return None
        values = list(fields[4::2])
        if readers:
            try:
                for index, read in readers:
                    values[index] = read(values[index], fields[2])
            except MalformedMessage:
                return None
        kind = TYPES.get(fields[0])
        if kind is None:
            return None
        draft = Draft()
        draft.method, draft.message_class = kind
        draft.transaction_id = fields[2]
        draft.attributes = tuple(zip(specs, values))  # noqa: B905 - the signature says they match
        draft.raw = raw
        draft.integrity_offsets = offsets
        draft._first = None
        draft.__class__ = Message  # type: ignore[assignment]
        return draft  # type: ignore[return-value]
    return None


def remember(message: Message) -> None:
    """Learn the layout of ``message``, as decoded, if it is short, of a named method and all of it counts."""
    size = len(message.raw)
    if size > MAX_SIZE or not isinstance(message.method, Method):
        return
    if len(_known.get(size, ())) >= MAX_PER_SIZE and next(_misses) % REPLACE_EVERY:
        return
    parts = _parts(message.raw)
    if len(parts) == len(message.attributes):
        newest = _compile(message.raw, parts, message.integrity_offsets)
        _known[size] = (newest, *_known.get(size, ())[: MAX_PER_SIZE - 1])


_known: dict[int, tuple[Layout, ...]] = {}
_misses = count(1)


def _parts(raw: bytes) -> list[tuple[int, int]]:
    """Type and length of every attribute of the well-formed ``raw``."""
    parts, at = [], 20
    while at < len(raw):
        kind, length = _TLV.unpack_from(raw, at)
        parts.append((kind, length))
        at += 4 + length + (-length & 3)
    return parts


def _compile(raw: bytes, parts: list[tuple[int, int]], integrity_offsets: tuple[int, int]) -> Layout:
    specs = tuple(ATTRIBUTES.get(kind) or unknown(kind) for kind, _ in parts)
    code = ["!H6s12s"]
    readers: list[tuple[int, Reader]] = []
    for index, (spec, (_, length)) in enumerate(zip(specs, parts, strict=True)):
        codec = spec.codec
        if isinstance(codec, UInt) and not codec.reserved:
            code.append("I" + _NUMBERS[length])
        else:
            code.append(f"I{length}s")
            # the length of these two was checked in the message this layout was learned from
            if not isinstance(codec, Mac | Opaque):
                readers.append((index, codec.decode))
        code.append(f"{-length & 3}x")
    signature = (raw[2:8], *(kind << 16 | length for kind, length in parts))
    return Layout(
        Struct("".join(code)).unpack,
        signature,
        specs,
        tuple(readers),
        integrity_offsets,
        FINGERPRINT in specs,
    )
