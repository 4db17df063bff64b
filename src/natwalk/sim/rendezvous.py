"""Drives a rendezvous server: every channel that reaches it is one connection."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Final

from natwalk.core import IPAddress
from natwalk.rendezvous.server import RendezvousServer
from natwalk.sim.channel import ChannelEnd
from natwalk.sim.clock import SimulationError
from natwalk.sim.network import Network

_DRAIN: Final = 100_000


class RendezvousHub:
    """One rendezvous server and its connections, on virtual time."""

    def __init__(self, network: Network, server: RendezvousServer) -> None:
        self.server = server
        self._network = network
        self._ends: dict[int, ChannelEnd] = {}
        self._numbers = count(1)
        self._alarm = network.alarm(self._ring)

    def accept(self, end: ChannelEnd, address: IPAddress) -> None:
        """Serve the server's ``end`` of a channel, whose client is seen at ``address``.

        Each time the channel is restored that is a new connection.
        """
        number = 0

        def made() -> None:
            nonlocal number
            number = next(self._numbers)
            self._ends[number] = end
            self._input(self.server.connection_made, number, address)

        def lost() -> None:
            if self._ends.pop(number, None) is not None:
                self._input(self.server.connection_lost, number)

        def message(text: str) -> None:
            self._input(self.server.receive_message, number, text)

        end.on_made, end.on_lost, end.on_message = made, lost, message

    def _input(self, call: Callable[..., None], *args: object) -> None:
        call(*args, self._network.now)
        self._flush()

    def _ring(self) -> None:
        self.server.handle_timeout(self._network.now)
        self._flush()

    def _flush(self) -> None:
        """Send all messages, then close what is to be closed: a refusal arrives before the end."""
        for _ in range(_DRAIN):
            if (out := self.server.poll_message()) is None:
                break
            if (end := self._ends.get(out[0])) is not None:
                end.send(out[1])
        else:
            raise SimulationError(f"the rendezvous server sends {_DRAIN} messages at once")
        for _ in range(_DRAIN):
            if (closing := self.server.poll_close()) is None:
                break
            if (end := self._ends.get(closing[0])) is not None:
                end.close()
        self._alarm.set(self.server.next_timeout())
