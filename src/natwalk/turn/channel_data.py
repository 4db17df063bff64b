"""The ChannelData message: four bytes in front of the application's (RFC 8656 §12.4)."""

from __future__ import annotations

import struct
from typing import Final

from natwalk.core import MalformedMessage

CHANNEL_MIN: Final = 0x4000
CHANNEL_MAX: Final = 0x4FFF
CHANNEL_MAX_RFC5766: Final = 0x7FFF  # RFC 5766 §11, before RFC 7983 needed the space
HEADER_LENGTH: Final = 4

_HEADER: Final = struct.Struct("!HH")
_FIRST_BYTES: Final = range(0x40, 0x50)

pack_header = _HEADER.pack
"""``pack_header(channel, length)``: the four header bytes, for a sender that joins them itself."""


def is_channel_data(datagram: bytes) -> bool:
    """True when the first byte says ChannelData (RFC 8656 §12: 64 to 79), whatever the rest says."""
    return bool(datagram) and datagram[0] in _FIRST_BYTES


def encode_channel_data(channel: int, data: bytes) -> bytes:
    """The message carrying ``data`` on ``channel``, unpadded as UDP allows (RFC 8656 §12.5).

    Raises :class:`ValueError` when the channel is not 0x4000..0x4FFF or the data exceed 65535 bytes.
    """
    if not CHANNEL_MIN <= channel <= CHANNEL_MAX:
        raise ValueError(f"channel {channel:#x} is not between {CHANNEL_MIN:#x} and {CHANNEL_MAX:#x}")
    if len(data) > 0xFFFF:
        raise ValueError(f"{len(data)} bytes do not fit a ChannelData message")
    return _HEADER.pack(channel, len(data)) + data


def decode_channel_data(datagram: bytes) -> tuple[int, bytes]:
    """The channel number and the data of a UDP datagram; bytes beyond the stated length are padding.

    Raises :class:`MalformedMessage` when the header is cut off, the number is no channel, or the stated
    length is more than there is (RFC 8656 §12.6).
    """
    if len(datagram) < HEADER_LENGTH:
        raise MalformedMessage(f"ChannelData of {len(datagram)} bytes has no header")
    channel, length = _HEADER.unpack_from(datagram)
    if not CHANNEL_MIN <= channel <= CHANNEL_MAX:
        raise MalformedMessage(f"channel {channel:#x} is out of range")
    end = HEADER_LENGTH + length
    if end > len(datagram):
        raise MalformedMessage(
            f"ChannelData states {length} bytes and carries {len(datagram) - HEADER_LENGTH}"
        )
    return channel, datagram[HEADER_LENGTH:end]
