"""Which port the next relay socket gets: uniformly random, so that nobody can guess it (RFC 6056 §3.3.1)."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

from natwalk.core import RandomBytes

_QUICK_TRIES: Final = 16
_REJECTIONS: Final = 64  # each value is taken with more than one half: never reached by chance


def uniform(limit: int, random_bytes: RandomBytes) -> int:
    """A uniformly random number in 0..limit-1, by rejection; ``limit`` is 1..65536."""
    if not 1 <= limit <= 65536:
        raise ValueError(f"{limit} is not between 1 and 65536")
    if limit == 1:
        return 0
    ceiling = 65536 - 65536 % limit
    value = 0
    for _ in range(_REJECTIONS):
        value = int.from_bytes(random_bytes(2), "big")
        if value < ceiling:
            break
    return value % limit


def choose_port(
    ports: range, used: AbstractSet[int], random_bytes: RandomBytes, *, even: bool = False, pair: bool = False
) -> int | None:
    """A free port of ``ports``, every free one as likely as another; None when there is none.

    ``even`` asks for an even one, ``pair`` for one whose successor is free, too (RFC 8656 §7.2).
    """
    if len(used) >= len(ports):
        return None

    def fits(port: int) -> bool:
        if port in used or (even and port % 2):
            return False
        return not pair or (port + 1 in ports and port + 1 not in used)

    for _ in range(_QUICK_TRIES):
        port = ports[uniform(len(ports), random_bytes)]
        if fits(port):
            return port
    free = [port for port in ports if fits(port)]
    return free[uniform(len(free), random_bytes)] if free else None
