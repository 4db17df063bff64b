"""Rate limits and back-off by source, in constant memory.

A source is a prefix, not an address: whoever has one IPv6 address has 2**64 of them. Tables forget their
least recently used entry when full, so a flood of sources costs no more memory than a quiet day.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from ipaddress import IPv4Address
from typing import Final, Generic, NamedTuple, TypeVar

from natwalk.core import Address, canonical

K = TypeVar("K", bound=Hashable)

_ROUNDING: Final = 1e-6  # seconds: sums of binary fractions are not exact

WIDE_FACTOR: Final = 8
"""How many times the allowance of a /64 a whole /48 has."""


class Source(NamedTuple):
    """Whom a datagram is counted against; ``wide`` is the IPv6 /48 around it, None for IPv4."""

    narrow: int
    wide: int | None


def source_of(address: Address) -> Source:
    """The IPv4 address, or the IPv6 /64 and /48, that ``address`` belongs to; the port does not count."""
    if ":" not in address.host:  # canonical already, and a flood brings new ones all the time
        a, b, c, d = address.host.split(".")
        return Source(int(a) << 24 | int(b) << 16 | int(c) << 8 | int(d), None)
    ip = canonical(address.ip)
    value = int(ip)
    if isinstance(ip, IPv4Address):
        return Source(value, None)
    return Source(-(value >> 64) - 1, value >> 80)


class TokenBuckets(Generic[K]):
    """A token bucket a key: ``rate`` tokens a second, at most ``burst``, for the ``capacity`` latest keys.

    A bucket is one number, the time at which it would be full again, which says as much as tokens and a
    time stamp in a quarter of the memory.
    """

    def __init__(self, rate: float, burst: float, *, capacity: int = 4096) -> None:
        if rate <= 0 or burst < 1 or capacity < 1:
            raise ValueError(f"token buckets of rate {rate}, burst {burst}, capacity {capacity}")
        self._token = 1 / rate
        self._latest = (burst - 1) / rate + _ROUNDING
        self._capacity = capacity
        self._full_at: OrderedDict[K, float] = OrderedDict()

    def take(self, key: K, now: float) -> bool:
        """Take one token of ``key``; False when there is none."""
        full_at = max(now, self._full_at.pop(key, now))
        granted = full_at - now <= self._latest
        self._full_at[key] = full_at + self._token if granted else full_at
        if len(self._full_at) > self._capacity:
            self._full_at.popitem(last=False)
        return granted

    def __len__(self) -> int:
        return len(self._full_at)


class SourceLimit:
    """A rate per source: per IPv4 address, per IPv6 /64, and a wider one per IPv6 /48."""

    def __init__(self, rate: float, burst: float, *, capacity: int = 4096) -> None:
        self._narrow: TokenBuckets[int] = TokenBuckets(rate, burst, capacity=capacity)
        self._wide: TokenBuckets[int] = TokenBuckets(
            rate * WIDE_FACTOR, burst * WIDE_FACTOR, capacity=capacity
        )

    def take(self, source: Source, now: float) -> bool:
        """True when ``source`` is within its rate; counts the attempt."""
        # the narrow one first, so that a /64 over its rate does not use up what its neighbours have
        if not self._narrow.take(source.narrow, now):
            return False
        return source.wide is None or self._wide.take(source.wide, now)

    def __len__(self) -> int:
        return len(self._narrow) + len(self._wide)


class Backoff(Generic[K]):
    """Makes a key that keeps failing wait: ``free`` failures, then 1, 2, 4 … up to ``longest`` seconds."""

    def __init__(self, *, free: int, longest: float = 30.0, capacity: int = 4096) -> None:
        self._free = free
        self._longest = longest
        self._capacity = capacity
        self._failures: OrderedDict[K, tuple[int, float]] = OrderedDict()

    def blocked(self, key: K, now: float) -> bool:
        """True while ``key`` has to wait."""
        entry = self._failures.get(key)
        return entry is not None and now < entry[1]

    def fail(self, key: K, now: float) -> None:
        """Count one failure of ``key``; ten times the longest wait without one forgets the earlier."""
        count, until = self._failures.pop(key, (0, now))
        count = count + 1 if now < until + 10 * self._longest else 1
        over = count - self._free
        wait = min(self._longest, 2.0 ** min(over - 1, 16)) if over > 0 else 0.0
        self._failures[key] = (count, now + wait)
        if len(self._failures) > self._capacity:
            self._failures.popitem(last=False)

    def succeed(self, key: K) -> None:
        """Forget the failures of ``key``."""
        self._failures.pop(key, None)

    def __len__(self) -> int:
        return len(self._failures)
