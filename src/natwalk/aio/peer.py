"""Drives a :class:`natwalk.peer.PeerConnection`: sockets on request, one timer, the rendezvous channel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

from natwalk.aio.interfaces import local_addresses
from natwalk.aio.relay_links import RelayLinks
from natwalk.aio.udp import UdpSocket
from natwalk.core import Address, IPAddress, Path, Transport
from natwalk.ice import TurnServerAddress
from natwalk.path import RelayLinkReleased, RelayLinkWanted, SocketsReleased, SocketsWanted
from natwalk.peer import PeerConnection, PeerEvent


class PeerDriver:
    """The asyncio shell of one PeerConnection.

    Events but those about sockets go to ``on_event``; ``on_flushed`` is called when everything the core
    asked for was carried out. It is also what the rendezvous driver drives: text frames go through
    ``receive_message`` and ``poll_message``, and ``wake`` tells it that there are some.
    """

    def __init__(
        self,
        core: PeerConnection,
        on_event: Callable[[PeerEvent], None],
        on_flushed: Callable[[], None],
        *,
        addresses: Callable[[], Iterable[IPAddress]] = local_addresses,
    ) -> None:
        self.core = core
        self.wake: Callable[[], None] | None = None
        self.unbound: list[IPAddress] = []
        """Local addresses no socket could be bound to."""
        self._on_event = on_event
        self._on_flushed = on_flushed
        self._addresses = addresses
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[Address, UdpSocket] = {}
        self._generations: dict[int, list[UdpSocket]] = {}
        self._links = RelayLinks(self._on_messages, self._on_link_closed)
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        self._flushing = False

    @property
    def now(self) -> float:
        """The clock of the core: the loop's."""
        return self._loop.time()

    def flush(self) -> None:
        """Carry out what the core asks for. Call after every command."""
        if self._flushing:
            return
        self._flushing = True
        try:
            moved = True
            while moved:
                self._send_all()
                moved = False
                while (event := self.core.poll_event()) is not None:
                    moved = True
                    self._handle(event)
        finally:
            self._flushing = False
        self._arm()
        self._on_flushed()
        if self.wake is not None:
            self.wake()

    def close(self) -> None:
        """Close every socket and the timer. The core must have ended before."""
        self._send_all()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for generation in list(self._generations):
            self._release(generation)
        self._links.close()

    # --- what the rendezvous driver drives -----------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether the rendezvous server is needed no more."""
        return self.core.rendezvous_finished

    def connection_made(self, now: float) -> None:
        """The rendezvous channel is up."""
        self.core.connection_made(now)
        self.flush()

    def connection_lost(self, now: float) -> None:
        """The rendezvous channel is down."""
        self.core.connection_lost(now)
        self.flush()

    def receive_message(self, text: str, now: float) -> None:
        """A text frame came from the rendezvous server."""
        self.core.receive_message(text, now)
        self.flush()

    def poll_message(self) -> str | None:
        """The next text frame for the rendezvous server, or None."""
        return self.core.poll_message()

    def handle_timeout(self, now: float) -> None:
        """Do nothing: the one timer of the core is this driver's."""

    def next_timeout(self) -> float | None:
        """None: the one timer of the core is this driver's."""
        return None

    # --- inside --------------------------------------------------------------------------------------

    def _send_all(self) -> None:
        while (burst := self.core.poll_burst()) is not None:
            path, datagrams = burst
            if path.transport is not Transport.UDP:
                self._links.send(path, datagrams)
                continue
            sock = self._sockets.get(path.local)
            if sock is not None:
                sock.send_many(datagrams, path.remote)

    def _handle(self, event: PeerEvent) -> None:
        match event:
            case SocketsWanted(generation=generation):
                self._bind(generation)
            case SocketsReleased(generation=generation):
                self._release(generation)
            case RelayLinkWanted(generation=generation, server=server):
                self._connect_to(generation, server)
            case RelayLinkReleased(path=path):
                self._send_all()
                self._links.release(path)
            case _:
                self._on_event(event)

    def _bind(self, generation: int) -> None:
        sockets = self._generations.setdefault(generation, [])
        for ip in self._addresses():
            try:
                sock = self._bind_one(ip)
            except OSError:
                self.unbound.append(ip)  # it vanished between being listed and being bound; the others do
                continue
            sockets.append(sock)
            self._sockets[sock.local] = sock
            self.core.add_local_address(generation, sock.local, self.now)
        self.core.end_of_local_addresses(generation, self.now)

    def _bind_one(self, ip: IPAddress) -> UdpSocket:
        local: list[Address] = []
        sock = UdpSocket.bind(Address(str(ip), 0), partial(self._on_datagrams, local))
        local.append(sock.local)
        return sock

    def _release(self, generation: int) -> None:
        for sock in self._generations.pop(generation, ()):
            del self._sockets[sock.local]
            sock.close()

    def _on_datagrams(self, local: list[Address], batch: list[tuple[bytes, Address]]) -> None:
        self.core.receive_many(local[0], batch, self.now)
        self.flush()

    def _connect_to(self, generation: int, server: TurnServerAddress) -> None:
        def opened(local: Address) -> None:
            self.core.relay_link_opened(generation, server, local, self.now)
            self.flush()

        def failed(reason: str) -> None:
            self.core.relay_link_failed(generation, server, reason, self.now)
            self.flush()

        self._links.open(server, opened, failed)

    def _on_messages(self, path: Path, messages: list[bytes]) -> None:
        for message in messages:
            self.core.receive(message, path, self.now)
        self.flush()

    def _on_link_closed(self, path: Path, reason: str) -> None:
        self.core.relay_link_closed(path, reason, self.now)
        self.flush()

    def _on_timer(self) -> None:
        self._timer = None
        # max() absorbs a loop clock coarser than the deadline.
        self.core.handle_timeout(max(self._deadline or 0.0, self.now))
        self.flush()

    def _arm(self) -> None:
        deadline = self.core.next_timeout()
        if deadline == self._deadline and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._deadline = deadline
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._on_timer)
