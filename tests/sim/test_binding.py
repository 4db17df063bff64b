"""STUN through each kind of NAT: the real client and server, and what a NAT does to what they learn."""

from __future__ import annotations

import pytest

from natwalk.core import Address
from natwalk.nat import KINDS, kind_spec
from natwalk.sim import Driver, attach
from natwalk.sim.internet import SERVER, SERVER_ALTERNATE, Internet, two_peers
from natwalk.stun import BindingClient, BindingFailed, BindingServer, MappedAddress

SERVERS = (Address(SERVER, 3478), Address(SERVER_ALTERNATE, 3478))


def ask(internet: Internet, port: int, server: Address) -> Driver[MappedAddress | BindingFailed]:
    """Peer a asks ``server`` from ``port``, now."""
    host, network = internet.a.host, internet.network
    local = Address(host.address, port)
    client = BindingClient(server, local, random_bytes=host.random_bytes, now=network.now)
    driver = attach(network, client, host, [local])
    network.run_for(60, stop=lambda: bool(driver.events))
    driver.close()
    return driver


def internet_with_stun(kind: str) -> Internet:
    internet = two_peers(kind, "none", seed=7)
    attach(internet.network, BindingServer(), internet.server, SERVERS)
    return internet


@pytest.mark.parametrize("kind", [kind for kind, spec in KINDS.items() if spec.passes_udp])
def test_each_kind_shows_its_mapping_to_two_servers(kind: str) -> None:
    """Endpoint-independent mapping gives both servers the same address, the other kind two."""
    internet = internet_with_stun(kind)
    seen = [ask(internet, 5000, server).events[0] for server in SERVERS]
    assert all(isinstance(event, MappedAddress) for event in seen), internet.network.trace.text()
    first, second = (event.address for event in seen)
    assert first.host == second.host == internet.a.public
    assert (first == second) is (kind != "symmetric")
    assert (first.host == internet.a.host.address) is not kind_spec(kind).translates
    # Two access-link delays and the links at both ends, there and back.
    assert 0.04 < seen[0].rtt < 0.05


def test_through_a_firewall_without_udp_the_client_gives_up_in_its_time() -> None:
    """Seven requests, the last followed by sixteen RTOs (RFC 8489 §6.2.1): 39.5 seconds."""
    internet = internet_with_stun("udp-blocked")
    start = internet.network.now
    driver = ask(internet, 5000, SERVERS[0])
    assert driver.events == [BindingFailed("the server did not answer")]
    assert internet.network.now - start == pytest.approx(39.5)
    assert internet.a.routers[0].drops.counts == {"UDP blocked": 7}


def test_a_mapping_unused_for_its_time_is_another_one_afterwards() -> None:
    internet = internet_with_stun("symmetric")
    one = ask(internet, 5000, SERVERS[0]).events[0]
    internet.network.run_for(29.0)
    two = ask(internet, 5000, SERVERS[0]).events[0]
    internet.network.run_for(31.0)
    three = ask(internet, 5000, SERVERS[0]).events[0]
    assert one.address == two.address != three.address


@pytest.mark.parametrize("loss", [0.2, 0.5])
def test_retransmission_gets_it_through_a_lossy_link(loss: float) -> None:
    answered = 0
    for seed in range(20):
        internet = two_peers("port-restricted", "none", seed=seed)
        internet.a.access.configure(loss=loss)
        attach(internet.network, BindingServer(), internet.server, SERVERS)
        answered += isinstance(ask(internet, 5000, SERVERS[0]).events[0], MappedAddress)
    assert answered >= 15
