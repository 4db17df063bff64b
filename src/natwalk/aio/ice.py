"""The asyncio shell of an ICE agent: a socket for each local address, one timer, two futures."""

from __future__ import annotations

import asyncio
import errno
import secrets
from collections.abc import Callable, Collection, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Final

from natwalk.aio.client_tls import ClientTls
from natwalk.aio.interfaces import local_addresses
from natwalk.aio.mdns import MdnsSocket
from natwalk.aio.relay_links import RelayLinks
from natwalk.aio.udp import OnDatagrams, UdpSocket
from natwalk.core import Address, IPAddress, LocalProtocolError, NatError, Path, Transport
from natwalk.ice import (
    Candidate,
    DataReceived,
    GatheringFinished,
    IceAgent,
    IceConfig,
    IceEvent,
    IceFailed,
    IceParameters,
    NamedCandidate,
    NamePublished,
    NameWanted,
    PairInfo,
    PairSelected,
    StreamReleased,
    StreamWanted,
    TurnServerAddress,
)

RECEIVE_QUEUE_LIMIT: Final = 1024

_Batch = list[tuple[bytes, Address]]


class ConnectionFailed(NatError):
    """No pair of addresses works, or the connection was closed; the text says which."""


class Connection:
    """One ICE connection to one peer.

    Candidates and parameters travel to the peer by whatever the application has. ``addresses`` are the
    local IP addresses to use, by default those of the ``interfaces`` named, or all of this machine's.
    ``on_event`` sees every event of the agent, data excepted, which is what trickling needs. ``ports`` is
    the first and the last port a socket may be bound to. Names of candidates are published and looked up
    by multicast DNS on the networks of the addresses. TURN servers over TCP, TLS and DTLS are connected to
    as the agent wants them; ``tls`` says which certificates are trusted. ``await close()`` when done.
    """

    def __init__(
        self,
        config: IceConfig | None = None,
        *,
        controlling: bool,
        addresses: Iterable[IPAddress] | None = None,
        interfaces: Collection[str] | None = None,
        ports: tuple[int, int] | None = None,
        tls: ClientTls | None = None,
        on_event: Callable[[IceEvent], None] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._agent = IceAgent(
            config or IceConfig(), controlling=controlling, random_bytes=secrets.token_bytes
        )
        if ports is not None and not 1 <= ports[0] <= ports[1] <= 65_535:
            raise ValueError(f"ports {ports[0]} to {ports[1]} are no range of ports")
        self._addresses = None if addresses is None else list(addresses)
        self._interfaces = interfaces
        self._ports = ports
        self._mdns: MdnsSocket | None = None
        self._links = RelayLinks(self._on_messages, self._on_link_closed, tls)
        self._on_event = on_event
        self._sockets: dict[Address, UdpSocket] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._gathered: asyncio.Future[None] = self._loop.create_future()
        self._selected: asyncio.Future[PairInfo] = self._loop.create_future()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._received: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._idle = asyncio.Event()
        self._flushing = False

    @property
    def agent(self) -> IceAgent:
        """The agent inside, for everything the shell does not offer."""
        return self._agent

    @property
    def local_parameters(self) -> IceParameters:
        """What the peer has to know besides the candidates."""
        return self._agent.local_parameters

    @property
    def local_candidates(self) -> tuple[Candidate, ...]:
        """The candidates gathered so far."""
        return self._agent.local_candidates

    @property
    def selected(self) -> PairInfo | None:
        """The pair in use, or None."""
        return self._agent.selected

    async def gather(self) -> tuple[Candidate, ...]:
        """Bind a socket to each local address and return all candidates, when no more are to be expected.

        Addresses that cannot be bound are passed over; raises OSError when none can be, or when candidates
        are to go by names and no network has multicast.
        """
        chosen = self._addresses
        self._bind(local_addresses(interfaces=self._interfaces) if chosen is None else chosen)
        self._agent.end_of_local_addresses(self._loop.time())
        self._flush()
        await self._gathered
        return self._agent.local_candidates

    def set_remote_parameters(self, parameters: IceParameters, *, lite: bool = False) -> None:
        """Tell the agent the peer's ufrag and password, and whether it is a lite agent: checks can start."""
        self._agent.set_remote_parameters(parameters, self._loop.time(), lite=lite)
        self._flush()

    def restart(self) -> IceParameters:
        """Begin anew on the same sockets; what to tell the peer, before the candidates that come again.

        Data passes on the old pair meanwhile. The peer's new parameters and candidates have to follow.
        """
        self._agent.restart(self._loop.time())
        self._loop.call_soon(self._flush)  # so that who calls can tell the parameters first
        return self._agent.local_parameters

    def add_remote_candidate(self, candidate: Candidate | NamedCandidate | None) -> None:
        """Tell the agent a candidate of the peer's; None says that there are no more."""
        if candidate is None:
            self._agent.end_of_remote_candidates(self._loop.time())
        else:
            self._agent.add_remote_candidate(candidate, self._loop.time())
        self._flush()

    async def connect(self) -> PairInfo:
        """Wait until a pair is selected and return it; raises :class:`ConnectionFailed` if none works."""
        waiting: list[asyncio.Future[Any]] = [self._selected, self._ended]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not self._selected.done():
            raise ConnectionFailed(self._ended.result())
        return self._selected.result()

    def send(self, data: bytes) -> None:
        """Send one datagram; raises :class:`LocalProtocolError` while no pair works."""
        self._agent.send(data, self._loop.time())
        self._flush()

    async def recv(self) -> bytes:
        """The next datagram from the peer; raises :class:`ConnectionFailed` after the end."""
        data = await self._received.get()
        if data is None:
            self._received.put_nowait(None)  # for whoever else is waiting
            raise ConnectionFailed(self._ended.result())
        return data

    async def close(self) -> None:
        """Give relayed addresses back and close the sockets; harmless when repeated."""
        self._agent.close(self._loop.time())
        self._end("the connection was closed")
        self._flush()
        try:
            await self._idle.wait()  # a TURN server has to be told, and may have to be told again
            await self._links.wait_closed()
        finally:
            self._release()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _bind(self, addresses: Iterable[IPAddress]) -> None:
        if self._sockets:
            raise LocalProtocolError("gather() was called before")
        failure: OSError | None = None
        for ip in addresses:
            local: list[Address] = []
            try:
                sock = self._bind_one(ip, partial(self._on_datagrams, local))
            except OSError as error:
                failure = error
                continue
            local.append(sock.local)
            self._sockets[sock.local] = sock
            self._agent.add_local_address(sock.local, self._loop.time())
        if not self._sockets:
            raise failure or OSError("this machine has no address to gather on")

    def _bind_one(self, ip: IPAddress, on_datagrams: OnDatagrams) -> UdpSocket:
        """A socket at a port of the range, from a random one on; OSError when every one is taken."""
        if self._ports is None:
            return UdpSocket.bind(Address(str(ip), 0), on_datagrams)
        first, last = self._ports
        count = last - first + 1
        start = secrets.randbelow(count)
        failure = OSError("there is no port to bind")
        for offset in range(count):
            try:
                return UdpSocket.bind(Address(str(ip), first + (start + offset) % count), on_datagrams)
            except OSError as error:
                failure = error
                if error.errno != errno.EADDRINUSE:
                    break
        raise failure

    def _names(self) -> MdnsSocket:
        """The multicast DNS socket, opened when it is first needed; OSError when there can be none."""
        if self._mdns is None:
            self._mdns = MdnsSocket((local.ip for local in self._sockets), self._on_resolved)
        return self._mdns

    def _on_resolved(self, name: str, ip: IPAddress | None) -> None:
        self._agent.name_resolved(name, ip, self._loop.time())
        self._flush()

    def _look_up(self, name: str) -> None:
        try:
            self._names().look_up(name)
        except OSError:  # no multicast here: the name stands for nothing
            self._agent.name_resolved(name, None, self._loop.time())

    def _connect_to(self, server: TurnServerAddress) -> None:
        def opened(local: Address) -> None:
            self._agent.stream_opened(server, local, self._loop.time())
            self._flush()

        def failed(reason: str) -> None:
            self._agent.stream_failed(server, reason, self._loop.time())
            self._flush()

        self._links.open(server, opened, failed)

    def _on_messages(self, path: Path, messages: list[bytes]) -> None:
        now = self._loop.time()
        for message in messages:
            self._agent.receive(message, path, now)
        self._flush()

    def _on_link_closed(self, path: Path, reason: str) -> None:
        self._agent.stream_closed(path, reason, self._loop.time())
        self._flush()

    def _release(self) -> None:
        if self._mdns is not None:
            self._mdns.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for sock in self._sockets.values():
            sock.close()

    def _on_datagrams(self, local: list[Address], batch: _Batch) -> None:
        now = self._loop.time()
        for data, remote in batch:
            self._agent.receive(data, Path(local[0], remote), now)
        self._flush()

    def _on_timer(self) -> None:
        due, now = self._agent.next_timeout(), self._loop.time()
        self._agent.handle_timeout(now if due is None else max(due, now))
        self._flush()

    def _flush(self) -> None:
        if self._flushing:  # a callback gave a command: the loop below goes on with it
            return
        self._flushing = True
        try:
            self._drain()
        finally:
            self._flushing = False
        if self._timer is not None:
            self._timer.cancel()
        due = self._agent.next_timeout()
        if due is None:
            self._timer = None
            self._idle.set()
        else:
            self._timer = self._loop.call_at(due, self._on_timer)
            self._idle.clear()

    def _drain(self) -> None:
        while True:
            while (out := self._agent.poll_transmit()) is not None:
                if out.path.transport is not Transport.UDP:
                    self._links.send(out.path, (out.data,))
                    continue
                sock = self._sockets.get(out.path.local)
                if sock is not None:
                    sock.send(out.data, out.path.remote)
            if (event := self._agent.poll_event()) is None:
                return
            self._take(event)

    def _take(self, event: IceEvent) -> None:
        match event:
            case DataReceived(data):
                if self._received.qsize() < RECEIVE_QUEUE_LIMIT:
                    self._received.put_nowait(data)
                else:
                    self._agent.drops.add("the application does not receive")
                return
            case NamePublished(name, ip):
                self._names().publish(name, ip)
            case StreamWanted(server):
                self._connect_to(server)
            case StreamReleased(path):
                self._links.release(path)
            case NameWanted(name):
                self._look_up(name)
            case GatheringFinished() if not self._gathered.done():
                self._gathered.set_result(None)
            case PairSelected(info) if not self._selected.done():
                self._selected.set_result(info)
            case IceFailed(reason):
                self._end(reason)
            case _:
                pass
        if self._on_event is not None:
            self._on_event(event)

    def _end(self, reason: str) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)
            self._received.put_nowait(None)
