"""Ports an early inbound probe has made unusable towards its sender."""

from __future__ import annotations

from natwalk.core import Address
from natwalk.nat.packet import IpProtocol

_Pair = tuple[IpProtocol, Address, Address]


class Poison:
    """(protocol, external address, remote address) occupied until a time; bounded, the oldest gives way."""

    LIMIT = 4096

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._until: dict[_Pair, float] = {}

    def add(self, protocol: IpProtocol, external: Address, remote: Address, now: float) -> None:
        """Note a probe from ``remote`` to ``external`` that nothing let in."""
        pair = (protocol, external, remote)
        self._until.pop(pair, None)
        self._prune(now)
        if len(self._until) >= self.LIMIT:
            del self._until[next(iter(self._until))]
        self._until[pair] = now + self._timeout

    def holds(self, protocol: IpProtocol, external: Address, remote: Address, now: float) -> bool:
        """Whether ``external`` may not be used towards ``remote`` at ``now``."""
        until = self._until.get((protocol, external, remote))
        return until is not None and now < until

    def clear(self) -> None:
        """Forget everything."""
        self._until.clear()

    def __len__(self) -> int:
        return len(self._until)

    def _prune(self, now: float) -> None:
        # One timeout for all and re-entry at the end: the order of the dict is the order of expiry.
        while self._until:
            oldest = next(iter(self._until))
            if self._until[oldest] > now:
                break
            del self._until[oldest]
