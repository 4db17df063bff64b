"""PathManager: two of them on virtual time, without QUIC above and without a mailbox between."""

from collections.abc import Callable

import pytest

from conformance import CoreConformance
from natwalk.core import Address, LocalProtocolError, Path
from natwalk.ice import Candidate, IceConfig, IceParameters
from natwalk.path import (
    LocalCandidate,
    LocalCandidatesEnd,
    LocalDescription,
    NoPath,
    PathChanged,
    PathEvent,
    PathKind,
    PathLost,
    PathManager,
    PathReady,
    Received,
    SocketsReleased,
    SocketsWanted,
)
from natwalk.path.fragment import MARK
from natwalk.path.manager import REPAIR_SILENCE
from natwalk.sim.driver import Driver
from natwalk.sim.ice import LISTENER, PASSWORD, USER, serve
from natwalk.sim.internet import Internet, Site, two_peers

CONFIG = IceConfig(ta=0.02, patience=15.0, early_failure=15.0, stun_servers=(LISTENER,))
QUIC = b"\x40"
"""What a QUIC short header begins with."""


class Side:
    """A PathManager on a simulated host; its signalling is handed straight to the other side."""

    def __init__(self, internet: Internet, site: Site, config: IceConfig, *, controlling: bool) -> None:
        self.network = internet.network
        self.site = site
        self.core = PathManager(config, controlling=controlling, random_bytes=site.host.random_bytes)
        self.history: list[PathEvent] = []
        self.received: list[bytes] = []
        self.other: Side | None = None
        self.deaf = False
        self._sockets: dict[int, list[Address]] = {}
        self.driver: Driver[PathEvent] = Driver(internet.network, self.core, site.host, self._on_event)
        self.driver.use(self.core)

    def last(self, kind: type[PathEvent]) -> PathEvent | None:
        return next((event for event in reversed(self.history) if isinstance(event, kind)), None)

    def send(self, *datagrams: bytes) -> None:
        self.driver.do(self.core.send_many, list(datagrams))

    def hear(self, command: Callable[..., None], *args: object) -> None:
        """Signalling from the other side, one network delay later."""
        self.network.after(0.04, lambda: None if self.deaf else self.driver.do(command, *args))

    def _on_event(self, event: PathEvent) -> None:
        self.history.append(event)
        other = self.other
        assert other is not None
        match event:
            case SocketsWanted(generation=generation):
                for host in self.site.host.addresses:
                    address = self.driver.bind(0, str(host))
                    self._sockets.setdefault(generation, []).append(address)
                    self.driver.do(self.core.add_local_address, generation, address)
                self.driver.do(self.core.end_of_local_addresses, generation)
            case SocketsReleased(generation=generation):
                for address in self._sockets.pop(generation, ()):
                    self.driver.unbind(address)
            case LocalDescription(generation=generation, parameters=parameters):
                other.hear(other.core.set_remote_parameters, generation, parameters)
            case LocalCandidate(generation=generation, candidate=candidate):
                other.hear(
                    other.core.add_remote_candidate, generation, Candidate.from_sdp(candidate.to_sdp())
                )
            case LocalCandidatesEnd(generation=generation):
                other.hear(other.core.end_of_remote_candidates, generation)
            case Received(data=data):
                self.received.append(data)
            case _:
                pass


def two_sides(a: str = "none", b: str = "none", *, relay: bool = True) -> tuple[Internet, Side, Side]:
    internet = two_peers(a, b, seed=5)
    serve(internet)
    config = CONFIG
    if relay:
        from dataclasses import replace

        from natwalk.ice import TurnServerAddress

        config = replace(CONFIG, turn_servers=(TurnServerAddress(LISTENER, USER, PASSWORD),))
    one = Side(internet, internet.a, config, controlling=True)
    two = Side(internet, internet.b, config, controlling=False)
    one.other, two.other = two, one
    for side in (one, two):
        side.driver.do(side.core.start)
    return internet, one, two


def settled(internet: Internet, one: Side, two: Side, within: float = 20.0) -> None:
    assert internet.network.run_for(within, stop=lambda: bool(one.last(PathReady) and two.last(PathReady))), (
        "no path became ready"
    )


def exchange(internet: Internet, one: Side, two: Side, within: float = 5.0) -> None:
    """Data both ways, repeated as QUIC would, until both have something new."""
    marks = (len(one.received), len(two.received))

    def both() -> bool:
        return len(one.received) > marks[0] and len(two.received) > marks[1]

    for _ in range(round(within / 0.25)):
        one.send(QUIC + b"from one")
        two.send(QUIC + b"from two")
        if internet.network.run_for(0.25, stop=both):
            return
    raise AssertionError("data did not pass both ways")


def test_the_first_path_is_announced_ready_with_its_mtu() -> None:
    internet, one, two = two_sides()
    settled(internet, one, two)
    ready = one.last(PathReady)
    assert isinstance(ready, PathReady)
    assert (ready.info.kind, ready.info.mtu) == (PathKind.DIRECT, 1472)
    assert ready.info == one.core.info
    exchange(internet, one, two)


def test_order_within_one_burst_is_kept() -> None:
    internet, one, two = two_sides()
    settled(internet, one, two)
    sent = [QUIC + bytes([n]) * 50 for n in range(100)]
    one.send(*sent)
    internet.network.run_for(1.0)
    assert two.received == sent


