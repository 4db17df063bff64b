"""Streams between two drivers: in order, whole, and gone for both ends at once."""

from __future__ import annotations

from natwalk.core import Address, Drops, Path, Transmit, Transport
from natwalk.sim.driver import Driver, attach
from natwalk.sim.internet import SERVER, two_peers
from natwalk.sim.streams import Stream

HERE, THERE, SEEN = Address("10.0.0.2", 20_001), Address(SERVER, 3478), Address("198.51.100.1", 61_000)


class Echo:
    """A core that keeps what it gets and sends what it is told to."""

    def __init__(self) -> None:
        self.drops = Drops()
        self.received: list[tuple[float, bytes, Path]] = []
        self.outgoing: list[Transmit] = []

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        self.received.append((now, datagram, path))

    def handle_timeout(self, now: float) -> None:
        pass

    def poll_transmit(self) -> Transmit | None:
        return self.outgoing.pop(0) if self.outgoing else None

    def poll_event(self) -> None:
        return None

    def next_timeout(self) -> float | None:
        return None

    def send(self, transmit: Transmit, now: float) -> None:
        self.outgoing.append(transmit)


def test_messages_pass_in_order_until_the_stream_is_cut() -> None:
    """Through a NAT that lets no UDP out; what is under way when it is cut is lost with it."""
    internet = two_peers("udp-blocked", "none", seed=3)
    network = internet.network
    client, server = Echo(), Echo()
    near: Driver[None] = attach(network, client, internet.a.host, [])
    far: Driver[None] = attach(network, server, internet.server, [])
    lost: list[Path] = []
    stream = Stream(network, near, far, local=HERE, remote=THERE, seen=SEEN, delay=0.05, on_lost=lost.append)
    began = network.now
    for number in range(3):
        near.do(client.send, Transmit(bytes([number]), stream.here))
    far.do(server.send, Transmit(b"back", stream.there))
    network.run_for(0.1)
    assert [(data, path) for _, data, path in server.received] == [
        (bytes([number]), Path(THERE, SEEN, Transport.TCP)) for number in range(3)
    ]
    assert client.received == [(began + 0.05, b"back", Path(HERE, THERE, Transport.TCP))]
    near.do(client.send, Transmit(b"under way", stream.here))
    stream.cut()
    stream.cut()
    near.do(client.send, Transmit(b"too late", stream.here))
    network.run_for(1)
    assert lost == [stream.here, stream.there]
    assert len(server.received) == 3
