"""How large a datagram one path carries, found by probing (RFC 8899, Datagram PLPMTUD).

The probes are padded ICE checks, so they are authenticated and cost the application nothing. All sizes of
the ladder go out at once: a probe that is too large is lost, a smaller one beside it is not (RFC 8899 §3
forbids reading congestion into a lost probe, and these are few).
"""

from __future__ import annotations

from typing import Final

from natwalk.core import Address

BASE_PLPMTU: Final = 1200
"""UDP payload, in bytes, every path is taken to carry (RFC 8899 §5.1.2)."""

_ETHERNET: Final = {4: 1500 - 20 - 8, 6: 1500 - 40 - 8}
_JUMBO: Final = {4: 9000 - 20 - 8, 6: 9000 - 40 - 8}
_LOOPBACK: Final = 60_000


def ladder(local: Address, remote: Address) -> tuple[int, ...]:
    """UDP payload sizes worth probing from ``local`` to ``remote``, in bytes, ascending.

    Two programs on one machine talk over its loopback interface whatever their addresses are.
    """
    family = local.version
    sizes: tuple[int, ...] = (_ETHERNET[family], _JUMBO[family])
    return (*sizes, _LOOPBACK) if same_machine(local, remote) else sizes


def same_machine(local: Address, remote: Address) -> bool:
    """Whether the two addresses belong to one machine, as far as they tell."""
    return local.host == remote.host or (local.ip.is_loopback and remote.ip.is_loopback)


class MtuSearch:
    """The search on one path: which probes are out, and the largest size known to pass."""

    def __init__(self, local: Address, remote: Address, *, relayed: bool) -> None:
        # Through a relay the server's own hop is unknown to us and its copies are dear: stay at the base.
        self.sizes: tuple[int, ...] = () if relayed else ladder(local, remote)
        self.mtu = BASE_PLPMTU
        self._open = set(self.sizes)

    def record(self, size: int, ok: bool) -> None:
        """Take the outcome of the probe of ``size`` bytes."""
        self._open.discard(size)
        if ok:
            self.mtu = max(self.mtu, size)
            self._open = {other for other in self._open if other > size}

    @property
    def settled(self) -> bool:
        """True when no outcome is awaited any more."""
        return not self._open
