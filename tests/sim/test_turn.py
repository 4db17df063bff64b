"""TURN through each kind of NAT: the real client and server, relay sockets on the simulated host."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from natwalk.core import Address
from natwalk.nat import KINDS
from natwalk.sim import Driver, attach
from natwalk.sim.internet import SERVER, Internet, Site, two_peers
from natwalk.sim.turn import attach_turn_server
from natwalk.turn import (
    AllocationFailed,
    Closed,
    FlowAdded,
    PasswordCredentials,
    PeerData,
    PeerPolicy,
    RelayReleased,
    RelayWanted,
    TurnClient,
    TurnClientEvent,
    TurnConfig,
    TurnServer,
)

LISTENER = Address(SERVER, 3478)
DOCUMENTATION = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")
PASSING = [kind for kind, spec in KINDS.items() if spec.passes_udp]


def serve(internet: Internet, port_range: tuple[int, int] = (50000, 50999)) -> Driver[object]:
    config = TurnConfig(
        users={"user": "secret"},
        relay_addresses=(SERVER,),
        policy=PeerPolicy(allow=DOCUMENTATION),
        port_range=port_range,
        nonce_secret=b"n" * 32,
    )
    server = TurnServer(config, random_bytes=internet.server.random_bytes)
    return attach_turn_server(internet.network, server, internet.server, [LISTENER])


class Client:
    """A TURN client on a peer's host."""

    def __init__(self, internet: Internet, site: Site) -> None:
        self.network = internet.network
        local = Address(site.host.address, 5000)
        self.core = TurnClient(
            LISTENER,
            local,
            PasswordCredentials("user", "secret"),
            random_bytes=site.host.random_bytes,
        )
        self.driver: Driver[TurnClientEvent] = attach(self.network, self.core, site.host, [local])
        self.driver.do(self.core.allocate)

    @property
    def data(self) -> list[bytes]:
        return [event.data for event in self.driver.events if isinstance(event, PeerData)]

    def settle(self, done: Callable[[], bool], seconds: float = 60.0) -> None:
        assert self.network.run_for(seconds, stop=done), self.network.trace.text(200)


@pytest.mark.parametrize("kind_b", PASSING)
@pytest.mark.parametrize("kind_a", PASSING)
def test_two_relayed_peers_reach_each_other_behind_any_nats(kind_a: str, kind_b: str) -> None:
    """Relay to relay on one server: nothing depends on what the NATs let in."""
    internet = two_peers(kind_a, kind_b, seed=3)
    serve(internet)
    a, b = Client(internet, internet.a), Client(internet, internet.b)
    a.settle(lambda: bool(a.core.relayed and b.core.relayed))
    assert a.core.mapped is not None
    assert a.core.mapped.host == internet.a.public
    for n in range(20):
        a.driver.do(a.core.send, b"to b %d" % n, b.core.relayed)
        b.driver.do(b.core.send, b"to a %d" % n, a.core.relayed)
        internet.network.run_for(0.5)
    assert len(a.data) >= 19
    assert len(b.data) >= 19
    assert b.data[-1] == b"to b 19"


def test_a_bound_channel_is_a_flow_the_server_announces() -> None:
    internet = two_peers("symmetric", "symmetric", seed=3)
    server = serve(internet)
    a, b = Client(internet, internet.a), Client(internet, internet.b)
    a.settle(lambda: bool(a.core.relayed and b.core.relayed))
    a.driver.do(a.core.bind_channel, b.core.relayed)
    a.settle(lambda: any(isinstance(event, FlowAdded) for event in server.events))
    flow = next(event for event in server.events if isinstance(event, FlowAdded))
    assert (flow.client, flow.relay, flow.peer) == (a.core.mapped, a.core.relayed, b.core.relayed)


def test_an_allocation_outlives_the_nat_timer_by_hours_and_ends_when_told() -> None:
    """Refreshes keep it, though far apart: the relay works again as soon as the client sends."""
    internet = two_peers("port-restricted", "none", seed=3)
    server = serve(internet)
    a = Client(internet, internet.a)
    a.settle(lambda: bool(a.core.relayed))
    internet.network.run_for(2 * 3600)
    assert a.core.relayed is not None
    a.driver.do(a.core.close)
    a.settle(lambda: any(isinstance(event, Closed) for event in a.driver.events))
    assert any(isinstance(event, RelayReleased) for event in server.events)


def test_without_udp_there_is_no_allocation() -> None:
    internet = two_peers("udp-blocked", "none", seed=3)
    serve(internet)
    a = Client(internet, internet.a)
    a.settle(lambda: bool(a.driver.events))
    assert isinstance(a.driver.events[0], AllocationFailed)


def test_a_port_in_use_makes_the_server_try_another() -> None:
    tries = []
    for seed in range(10):
        internet = two_peers("none", "none", seed=seed)
        for port in (50000, 50001):
            internet.server.bind(lambda data, source: None, port)
        server = serve(internet, port_range=(50000, 50002))
        a = Client(internet, internet.a)
        a.settle(lambda a=a: bool(a.driver.events))
        assert a.core.relayed == Address(SERVER, 50002)
        wanted = [event.address for event in server.events if isinstance(event, RelayWanted)]
        assert wanted[-1] == a.core.relayed
        tries.append(len(wanted))
    assert {1, 2, 3} == set(tries)


def test_no_free_port_at_all_is_told_to_the_client() -> None:
    """508 Insufficient Capacity (RFC 8656 §19)."""
    internet = two_peers("none", "none", seed=3)
    for port in range(50000, 50004):
        internet.server.bind(lambda data, source: None, port)
    serve(internet, port_range=(50000, 50003))
    a = Client(internet, internet.a)
    a.settle(lambda: bool(a.driver.events))
    failed = a.driver.events[0]
    assert isinstance(failed, AllocationFailed)
    assert failed.code == 508


def test_the_same_seed_gives_the_same_bytes() -> None:
    def run() -> tuple[str, list[bytes]]:
        internet = two_peers("symmetric", "cgnat", seed=11)
        serve(internet)
        a = Client(internet, internet.a)
        a.settle(lambda: bool(a.core.relayed))
        internet.network.run_for(1200)
        payloads = [r.packet.payload for r in internet.network.trace.records if r.packet is not None]
        return internet.network.trace.text(), payloads

    assert run() == run()
