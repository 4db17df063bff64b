"""Nameplates: small numbers that lead two sides to one mailbox, short-lived and given out sparingly.

A nameplate is free, waiting (its allocator is in the mailbox, nobody has claimed it) or resting: two
sides have come, or it expired. A resting one answers why it leads nowhere and is not given out again for
a while, so that a latecomer with an old code does not stumble into strangers' mailbox and burn it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from natwalk.core import RandomBytes
from natwalk.rendezvous.codes import MAX_NAMEPLATE
from natwalk.rendezvous.messages import FailureCode

_SMALL_BAND: Final = 1000
_TRIES: Final = 64


@dataclass(frozen=True, slots=True)
class Nameplate:
    """Where a taken number leads; ``refusal`` is what a newcomer is told, None while it waits for one."""

    mailbox: str
    refusal: FailureCode | None = None


class Nameplates:
    """Every number in use: at most one a mailbox, and at most ``resting_limit`` that rest."""

    __slots__ = ("_random_bytes", "_resting", "_resting_limit", "_taken")

    def __init__(self, random_bytes: RandomBytes, *, resting_limit: int) -> None:
        self._random_bytes = random_bytes
        self._taken: dict[int, Nameplate] = {}
        self._resting: OrderedDict[int, None] = OrderedDict()
        self._resting_limit = resting_limit

    def allocate(self, mailbox: str) -> int | None:
        """Take a random free number of the shortest length that has one; None when none is left."""
        low = 1
        while low <= MAX_NAMEPLATE:
            number = self._free_in(low, low * 10)
            if number is not None:
                self._taken[number] = Nameplate(mailbox)
                return number
            low *= 10
        return None

    def get(self, number: int) -> Nameplate | None:
        """Where ``number`` leads, or None when nobody has it."""
        return self._taken.get(number)

    def rest(self, number: int, refusal: FailureCode) -> None:
        """Lead nobody else there, and answer ``refusal``; the longest resting number makes room."""
        self._taken[number] = Nameplate(self._taken[number].mailbox, refusal)
        self._resting[number] = None
        while len(self._resting) > self._resting_limit:
            oldest, _ = self._resting.popitem(last=False)
            del self._taken[oldest]

    def release_resting(self, number: int) -> None:
        """Free ``number`` if it rests; harmless when it is free or was given out again meanwhile."""
        if number in self._resting:
            del self._resting[number]
            del self._taken[number]

    def __len__(self) -> int:
        return len(self._taken)

    def _free_in(self, low: int, high: int) -> int | None:
        """A free number of low..high-1, at random, or None when there is none."""
        size = high - low
        if size < _SMALL_BAND:
            free = [number for number in range(low, high) if number not in self._taken]
            return free[self._below(len(free))] if free else None
        for _ in range(_TRIES):
            number = low + self._below(size)
            if number not in self._taken:
                return number
        return None

    def _below(self, limit: int) -> int:
        """A random number 0..limit-1; eight bytes make the bias smaller than 2**-40."""
        return int.from_bytes(self._random_bytes(8), "big") % limit
