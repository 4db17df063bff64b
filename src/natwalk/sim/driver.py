"""Drives any core on virtual time, as the asyncio shells do on real time.

After every input it drains the polls and arms one timer, as natwalk.core.contract asks. A core that breaks
the contract (a timeout that does not move on) ends the simulation with an error instead of a hang.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Generic, Protocol, TypeVar

from natwalk.core import Address, Core, Drops, Path, Transport
from natwalk.sim.channel import ChannelEnd
from natwalk.sim.clock import SimulationError
from natwalk.sim.host import Host, SimSocket
from natwalk.sim.network import Network
from natwalk.sim.trace import Happening

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)
_DRAIN: Final = 100_000  # polls answered after one input; more means a core that never ends


class MessageCore(Protocol):
    """What a core that talks through a message channel has, besides or instead of datagrams."""

    def connection_made(self, now: float) -> None:
        """The channel is there."""

    def connection_lost(self, now: float) -> None:
        """The channel is gone; what was sent may not have arrived."""

    def receive_message(self, text: str, now: float) -> None:
        """Take one message."""

    def poll_message(self) -> str | None:
        """The next message to send, or None."""


class EventCore(Protocol[E_co]):
    """The part of a core that every driver needs (:class:`natwalk.core.Core` says it all)."""

    def handle_timeout(self, now: float) -> None:
        """Do what is due at ``now``."""

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` wants to be called."""

    def poll_event(self) -> E_co | None:
        """The next event."""


