"""What several simulator tests need."""

from __future__ import annotations

from natwalk.core import Address
from natwalk.sim import Host, LinkConfig, Network, SimSocket


class Mailbag:
    """A socket that keeps what it got, with the times."""

    def __init__(self, network: Network, host: Host, port: int) -> None:
        self.network = network
        self.got: list[tuple[float, bytes, Address]] = []
        self.socket: SimSocket = host.bind(self._receive, port)

    def _receive(self, data: bytes, source: Address) -> None:
        self.got.append((self.network.now, data, source))

    @property
    def payloads(self) -> list[bytes]:
        return [data for _, data, _ in self.got]


def one_link(seed: int = 1, **config: float | int | None) -> tuple[Network, SimSocket, Mailbag]:
    """A sender on a link of that behaviour, and a receiver on a perfect one."""
    network = Network(seed)
    core = network.router("core")
    sender, receiver = network.host("sender"), network.host("receiver")
    network.connect(sender, core, "192.0.2.1", config=LinkConfig(**config))  # type: ignore[arg-type]
    network.connect(receiver, core, "192.0.2.2")
    return network, Mailbag(network, sender, 1000).socket, Mailbag(network, receiver, 2000)
