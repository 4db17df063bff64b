"""Our TURN server beside Debian's coturn on loopback: same run, same client, rounds taking turns.

Work is counted by second of the server's processor time, which a slow client or a busy machine does not
change; every figure is of answers and datagrams that really arrived. Flows of 160 bytes take turns datagram
by datagram, as calls do; those of 1200 bytes come in bursts of 8, as video frames and files do. Memory is
the growth of the resident set, divided by the allocations made meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bench.turn_load import BUFFER, CHANNEL, Client, Source, allocate, answers, bind_channels, exchange
from bench.turn_servers import PASSWORD, REALM, USER, Server, coturn, natwalk
from natwalk.core import Address
from natwalk.stun import Method, encode, request
from natwalk.turn.channel_data import encode_channel_data

ROUNDS: Final = 3
BINDINGS: Final = 200
BINDING_BATCHES: Final = 150
FLOWS: Final = 16
PACKETS: Final = 48_000
WINDOW: Final = 128
BURSTS: Final = {160: 1, 1200: 8}
MEMORY_ROUNDS: Final = 3
FLOOD: Final = 10_000
MANY: Final = (1_000, 10_000)
AT_ONCE: Final = 250

Figures = dict[str, dict[str, list[float]]]
"""By what is measured, by server: the rounds."""

GOALS: Final = {
    "Bindings per CPU-second": None,
    "allocations per CPU-second": (">=", 1.0),
    "allocations per second": (">=", 1.0),
    "relayed packets per CPU-second, 160 bytes": (">=", 0.3),
    "relayed packets per CPU-second, 1200 bytes": (">=", 0.3),
    "bytes of memory per allocation, 1000": ("<=", 1.0),
    "bytes of memory per allocation, 10000": ("<=", 1.0),
    "milliseconds of an Allocate during a flood": None,
}


class Meter:
    """Work done by wall and by the server's processor time while the block runs."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.wall = self.cpu = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        cpu, wall = self._server.cpu(), time.perf_counter()
        yield
        self.wall += time.perf_counter() - wall
        self.cpu += self._server.cpu() - cpu


class Relaying:
    """Clients of one server with a channel each to a peer of its own."""

    def __init__(self, server: Server, sources: Source, stack: contextlib.ExitStack) -> None:
        self.clients = open_clients(server, sources, FLOWS, stack)
        self.peers = [_peer(stack) for _ in self.clients]
        allocate(self.clients)
        bind_channels(self.clients, [Address.from_sockname(p.getsockname()) for p in self.peers])
        for client, peer in zip(self.clients, self.peers, strict=True):
            assert client.relay is not None
            peer.connect(client.relay)
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)

    def round(self, server: Server, size: int) -> tuple[float, float]:
        """(packets relayed per CPU-second, share that was lost), half of them each way."""
        payload = os.urandom(size)
        up, down = encode_channel_data(CHANNEL, payload), payload
        burst = BURSTS[size]
        pairs = list(zip(self.clients, self.peers, strict=True))
        turns = PACKETS // (2 * FLOWS * burst)
        sends = [
            batch
            for _ in range(turns)
            for client, peer in pairs
            for batch in ((client.sock, [up] * burst), (peer, [down] * burst))
        ]
        meter = Meter(server)
        with meter.running():
            arrived = exchange(sends, [*self.peers, *(client.sock for client in self.clients)], WINDOW)
        return arrived / meter.cpu, 1 - arrived / (2 * FLOWS * burst * turns)


def open_clients(server: Server, sources: Source, count: int, stack: contextlib.ExitStack) -> list[Client]:
    """Clients from ``count`` sources that were not used before."""
    clients = []
    for _ in range(count):
        client = Client.open(server.address, next(sources), USER, PASSWORD, REALM)
        stack.callback(client.sock.close)
        clients.append(client)
    return clients


def bindings(server: Server, clients: list[Client]) -> float:
    """Binding requests answered per CPU-second."""
    meter = Meter(server)
    sockets = [client.sock for client in clients]
    for _ in range(BINDING_BATCHES):
        requests = [encode(request(Method.BINDING, os.urandom(12))) for _ in clients]
        with meter.running():
            answers(sockets, requests)
    return BINDING_BATCHES * len(clients) / meter.cpu


