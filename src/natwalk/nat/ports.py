"""Which external port a new mapping gets (RFC 4787 §4.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from natwalk.core import Address, RandomBytes
from natwalk.nat.config import NatConfig
from natwalk.nat.dimensions import Allocation

Refused = Callable[[Address], bool]
"""Says of an address whether it may not be used for this flow although it is free."""


class PortBlocks:
    """The blocks of one external address, and whose they are (RFC 7422 §2)."""

    def __init__(self, config: NatConfig, random_bytes: RandomBytes) -> None:
        first, last = config.ports
        self._size = config.block_size
        self._share = config.blocks_per_subscriber
        self._count = (last - first + 1) // config.block_size
        self._random_bytes = random_bytes
        self._taken: set[int] = set()
        self._of: dict[str, list[int]] = {}

    def of(self, subscriber: str) -> Iterator[range]:
        """Offsets of the blocks of ``subscriber``, then of new ones up to its share while some are free."""
        mine = self._of.get(subscriber, [])
        yield from map(self._offsets, tuple(mine))
        while len(mine) < self._share and len(self._taken) < self._count:
            block = self._free_one()
            self._taken.add(block)
            mine = self._of.setdefault(subscriber, [])
            mine.append(block)
            yield self._offsets(block)

    def release(self, subscriber: str) -> None:
        """Take back all blocks of ``subscriber``."""
        self._taken.difference_update(self._of.pop(subscriber, ()))

    def _offsets(self, block: int) -> range:
        return range(block * self._size, (block + 1) * self._size)

    def _free_one(self) -> int:
        block = int.from_bytes(self._random_bytes(6), "big") % self._count
        while block in self._taken:
            block = (block + 1) % self._count
        return block


class PortAllocator:
    """The ports of one external address for one protocol: which are taken, and which is next.

    ``ports`` replaces those of ``config``. Where ports are shared none is ever taken: then only ``refused``
    says what collides.
    """

    def __init__(
        self,
        host: str,
        config: NatConfig,
        random_bytes: RandomBytes,
        *,
        ports: tuple[int, int] | None = None,
        blocks: PortBlocks | None = None,
    ) -> None:
        self._host = host
        self._config = config
        self._first, last = ports or config.ports
        self._size = last - self._first + 1
        self._random_bytes = random_bytes
        self._blocks = blocks
        self._shared = config.shares_ports
        self._taken: set[int] = set()
        self._last = self._random_offset() if config.allocation is Allocation.SEQUENTIAL else 0

    def allocate(self, internal: Address, refused: Refused) -> Address | None:
        """Take a free port for ``internal``, or None when there is none."""
        config = self._config
        if config.allocation is Allocation.OVERLOAD:
            return Address(self._host, internal.port)
        parity = internal.port % 2 if config.keep_parity else None
        if config.keep_contiguity:
            taken = self._pick(internal, parity, lambda a: (a.port ^ 1) in self._taken or refused(a))
            if taken is not None:
                return taken
        return self._pick(internal, parity, refused)

    def take(self, port: int) -> Address | None:
        """Take exactly ``port``; None when it is taken or outside the range."""
        if port in self._taken or not 0 <= port - self._first < self._size:
            return None
        self._taken.add(port)
        return Address(self._host, port)

    def release(self, port: int) -> None:
        """Make ``port`` free again."""
        self._taken.discard(port)

    def _pick(self, internal: Address, parity: int | None, refused: Refused) -> Address | None:
        for offset in self._order(internal):
            port = self._first + offset
            if port in self._taken or (parity is not None and port % 2 != parity):
                continue
            address = Address(self._host, port)
            if refused(address):
                continue
            if not self._shared:
                self._taken.add(port)
            self._last = offset
            return address
        return None

    def _order(self, internal: Address) -> Iterator[int]:
        """Offsets into the range in the order they are tried; every one of them at least once."""
        if len(self._taken) == self._size:
            return
        match self._config.allocation:
            case Allocation.SEQUENTIAL:
                yield from self._sequential()
            case Allocation.BLOCK if self._blocks is not None:
                for block in self._blocks.of(internal.host):
                    yield from self._scattered(block)
            case Allocation.PRESERVE:
                offset = internal.port - self._first
                if 0 <= offset < self._size:
                    yield offset
                yield from self._scattered(range(self._size))
            case _:
                yield from self._scattered(range(self._size))

    def _sequential(self) -> Iterator[int]:
        step = self._config.step
        offset = self._last
        for _ in range(self._size):
            offset = (offset + step) % self._size
            yield offset
        # A step that shares a factor with the size of the range misses ports: take what is left in order.
        yield from range(self._size)

    def _scattered(self, within: range) -> Iterator[int]:
        for _ in range(16):
            yield within[self._random_offset(len(within))]
        start = self._random_offset(len(within))
        yield from within[start:]
        yield from within[:start]

    def _random_offset(self, size: int | None = None) -> int:
        # Six bytes over at most 65535 values: the bias is below one in four billion.
        return int.from_bytes(self._random_bytes(6), "big") % (size or self._size)
