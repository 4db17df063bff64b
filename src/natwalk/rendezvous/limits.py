"""How much of the rendezvous server one source may use, and all of them together.

A source is an IPv4 address or an IPv6 /64: what one subscriber usually has. Rates are token buckets in a
table of fixed size, so memory does not grow with the number of addresses an attacker owns.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Network
from typing import Final, Generic, TypeVar

from natwalk.core import IPAddress, canonical

K = TypeVar("K", bound=Hashable)

_MINUTE: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RendezvousLimits:
    """Bounds of one server; times are seconds, rates are per source and minute."""

    allocations_per_minute: int = 30
    """Nameplates (and mailboxes by id) one source may ask for."""
    claims_per_minute: int = 30
    """Claims of a nameplate, right or wrong: what a guesser of codes has."""
    reopens_per_minute: int = 120
    """Returns of clients that lost their connection."""
    connections_per_source: int = 64
    connections: int = 8192
    mailboxes_per_source: int = 32
    mailboxes: int = 8192
    idle_resume_mailboxes: int = 4096
    """Mailboxes opened by id with nobody connected; the one idle longest makes room."""
    messages_per_mailbox: int = 200
    bytes_per_mailbox: int = 512 * 1024
    stored_bytes: int = 128 * 1024 * 1024
    """All undelivered bodies of all mailboxes together."""
    frames_per_second: float = 50.0
    frame_burst: int = 500
    nameplate_ttl: float = 3600.0
    """How long a nameplate waits for its second side, connected or not."""
    nameplate_rest: float = 60.0
    """How long a released nameplate answers "crowded" before it may be given out again."""
    idle_timeout: float = 660.0
    """How long a mailbox with a nameplate's two sides lives without any connection."""
    resume_idle_timeout: float = 86_400.0
    """The same for a mailbox opened by id, which waits for a side that was killed."""
    join_timeout: float = 30.0
    """How long a connection may take to ask for its mailbox."""
    sources: int = 16_384
    """Rows in the table of rates."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0, not {getattr(self, name)}")


class Rate(Enum):
    """What is counted per source."""

    ALLOCATION = "allocation"
    CLAIM = "claim"
    REOPEN = "reopen"


def source_of(address: IPAddress) -> str:
    """Whom ``address`` counts as: IPv4 (also when mapped into IPv6) by address, IPv6 by /64."""
    plain = canonical(address)
    if isinstance(plain, IPv4Address):
        return str(plain)
    return str(IPv6Network((int(plain), 64), strict=False))


class TokenBucket:
    """A rate with a burst: ``take`` spends one token or says in how many seconds there is one."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = burst, now

    def take(self, now: float) -> float:
        """0.0 when a token was spent, else the seconds until one will be there."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = max(self._at, now)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate


class SourceRates(Generic[K]):
    """What each source may do a minute, by kind, in a table of fixed size: the oldest row gives way."""

    __slots__ = ("_buckets", "_per_minute", "_rows")

    def __init__(self, per_minute: Mapping[K, int], rows: int) -> None:
        self._per_minute = dict(per_minute)
        self._rows = rows
        self._buckets: OrderedDict[tuple[str, K], TokenBucket] = OrderedDict()

    def take(self, source: str, kind: K, now: float) -> float:
        """0.0 when ``source`` may, else the seconds until it may; a refusal later on is not refunded."""
        key = (source, kind)
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._rows:
                self._buckets.popitem(last=False)
            per_minute = self._per_minute[kind]
            bucket = self._buckets[key] = TokenBucket(per_minute / _MINUTE, per_minute, now)
        self._buckets.move_to_end(key)
        return bucket.take(now)

    def __len__(self) -> int:
        return len(self._buckets)
