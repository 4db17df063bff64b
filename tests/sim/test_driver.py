from __future__ import annotations

from collections import deque

import pytest

from natwalk.core import Address, Drops, Path, Transmit
from natwalk.sim import START, Network, SimulationError, attach
from natwalk.stun import BindingClient, BindingServer, MappedAddress

A, B = Address("192.0.2.1", 1000), Address("192.0.2.2", 2000)


class Echo:
    """A core that answers datagrams and messages, tells of both, and wakes up ``wakes`` times a second."""

    def __init__(self, wakes: int = 0, period: float = 1.0) -> None:
        self.drops = Drops()
        self.period = period
        self.log: list[object] = []
        self._left = wakes
        self._due: float | None = None
        self._out: deque[Transmit] = deque()
        self._texts: deque[str] = deque()
        self._events: deque[str] = deque()

    def start(self, target: Path, *, now: float) -> None:
        self._out.append(Transmit(b"start", target))
        self._due = now + self.period if self._left else None

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        self.log.append((now, datagram, path))
        self._events.append(datagram.decode())
        if datagram == b"start":
            self._out.append(Transmit(b"answer", path))

    def handle_timeout(self, now: float) -> None:
        if self._due is not None and self._due <= now:
            self._left -= 1
            self._events.append("tick")
            self._due = now + self.period if self._left else None

    def next_timeout(self) -> float | None:
        return self._due

    def poll_transmit(self) -> Transmit | None:
        return self._out.popleft() if self._out else None

    def poll_event(self) -> str | None:
        return self._events.popleft() if self._events else None

    def connection_made(self, now: float) -> None:
        self._texts.append("hello")

    def connection_lost(self, now: float) -> None:
        self._events.append("lost")

    def receive_message(self, text: str, now: float) -> None:
        self._events.append(f"text {text}")

    def poll_message(self) -> str | None:
        return self._texts.popleft() if self._texts else None


def two_hosts() -> tuple[Network, object, object]:
    network = Network(1)
    core = network.router("core")
    one, two = network.host("one"), network.host("two")
    network.connect(one, core, A.host, "192.0.2.3")
    network.connect(two, core, B.host)
    return network, one, two


def test_a_command_is_sent_answered_and_told_of() -> None:
    network, one, two = two_hosts()
    left, right = attach(network, Echo(), one, [A]), attach(network, Echo(), two, [B])
    left.do(left.core.start, Path(A, B))
    network.run()
    assert right.events == ["start"]
    assert left.events == ["answer"]
    assert right.drops.total == 0


def test_a_core_may_own_several_sockets_of_its_host() -> None:
    """The local part of the path says which socket sends and which one received."""
    network, one, two = two_hosts()
    second = Address("192.0.2.3", 1001)
    left, right = Echo(), Echo()
    driver = attach(network, left, one, [A, second])
    attach(network, right, two, [B])
    for local in (A, second):
        driver.do(left.start, Path(local, B))
    network.run()
    assert [path.local for _, _, path in left.log] == [A, second]
    assert [path.remote for _, _, path in right.log] == [A, second]


def test_sockets_come_and_go() -> None:
    network, one, two = two_hosts()
    left = Echo()
    driver = attach(network, left, one, [A])
    attach(network, Echo(), two, [B])
    extra = driver.bind(0)
    driver.do(left.start, Path(extra, B))
    network.run()
    assert driver.events == ["answer"]
    driver.unbind(extra)
    driver.do(left.start, Path(extra, B))
    network.run()
    assert one.drops.counts == {"core sent from a socket that is not open": 1}


def test_timers_ring_on_virtual_time() -> None:
    network, one, _ = two_hosts()
    core, rings = Echo(wakes=3, period=10.0), []
    driver = attach(network, core, one, [A], lambda event: rings.append((network.now - START, event)))
    driver.do(core.start, Path(A, B))
    network.run()
    assert rings == [(10.0, "tick"), (20.0, "tick"), (30.0, "tick")]


def test_an_event_callback_may_give_commands() -> None:
    network, one, two = two_hosts()
    left, right, heard = Echo(), Echo(), []

    def on_event(event: str) -> None:
        heard.append(event)
        if len(heard) < 3:
            driver.do(left.start, Path(A, B))

    driver = attach(network, left, one, [A], on_event)
    attach(network, right, two, [B])
    driver.do(left.start, Path(A, B))
    network.run()
    assert heard == ["answer"] * 3


def test_messages_go_through_a_channel_both_ways() -> None:
    network, one, two = two_hosts()
    channel = network.channel(one, two, 0.1)
    left, right = Echo(), Echo()
    driver = attach(network, left, one, [A], messages=left, end=channel.a)
    other = attach(network, right, two, [B], messages=right, end=channel.b)
    network.run()
    channel.cut()
    network.run()
    assert driver.events == other.events == ["text hello", "lost"]


def test_a_closed_driver_is_dead() -> None:
    network, one, two = two_hosts()
    channel = network.channel(one, two, 0.1)
    core = Echo(wakes=5)
    driver = attach(network, core, one, [A], messages=core, end=channel.a)
    driver.do(core.start, Path(A, B))
    driver.close()
    driver.flush()
    network.run()
    assert driver.events == []
    assert len(network.clock) == 0


class Spinner(Echo):
    def handle_timeout(self, now: float) -> None:
        self.log.append(now)


class Fountain(Echo):
    """Yields for ever, from one of its polls."""

    def __init__(self, poll: str, value: object) -> None:
        super().__init__()
        setattr(self, poll, lambda: value)


def test_a_timeout_that_does_not_move_on_is_an_error() -> None:
    network, one, _ = two_hosts()
    core = Spinner(wakes=1)
    driver = attach(network, core, one, [A])
    driver.do(core.start, Path(A, B))
    with pytest.raises(SimulationError, match="is not after handle_timeout"):
        network.run()


@pytest.mark.parametrize(
    ("poll", "value", "words"),
    [
        ("poll_transmit", Transmit(b"", Path(B, A)), "datagrams at once"),
        ("poll_message", "x", "messages at once"),
        ("poll_event", "x", "still yields"),
    ],
)
def test_a_poll_that_never_ends_is_an_error(poll: str, value: object, words: str) -> None:
    network, one, two = two_hosts()
    channel = network.channel(one, two, 0.1)
    core = Fountain(poll, value)
    with pytest.raises(SimulationError, match=words):
        attach(network, core, one, [A], messages=core, end=channel.a)


def test_real_cores_run_unchanged() -> None:
    network, one, two = two_hosts()
    client = BindingClient(B, A, random_bytes=one.random_bytes, now=network.now)
    driver = attach(network, client, one, [A])
    attach(network, BindingServer(), two, [B])
    network.run()
    assert driver.events == [MappedAddress(A, B, 0.0)]
