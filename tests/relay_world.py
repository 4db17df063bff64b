"""Relay cores joined without sockets: streams that cut and delay bytes, on a clock that tests move."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from random import Random
from typing import Any

from natwalk.relay import (
    CloseWanted,
    ConnectWanted,
    DisconnectWanted,
    PacketReceived,
    RelayClient,
    RelayClientConfig,
    RelayClientEvent,
    RelayIdentity,
    RelayReady,
    RelayServer,
    RelayServerConfig,
)


def identity(number: int) -> RelayIdentity:
    return RelayIdentity(Random(number).randbytes(32))


SERVER = identity(1_000_000)


class Host:
    """A client with what its application heard and the stream it is on."""

    def __init__(self, world: World, client: RelayClient, binding: bytes) -> None:
        self.world = world
        self.client = client
        self.binding = binding
        self.number: int | None = None
        self.heard: list[RelayClientEvent] = []
        self.dials: list[float] = []
        self.reachable = True
        self.reads = True
        self.key = client.identity.public

    @property
    def packets(self) -> list[tuple[bytes, bytes]]:
        return [(event.peer, event.data) for event in self.heard if isinstance(event, PacketReceived)]

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.heard if isinstance(event, kind)]


class World:
    """One server and any number of clients; ``cut`` sends every stream in pieces of random size."""

    def __init__(self, config: RelayServerConfig | None = None, *, seed: int = 1, cut: bool = False) -> None:
        self.now = 100.0
        self.random = Random(seed)
        self.cut = cut
        self.server = self.make_server(config or RelayServerConfig())
        self.hosts: list[Host] = []
        self.closed: list[CloseWanted] = []
        self.pauses: list[float] = []
        self._by_number: dict[int, Host] = {}
        self._last = 0

    def make_server(self, config: RelayServerConfig) -> RelayServer:
        return RelayServer(SERVER, config, random_bytes=self.random.randbytes)

    def client(
        self,
        number: int,
        config: RelayClientConfig | None = None,
        *,
        binding: bytes = b"",
        start: bool = True,
    ) -> Host:
        client = RelayClient(identity(number), config, random_bytes=self.random.randbytes)
        host = Host(self, client, binding)
        self.hosts.append(host)
        if start:
            client.start(self.now)
            self.settle()
        return host

    def clients(self, numbers: Iterable[int]) -> list[Host]:
        return [self.client(number) for number in numbers]

    def settle(self) -> None:
        """Move bytes and events until nothing moves."""
        moved = True
        while moved:
            moved = self._server_out()
            for host in self.hosts:
                moved |= self._client_out(host)

    def run(self, seconds: float) -> None:
        """Let time pass, with every timer at its time."""
        end = self.now + seconds
        while True:
            cores: list[Any] = [self.server, *(host.client for host in self.hosts)]
            due = min((at for core in cores if (at := core.next_timeout()) is not None), default=end + 1)
            if due > end:
                break
            self.now = max(self.now, due)
            for core in cores:
                core.handle_timeout(self.now)
            self.settle()
        self.now = end

    def lose(self, host: Host, *, told: bool = True) -> None:
        """Cut the stream of ``host``; the server hears of it, and the client too if ``told``."""
        if host.number is not None:
            self.server.connection_lost(host.number, self.now)
            self._by_number.pop(host.number, None)
            host.number = None
        if told:
            host.client.connection_lost(self.now)
        self.settle()

    def replace_server(self, config: RelayServerConfig | None = None) -> None:
        """The server is killed and another takes its place."""
        self.server = self.make_server(config or RelayServerConfig())
        self._by_number.clear()
        for host in self.hosts:
            if host.number is not None:
                host.number = None
                host.client.connection_lost(self.now)
        self.settle()

    def _pieces(self, data: bytes) -> deque[bytes]:
        pieces: deque[bytes] = deque()
        while data:
            size = self.random.randrange(1, 200) if self.cut else len(data)
            pieces.append(data[:size])
            data = data[size:]
        return pieces

    def _server_out(self) -> bool:
        moved = False
        while (out := self.server.poll_transmit()) is not None:
            moved = True
            host = self._by_number.get(out[0])
            if host is not None:
                for piece in self._pieces(out[1]):
                    host.client.receive(piece, self.now)
        while (event := self.server.poll_event()) is not None:
            moved = True
            self.closed.append(event)
            host = self._by_number.get(event.number)
            self.server.connection_lost(event.number, self.now)
            if host is not None:
                self._by_number.pop(event.number)
                host.number = None
                host.client.connection_lost(self.now)
        return moved

    def _client_out(self, host: Host) -> bool:
        moved = False
        while (event := host.client.poll_event()) is not None:
            moved = True
            if isinstance(event, ConnectWanted):
                self._dial(host)
            elif isinstance(event, DisconnectWanted):
                if host.number is not None:
                    self._by_number.pop(host.number, None)
                    self.server.connection_lost(host.number, self.now)
                    host.number = None
                host.heard.append(event)
            else:
                host.heard.append(event)
        while (data := host.client.poll_transmit()) is not None:
            moved = True
            for piece in self._pieces(data):
                if host.number is not None:
                    pause = self.server.receive(host.number, piece, self.now)
                    if pause:
                        self.pauses.append(pause)
        return moved

    def _dial(self, host: Host) -> None:
        host.dials.append(self.now)
        if not host.reachable:
            host.client.connect_failed(self.now)
            return
        self._last += 1
        host.number = self._last
        self._by_number[self._last] = host
        host.client.connection_made(self.now, binding=host.binding)
        self.server.connection_made(self._last, "source", self.now, binding=host.binding)


def is_ready(host: Host) -> bool:
    return bool(host.client.ready and host.of(RelayReady))
