"""The internet checksum, whole and incremental.

A one's complement sum of 16-bit words equals the number they spell, modulo 65535, so that one division does
the work of a loop. Only zero has two spellings: 0x0000 and 0xFFFF.
"""

from __future__ import annotations

from typing import Final

MODULUS: Final = 0xFFFF


def checksum(*parts: bytes | bytearray | memoryview) -> int:
    """The checksum over ``parts`` (RFC 1071 §1); all but the last have an even length."""
    total = 0
    for part in parts:
        value = int.from_bytes(part, "big")
        total += value << 8 if len(part) % 2 else value
    if total == 0:
        return MODULUS
    # A sum of words that are not all zero is never 0x0000, so neither is its complement 0xFFFF.
    return (MODULUS - total % MODULUS) % MODULUS


def adjusted(old: int, delta: int) -> int:
    """The checksum ``old`` after the data's sum changed by ``delta``, of any sign and size (RFC 1624 §3)."""
    return (old - delta) % MODULUS