class Driver(Generic[E]):
    """One core on one host. Make it by :func:`attach` or :func:`attach_messages`.

    Events go to ``on_event`` in order, each after everything before it was drained, so that the callback
    may give commands through :meth:`do`; without a callback they collect in ``events``.
    """

    def __init__(
        self, network: Network, core: EventCore[E], host: Host, on_event: Callable[[E], None] | None
    ) -> None:
        self.network = network
        self.host = host
        self.events: list[E] = []
        self.closed = False
        self.core = core
        self._datagrams: Core[E] | None = None
        self._messages: MessageCore | None = None
        self._end: ChannelEnd | None = None
        self._on_event: Callable[[E], None] = on_event or self.events.append
        self._sockets: dict[Address, SimSocket] = {}
        self._streams: dict[Path, Callable[[bytes], None]] = {}
        self._alarm = network.alarm(lambda: host.when_awake(self._ring))
        self._busy = False

    def do(self, command: Callable[..., object], *args: object, **options: object) -> None:
        """Give a command, ``command(*args, now=…)``, then drain and arm as after any input."""
        command(*args, **options, now=self.network.now)
        self.flush()

    def flush(self) -> None:
        """Drain the core and arm its timer; needed only after touching the core behind the driver's back."""
        if self._busy or self.closed:
            return
        self._busy = True
        try:
            for _ in range(_DRAIN):
                if not self._step():
                    break
            else:
                raise SimulationError(f"the core on {self.host.name} still yields after {_DRAIN} polls")
        finally:
            self._busy = False
        self._alarm.set(self.core.next_timeout())

    def close(self) -> None:
        """Stop driving: sockets closed, timer disarmed, as when the process dies."""
        self.closed = True
        self._alarm.set(None)
        for socket in self._sockets.values():
            socket.close()
        self._sockets.clear()

    def bind(self, port: int = 0, host: str | None = None) -> Address:
        """Open one more socket for the core and return its address; the core is not told."""
        socket = self.host.bind(_refuse, port, host)
        address = socket.address
        socket.receive = lambda data, source: self._receive(data, Path(address, source))
        self._sockets[address] = socket
        return address

    def unbind(self, address: Address) -> None:
        """Close the socket at ``address``."""
        self._sockets.pop(address).close()

    def carry(self, path: Path, send: Callable[[bytes], None]) -> None:
        """Give ``send`` what the core sends on ``path``, a stream, from now on."""
        self._streams[path] = send

    def drop(self, path: Path) -> None:
        """The stream at ``path`` is no more; nothing happens when there was none."""
        self._streams.pop(path, None)

    def deliver(self, data: bytes, path: Path) -> None:
        """A whole message came in on ``path``, a stream."""
        if path in self._streams:
            self._receive(data, path)

    def use(self, datagrams: Core[E]) -> None:
        """Carry datagrams for ``datagrams``, the core or a part of it."""
        self._datagrams = datagrams

    def listen(self, messages: MessageCore, end: ChannelEnd) -> None:
        """Carry messages between ``messages`` (the core or a part of it) and a channel."""
        self._messages, self._end = messages, end
        wait = self.host.when_awake
        end.on_message = lambda text: wait(self._input, messages.receive_message, text)
        end.on_made = lambda: wait(self._input, messages.connection_made)
        end.on_lost = lambda: wait(self._input, messages.connection_lost)

    def _input(self, call: Callable[..., None], *args: object) -> None:
        if not self.closed:
            call(*args, self.network.now)
            self.flush()

    def _receive(self, data: bytes, path: Path) -> None:
        if self._datagrams is not None:
            self._input(self._datagrams.receive, data, path)

    def _ring(self) -> None:
        if self.closed:
            return
        now = self.network.now
        self.core.handle_timeout(now)
        due = self.core.next_timeout()
        if due is not None and due <= now:
            raise SimulationError(
                f"next_timeout() {due} is not after handle_timeout({now}) on {self.host.name}"
            )
        self.flush()

    def _step(self) -> bool:
        """Move everything that waits to be sent and one event; False when there was nothing."""
        moved = self._send_datagrams()
        moved = self._send_messages() or moved
        event = self.core.poll_event()
        if event is None:
            return moved
        name = type(event).__name__
        self.network.trace.add(self.network.now, Happening.EVENT, self.host.name, 0, None, name)
        self._on_event(event)
        return True

    def _send_datagrams(self) -> bool:
        if self._datagrams is None:
            return False
        moved = False
        for _ in range(_DRAIN):
            if (out := self._datagrams.poll_transmit()) is None:
                return moved
            moved = True
            if out.path.transport is not Transport.UDP:
                stream = self._streams.get(out.path)
                if stream is not None:
                    stream(out.data)
                continue
            socket = self._sockets.get(out.path.local)
            if socket is None:
                self.host.drops.add("core sent from a socket that is not open")
            else:
                socket.send(out.data, out.path.remote)
        raise SimulationError(f"the core on {self.host.name} sends {_DRAIN} datagrams at once")

    def _send_messages(self) -> bool:
        if self._messages is None or self._end is None:
            return False
        moved = False
        for _ in range(_DRAIN):
            if (text := self._messages.poll_message()) is None:
                return moved
            moved = True
            self._end.send(text)
        raise SimulationError(f"the core on {self.host.name} sends {_DRAIN} messages at once")

    @property
    def drops(self) -> Drops:
        """Why the core dropped datagrams."""
        return Drops() if self._datagrams is None else self._datagrams.drops


def attach(
    network: Network,
    core: Core[E],
    host: Host,
    addresses: Iterable[Address],
    on_event: Callable[[E], None] | None = None,
    *,
    messages: MessageCore | None = None,
    end: ChannelEnd | None = None,
) -> Driver[E]:
    """Drive ``core`` on ``host`` with a socket at each of ``addresses`` (port 0: any free one).

    A core that also talks through a channel is given twice: as ``core`` and as ``messages``, with its
    ``end``. Raises LocalProtocolError when an address cannot be bound.
    """
    driver = Driver(network, core, host, on_event)
    driver.use(core)
    for address in addresses:
        driver.bind(address.port, address.host)
    if messages is not None and end is not None:
        driver.listen(messages, end)
    driver.flush()
    return driver


class TalkingCore(MessageCore, EventCore[E_co], Protocol[E_co]):
    """A core that knows messages and no datagrams, such as a rendezvous client."""


def attach_messages(
    network: Network,
    core: TalkingCore[E],
    host: Host,
    end: ChannelEnd,
    on_event: Callable[[E], None] | None = None,
) -> Driver[E]:
    """Drive a core that talks through one channel only."""
    driver = Driver(network, core, host, on_event)
    driver.listen(core, end)
    driver.flush()
    return driver


def _refuse(data: bytes, source: Address) -> None:
    """Between bind and its return nothing can arrive."""
    raise SimulationError("a datagram arrived at a socket without an owner")
