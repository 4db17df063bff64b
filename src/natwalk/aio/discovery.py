"""Asyncio shell of behaviour discovery: two sockets, a clock, and an answer."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable
from typing import Generic, TypeVar

from natwalk.aio.flushing import armed, send_all
from natwalk.aio.udp import UdpSocket
from natwalk.core import Address, Core, Path
from natwalk.stun import BehaviourDiscovery, NatBehaviour, Step
from natwalk.stun.lifetime import LONGEST, RESOLUTION, LifetimeProbe, LifetimeTried, MappingLifetime

S = TypeVar("S")
R = TypeVar("R")

_Batch = list[tuple[bytes, Address]]


async def discover_behaviour(
    server: Address,
    *,
    local: Address | None = None,
    hairpin: bool = True,
    on_step: Callable[[Step], None] | None = None,
) -> NatBehaviour:
    """What the NATs between this machine and ``server`` do (RFC 5780 §4).

    ``local`` is what to bind, by default a free port of the address this machine sends to ``server`` from;
    ``hairpin`` adds the hairpin test, from a second socket. ``on_step`` hears of each test. Takes up to 40
    seconds when the server does not answer. Raises OSError when ``local`` cannot be bound or there is no
    way to ``server``.
    """
    run: _Run[Step, NatBehaviour] = _Run(Step, NatBehaviour, on_step)
    try:
        first, second = run.open_two(server, local)
        return await run.drive(
            BehaviourDiscovery(
                server,
                first,
                random_bytes=secrets.token_bytes,
                now=run.now,
                second=second if hairpin else None,
            )
        )
    finally:
        run.close()


async def discover_lifetime(
    server: Address,
    *,
    local: Address | None = None,
    longest: float = LONGEST,
    resolution: float = RESOLUTION,
    on_try: Callable[[LifetimeTried], None] | None = None,
) -> MappingLifetime:
    """For how long the NATs between this machine and ``server`` keep an idle mapping (RFC 5780 §4.6).

    Tries up to ``longest`` seconds, first that, then by halves down to a difference of ``resolution``: it
    takes a few times as long. ``local`` is what to bind, ``on_try`` hears of each wait. Raises OSError as
    :func:`discover_behaviour` does and ValueError when ``longest`` is not more than ``resolution``.
    """
    run: _Run[LifetimeTried, MappingLifetime] = _Run(LifetimeTried, MappingLifetime, on_try)
    try:
        first, second = run.open_two(server, local)
        return await run.drive(
            LifetimeProbe(
                server,
                first,
                second,
                random_bytes=secrets.token_bytes,
                now=run.now,
                longest=longest,
                resolution=resolution,
            )
        )
    finally:
        run.close()


class _Run(Generic[S, R]):
    """One core with its two sockets and its timer, until it yields an event of type ``last``."""

    def __init__(self, step: type[S], last: type[R], on_step: Callable[[S], None] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._step = step
        self._last = last
        self._result: asyncio.Future[R] = self._loop.create_future()
        self._core: Core[S | R] | None = None
        self._on_step = on_step
        self._sockets: dict[Address, UdpSocket] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def now(self) -> float:
        """The clock of the core."""
        return self._loop.time()

    def open_two(self, server: Address, local: Address | None) -> tuple[Address, Address]:
        """Bind ``local``, or what suits ``server``, and a free port beside it; returns both addresses."""
        first = self._open(local or Address(_source_host(server), 0))
        return first, self._open(first.with_port(0))

    async def drive(self, core: Core[S | R]) -> R:
        """Drive ``core`` to its end."""
        self._core = core
        self._flush(core)
        return await self._result

    def close(self) -> None:
        """Close the sockets, stop the clock."""
        if self._timer is not None:
            self._timer.cancel()
        for sock in self._sockets.values():
            sock.close()

    def _open(self, address: Address) -> Address:
        bound: list[Address] = []
        sock = UdpSocket.bind(address, lambda batch: self._on_datagrams(bound[0], batch))
        bound.append(sock.local)
        self._sockets[sock.local] = sock
        return sock.local

    def _on_datagrams(self, local: Address, batch: _Batch) -> None:
        if (core := self._core) is not None:
            for data, remote in batch:
                core.receive(data, Path(local, remote), self.now)
            self._flush(core)

    def _on_timer(self) -> None:
        self._timer = None
        if (core := self._core) is not None:
            due = core.next_timeout()
            core.handle_timeout(self.now if due is None else max(due, self.now))
            self._flush(core)

    def _flush(self, core: Core[S | R]) -> None:
        send_all(core.poll_transmit, self._sockets, core.drops)  # what is dropped here is sent again
        while (event := core.poll_event()) is not None:
            if isinstance(event, self._step):
                if self._on_step is not None:
                    self._on_step(event)
            elif isinstance(event, self._last) and not self._result.done():
                self._result.set_result(event)
        self._timer = armed(self._timer, core.next_timeout(), self._loop, self._on_timer)


def _source_host(server: Address) -> str:
    """The address this machine sends to ``server`` from; nothing is sent to find out."""
    family = socket.AF_INET6 if server.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(server.sockname)
        return Address.from_sockname(probe.getsockname()).host