def test_a_datagram_wider_than_the_path_arrives_whole() -> None:
    internet, one, two = two_sides("symmetric", "symmetric")
    settled(internet, one, two)
    wide = QUIC + bytes(range(256)) * 20
    one.send(wide)
    internet.network.run_for(1.0)
    assert two.received == [wide]


def test_bulk_is_admitted_past_ice_only_from_validated_flows() -> None:
    internet, one, two = two_sides()
    settled(internet, one, two)
    assert one.core.info is not None
    flow = Path(one.core.info.local, one.core.info.remote)
    now = internet.network.now
    assert one.core.admit(flow, [QUIC + b"x", b"\xc0long header"], now)
    assert not one.core.admit(Path(flow.local, Address("203.0.113.99", 5)), [QUIC], now)
    for first in (b"", b"\x00", b"\x3f", bytes([MARK])):
        assert not one.core.admit(flow, [QUIC, first + b"x" * 30 if first else b""], now)


def test_a_dead_direct_path_is_left_for_the_relay_within_seconds() -> None:
    internet, one, two = two_sides()
    settled(internet, one, two)
    internet.network.run_for(3.0)
    ends = {internet.a.public, internet.b.public}
    internet.core.block(lambda packet: {packet.source.host, packet.destination.host} == ends)
    cut_at = internet.network.now
    exchange(internet, one, two, within=15.0)
    assert internet.network.now - cut_at < 8.0
    assert one.core.info is not None
    assert one.core.info.kind is PathKind.RELAY
    assert isinstance(one.last(PathChanged), PathChanged)
    internet.core.block(None)
    healed_at = internet.network.now
    for _ in range(120):
        exchange(internet, one, two)
        internet.network.run_for(0.25)
        if one.core.info.kind is PathKind.DIRECT and two.core.info and two.core.info.kind is PathKind.DIRECT:
            break
    assert one.core.info.kind is PathKind.DIRECT, (
        f"still on the relay {internet.network.now - healed_at} s later"
    )


def test_a_lost_path_is_repaired_on_fresh_sockets() -> None:
    internet, one, two = two_sides("port-restricted", "port-restricted", relay=False)
    settled(internet, one, two)
    old = one.core.info
    assert old is not None
    # Every flow over the old ports is swallowed for good, as by a NAT that was replaced.
    ports = {old.local.port, old.remote.port}
    internet.core.block(lambda packet: {packet.source.port, packet.destination.port} <= ports)
    exchange(internet, one, two, within=40.0)
    assert isinstance(one.last(PathLost), PathLost)
    new = one.core.info
    assert new is not None
    assert new.local.port != old.local.port
    assert SocketsReleased(0) in one.history
    assert SocketsReleased(0) in two.history


def test_a_peer_that_is_silent_everywhere_is_given_up() -> None:
    internet, one, two = two_sides()
    settled(internet, one, two)
    two.driver.close()
    two.deaf = True
    one.send(QUIC)
    gone_at = internet.network.now
    assert internet.network.run_for(60.0, stop=lambda: one.last(NoPath) is not None)
    assert internet.network.now - gone_at < 25.0 + REPAIR_SILENCE


def test_without_a_path_there_is_a_reason() -> None:
    internet, one, two = two_sides("udp-blocked", "none")
    assert internet.network.run_for(30.0, stop=lambda: bool(one.last(NoPath) and two.last(NoPath)))
    event = one.last(NoPath)
    assert isinstance(event, NoPath)
    assert "UDP" in event.reason
    assert one.core.why_none() == event.reason


def test_closing_releases_the_sockets_and_drops_what_comes_later() -> None:
    internet, one, two = two_sides()
    settled(internet, one, two)
    one.driver.do(one.core.close)
    assert SocketsReleased(0) in one.history
    before = one.core.drops.total
    one.core.receive(QUIC, Path(Address("198.51.100.10", 1), Address("192.0.2.10", 2)), internet.network.now)
    assert one.core.drops.total > before


def test_starting_twice_is_refused() -> None:
    core = PathManager(CONFIG, controlling=True, random_bytes=bytes)
    assert core.why_none() == "it was not started"
    core.start(0.0)
    with pytest.raises(LocalProtocolError, match="started already"):
        core.start(0.0)


def test_sending_without_a_path_is_a_counted_drop() -> None:
    core = PathManager(CONFIG, controlling=True, random_bytes=bytes)
    core.start(0.0)
    core.send(QUIC, 0.0)
    assert core.drops.counts["no path to send on"] == 1


def test_signalling_of_unknown_generations_changes_nothing() -> None:
    core = PathManager(CONFIG, controlling=True, random_bytes=lambda n: bytes(range(n)))
    core.start(0.0)
    core.add_local_address(7, Address("192.0.2.1", 5), 0.0)
    core.end_of_local_addresses(7, 0.0)
    core.end_of_remote_candidates(7, 0.0)
    core.set_remote_parameters(1 << 20, IceParameters("abcd", "x" * 22), 0.0)
    wanted = []
    while (event := core.poll_event()) is not None:
        wanted += [event] if isinstance(event, SocketsWanted) else []
    assert wanted == [SocketsWanted(0)]


class TestPathManagerConformance(CoreConformance):
    def make(self, now: float) -> PathManager:
        core = PathManager(CONFIG, controlling=True, random_bytes=lambda n: bytes(range(n)))
        core.start(now)
        core.add_local_address(0, Address("192.0.2.10", 40000), now)
        core.end_of_local_addresses(0, now)
        return core