def fill(server: Server, sources: Source, figures: Figures) -> None:
    """Make 10,000 allocations and note their rate and the memory they took."""
    with contextlib.ExitStack() as stack:
        allocate(open_clients(server, sources, 1, stack))  # what is set up once is not an allocation's
    base, made = server.resident(), 0
    meter = Meter(server)
    for many in MANY:
        while made < many:
            with contextlib.ExitStack() as stack:
                clients = open_clients(server, sources, AT_ONCE, stack)
                with meter.running():
                    allocate(clients)
            made += AT_ONCE
        grown = (server.resident() - base) / made
        figures[f"bytes of memory per allocation, {many}"][server.name].append(grown)
    figures["allocations per CPU-second"][server.name].append(made / meter.cpu)
    figures["allocations per second"][server.name].append(made / meter.wall)


def allocate_during_flood(server: Server, sources: Source) -> float:
    """The longest of five Allocates, in milliseconds, as others ask ``FLOOD`` times a second, each once."""
    stop = threading.Event()

    def flood() -> None:
        while not stop.wait(0.01):
            for _ in range(FLOOD // 100):
                ask(next(flooders))

    def ask(source: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((source, 0))
            sock.sendto(encode(request(Method.BINDING, os.urandom(12))), server.address)

    flooders, thread = Source(start=1_000_000), threading.Thread(target=flood)
    thread.start()
    longest = 0.0
    try:
        for _ in range(5):
            time.sleep(0.2)
            with contextlib.ExitStack() as stack:
                clients = open_clients(server, sources, 1, stack)
                started = time.perf_counter()
                allocate(clients)
                longest = max(longest, time.perf_counter() - started)
    finally:
        stop.set()
        thread.join()
    return longest * 1000


def measure_packets(folder: Path, figures: Figures) -> None:
    with contextlib.ExitStack() as stack:
        sources = Source()
        servers = [stack.enter_context(start(folder)) for start in STARTS]
        clients = {server.name: open_clients(server, sources, BINDINGS, stack) for server in servers}
        relaying = {server.name: Relaying(server, sources, stack) for server in servers}
        for _ in range(ROUNDS):
            for server in servers:
                rate = bindings(server, clients[server.name])
                figures["Bindings per CPU-second"][server.name].append(rate)
                flooded = allocate_during_flood(server, sources)
                figures["milliseconds of an Allocate during a flood"][server.name].append(flooded)
            for size in BURSTS:
                for server in servers:
                    rate, lost = relaying[server.name].round(server, size)
                    figures[f"relayed packets per CPU-second, {size} bytes"][server.name].append(rate)
                    if lost > 0.001:
                        print(f"{server.name} lost {lost:.1%} of the packets of {size} bytes")


def measure_allocations(folder: Path, figures: Figures) -> None:
    for _ in range(MEMORY_ROUNDS):
        for start in STARTS:
            with start(folder) as server:
                fill(server, Source(), figures)


def report(figures: Figures) -> None:
    """Print each figure's medians and their ratio beside the goal."""
    for name, goal in GOALS.items():
        ours, theirs = (statistics.median(figures[name][server]) for server in ("natwalk", "coturn"))
        ratio = ours / theirs
        verdict = ""
        if goal is not None:
            sign, bound = goal
            reached = ratio >= bound if sign == ">=" else ratio <= bound
            verdict = f"  (goal {sign} {bound:g}: {'yes' if reached else 'NO'})"
        print(f"{name:<43} natwalk {ours:8.0f} | coturn {theirs:8.0f} | ratio {ratio:5.2f}{verdict}")


def _peer(stack: contextlib.ExitStack) -> socket.socket:
    sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    sock.bind(("127.0.0.1", 0))
    return sock


STARTS: Final[tuple[Callable[[Path], contextlib.AbstractContextManager[Server]], ...]] = (natwalk, coturn)


def main() -> None:
    figures: Figures = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory(prefix="natwalk-bench-") as name:
        measure_packets(Path(name), figures)
        measure_allocations(Path(name), figures)
    report(figures)
