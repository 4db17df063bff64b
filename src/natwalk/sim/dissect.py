"""A few words on what a payload is, for people who read traces; decides nothing."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from natwalk.nat import Packet

_MAGIC_COOKIE: Final = b"\x21\x12\xa4\x42"  # RFC 8489 §5
_METHODS: Final = {
    0x001: "Binding",
    0x003: "Allocate",
    0x004: "Refresh",
    0x006: "Send",
    0x007: "Data",
    0x008: "CreatePermission",
    0x009: "ChannelBind",
    0x00A: "Connect",
    0x00B: "ConnectionBind",
    0x00C: "ConnectionAttempt",
}
_CLASSES: Final = ("request", "indication", "success", "error")
_ERROR_CODE: Final = 0x0009  # RFC 8489 §14.8
_USE_CANDIDATE: Final = 0x0025  # RFC 8445 §16.1


_RELAYS: Final = frozenset({3478, 3479})
"""Ports that simulated relays listen at."""


def of_packet(packet: Packet) -> str:
    """What the payload of ``packet`` looks like.

    ChannelData is looked for at a relay's port only: encrypted bytes look like it once in some ten thousand
    packets, and the text of a trace is to be the same whatever the keys were.
    """
    return summary(
        packet.payload, relayed=not _RELAYS.isdisjoint((packet.source.port, packet.destination.port))
    )


@lru_cache(maxsize=1024)
def summary(payload: bytes, *, relayed: bool = True) -> str:
    """What ``payload`` looks like: STUN with method and class, ChannelData, QUIC by header form, or data.

    ChannelData only if it may be ``relayed``.
    """
    if len(payload) >= 20 and payload[0] < 0x40 and payload[4:8] == _MAGIC_COOKIE:
        return _stun(payload)
    if relayed and len(payload) >= 4 and 0x40 <= payload[0] <= 0x4F and _fits_channel_data(payload):
        inner = payload[4 : 4 + int.from_bytes(payload[2:4], "big")]
        return f"ChannelData {payload[:2].hex()} ({summary(inner, relayed=False)})"
    if len(payload) >= 21 and payload[0] >= 0xC0 and payload[1:5] in (b"\0\0\0\1", b"\x6b\x33\x43\xcf"):
        return "QUIC long header"
    return "data" if payload else "empty"


def _fits_channel_data(payload: bytes) -> bool:
    # Over UDP padding is optional (RFC 8656 §12.5).
    return 0 <= len(payload) - 4 - int.from_bytes(payload[2:4], "big") <= 3


def _stun(payload: bytes) -> str:
    kind = int.from_bytes(payload[:2], "big")
    method = kind & 0x0F | (kind & 0xE0) >> 1 | (kind & 0x3E00) >> 2
    message_class = (kind & 0x10) >> 4 | (kind & 0x100) >> 7
    words = ["STUN", _METHODS.get(method, f"method {method:#05x}"), _CLASSES[message_class]]
    attributes = _attributes(payload)
    if len(code := attributes.get(_ERROR_CODE, b"")) >= 4:
        words.append(str((code[2] & 7) * 100 + code[3]))
    if _USE_CANDIDATE in attributes:
        words.append("USE-CANDIDATE")
    return f"{' '.join(words)} {payload[8:12].hex()}"


def _attributes(payload: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 20
    while at + 4 <= len(payload):
        number = int.from_bytes(payload[at : at + 2], "big")
        length = int.from_bytes(payload[at + 2 : at + 4], "big")
        found.setdefault(number, payload[at + 4 : at + 4 + length])
        at += 4 + length + -length % 4
    return found
