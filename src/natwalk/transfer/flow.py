"""What flows once a transfer runs: the receiver's plan, then the files, piece by piece.

The same values leave the sender's storage, cross the wire and enter the receiver's storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Have:
    """What the receiver already holds of one file: its first ``offset`` bytes, and their hash."""

    offset: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What the receiver wants of an offer, by index into its entries."""

    skip: frozenset[int] = frozenset()
    """Files not wanted."""
    have: Mapping[int, Have] = field(default_factory=dict)
    """Where to go on instead of starting at zero."""


@dataclass(frozen=True, slots=True)
class FileBegun:
    """The bytes of entry ``index`` follow, from ``offset`` on (0, or what the plan said it holds)."""

    index: int
    offset: int


@dataclass(frozen=True, slots=True)
class FileData:
    """The next bytes of the file begun last."""

    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class FileDone:
    """The file begun last is complete; ``sha256`` (hexadecimal) is of the whole file."""

    sha256: str


@dataclass(frozen=True, slots=True)
class FileOmitted:
    """Entry ``index``, or the rest of it, will not come, and why."""

    index: int
    reason: str


FlowItem = FileBegun | FileData | FileDone | FileOmitted
