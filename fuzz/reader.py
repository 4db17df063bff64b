"""Bytes read as decisions: what a fuzzer changes is what a script does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Reader:
    """Reads numbers, bytes and choices from the front of ``data``; zeros once it is used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return max(0, len(self._data) - self._at)

    def bytes(self, size: int) -> bytes:
        """At most ``size`` bytes."""
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def number(self, size: int = 1) -> int:
        """A number of ``size`` bytes."""
        return int.from_bytes(self.bytes(size).ljust(size, b"\0"), "big")

    def blob(self) -> bytes:
        """Up to 255 bytes, as the next byte says."""
        return self.bytes(self.number())

    def choice(self, options: Sequence[T]) -> T:
        """One of ``options``."""
        return options[self.number() % len(options)]
