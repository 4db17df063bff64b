"""Connections of whole messages between two drivers: what TURN over TCP or TLS is to its cores.

A stream stands for an outbound TCP connection, as :class:`natwalk.sim.channel.Channel` does: NATs and
firewalls let it pass, nothing is lost, and order is kept. What is cut is gone for both ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from natwalk.core import Address, Path, Transport
from natwalk.sim.driver import Driver
from natwalk.sim.network import Network

RETRY: Final = 0.2
"""Seconds between tries to get what waits through a line that is cut."""
GIVE_UP: Final = 60.0
"""Seconds of that after which a connection is lost."""


class Stream:
    """A connection from ``client`` at ``local`` to ``server`` at ``remote``, ready at once.

    ``seen`` is the address the server sees the client at; ``delay`` is one way, in seconds. ``on_lost``
    is called at both ends, with the end's path, when it is cut or an end closes it. While ``passes`` says
    no, what is sent waits, as TCP sends it again, for ``GIVE_UP`` seconds at most.
    """

    def __init__(
        self,
        network: Network,
        client: Driver[Any],
        server: Driver[Any],
        *,
        local: Address,
        remote: Address,
        seen: Address,
        delay: float,
        transport: Transport = Transport.TCP,
        on_lost: Callable[[Path], None],
        passes: Callable[[], bool] = lambda: True,
    ) -> None:
        self.here = Path(local, remote, transport)
        self.there = Path(remote, seen, transport)
        self.open = True
        self._network = network
        self._delay = delay
        self._ends = ((client, self.here), (server, self.there))
        self._on_lost = on_lost
        self._passes = passes
        self._waiting: deque[tuple[Driver[Any], Path, bytes]] = deque()
        self._waiting_since = 0.0
        client.carry(self.here, lambda data: self._send(server, self.there, data))
        server.carry(self.there, lambda data: self._send(client, self.here, data))

    def cut(self) -> None:
        """Both ends learn that it is gone, now; harmless when repeated."""
        if not self.open:
            return
        self.open = False
        for driver, path in self._ends:
            driver.drop(path)
            self._on_lost(path)

    def _send(self, driver: Driver[Any], path: Path, data: bytes) -> None:
        if not self._waiting and self._passes():
            self._pass(driver, path, data)
            return
        if not self._waiting:
            self._waiting_since = self._network.now
            self._network.after(RETRY, self._try_again)
        self._waiting.append((driver, path, data))

    def _try_again(self) -> None:
        if not self.open:
            return
        if self._passes():
            while self._waiting:
                self._pass(*self._waiting.popleft())
        elif self._network.now - self._waiting_since < GIVE_UP:
            self._network.after(RETRY, self._try_again)
        else:
            self.cut()

    def _pass(self, driver: Driver[Any], path: Path, data: bytes) -> None:
        self._network.after(self._delay, lambda: driver.deliver(data, path))
