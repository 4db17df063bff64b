"""Which external port a new mapping gets (RFC 4787 §4.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from natwalk.core import Address, RandomBytes
from natwalk.nat.config import Allocation, NatConfig


class PortAllocator:
    """The ports of one external address: which are taken, and which is next."""

    def __init__(self, host: str, config: NatConfig, random_bytes: RandomBytes) -> None:
        self._host = host
        self._config = config
        self._first, last = config.ports
        self._size = last - self._first + 1
        self._random_bytes = random_bytes
        self._taken: set[int] = set()
        self._last = self._random_offset()

    def allocate(self, internal_port: int, refused: Callable[[Address], bool]) -> Address | None:
        """Take a free port for ``internal_port``, or None when there is none.

        ``refused`` says of an address whether it may not be used for this flow although it is free.
        """
        parity = internal_port % 2 if self._config.keep_parity else None
        for offset in self._order(internal_port):
            port = self._first + offset
            if port in self._taken or (parity is not None and port % 2 != parity):
                continue
            address = Address(self._host, port)
            if refused(address):
                continue
            self._taken.add(port)
            self._last = offset
            return address
        return None

    def release(self, port: int) -> None:
        """Make ``port`` free again."""
        self._taken.discard(port)

    def _order(self, internal_port: int) -> Iterator[int]:
        """Offsets into the range in the order they are tried; every one of them at least once."""
        if len(self._taken) == self._size:
            return
        match self._config.allocation:
            case Allocation.SEQUENTIAL:
                yield from self._sequential()
            case Allocation.PRESERVE:
                offset = internal_port - self._first
                if 0 <= offset < self._size:
                    yield offset
                yield from self._scattered()
            case Allocation.RANDOM:
                yield from self._scattered()

    def _sequential(self) -> Iterator[int]:
        step = self._config.step
        offset = self._last
        for _ in range(self._size):
            offset = (offset + step) % self._size
            yield offset
        # A step that shares a factor with the size of the range misses ports: take what is left in order.
        yield from range(self._size)

    def _scattered(self) -> Iterator[int]:
        for _ in range(16):
            yield self._random_offset()
        start = self._random_offset()
        for distance in range(self._size):
            yield (start + distance) % self._size

    def _random_offset(self) -> int:
        # Six bytes over at most 65535 values: the bias is below one in four billion.
        return int.from_bytes(self._random_bytes(6), "big") % self._size
