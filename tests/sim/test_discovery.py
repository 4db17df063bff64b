"""Behaviour discovery through the model NATs: what is found out is what the NAT was built to do."""

from __future__ import annotations

import pytest

from natwalk.core import Address
from natwalk.nat import (
    KINDS,
    Allocation,
    Filtering,
    Hairpin,
    KindSpec,
    Mapping,
    NatConfig,
)
from natwalk.sim import attach
from natwalk.sim.internet import SERVER, SERVER_ALTERNATE, Internet, two_peers
from natwalk.stun import Behaviour, BehaviourDiscovery, BindingServer, NatBehaviour, Step
from natwalk.stun.lifetime import LifetimeProbe, MappingLifetime

PRIMARY, ALTERNATE = Address(SERVER, 3478), Address(SERVER_ALTERNATE, 3479)


def discover(internet: Internet, *, second: bool = False) -> NatBehaviour:
    """What peer a finds out; at most two minutes of virtual time."""
    network, host = internet.network, internet.a.host
    behaviour = Behaviour(PRIMARY, ALTERNATE)
    attach(network, BindingServer(behaviour=behaviour), internet.server, behaviour.local_addresses)
    sockets = [Address(host.address, 5000), Address(host.address, 5001)]
    core = BehaviourDiscovery(
        PRIMARY,
        sockets[0],
        random_bytes=host.random_bytes,
        now=network.now,
        second=sockets[1] if second else None,
    )
    driver = attach(network, core, host, sockets)
    network.run_for(120, stop=lambda: isinstance((driver.events or [None])[-1], NatBehaviour))
    *steps, found = driver.events
    driver.close()
    assert all(isinstance(step, Step) for step in steps)
    assert isinstance(found, NatBehaviour), internet.network.trace.text()
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_recognised(kind: str) -> None:
    """The name, the mapping and the filtering of every kind users know; behind a carrier, of both layers."""
    found = discover(two_peers(kind, "none", seed=11))
    spec = KINDS[kind]
    nats = [layer for layer in spec.layers if isinstance(layer, NatConfig)]
    assert found.translated is spec.translates
    if kind == "udp-blocked":
        assert found.classic == "UDP blocked"
        return
    expected = {"cgnat": "port restricted cone"}.get(kind, spec.classic)
    assert found.classic == expected
    assert found.unknown == ()
    assert found.rtt == pytest.approx(0.043, abs=0.01)
    if nats:
        assert found.mapping is not None
        assert found.mapping.value == nats[0].mapping.value
        assert found.filtering is not None
        assert found.filtering.value == nats[0].filtering.value


def nat(mapping: Mapping, filtering: Filtering, hairpin: Hairpin = Hairpin.NONE) -> KindSpec:
    allocation = Allocation.PRESERVE if mapping is Mapping.ENDPOINT_INDEPENDENT else Allocation.RANDOM
    config = NatConfig(mapping=mapping, filtering=filtering, allocation=allocation, hairpin=hairpin)
    return KindSpec("test", "test", (config,))


@pytest.mark.parametrize("mapping", Mapping)
@pytest.mark.parametrize("filtering", Filtering)
def test_every_mapping_with_every_filtering(mapping: Mapping, filtering: Filtering) -> None:
    found = discover(two_peers(nat(mapping, filtering), "none", seed=5))
    assert found.mapping is not None
    assert found.filtering is not None
    assert (found.mapping.value, found.filtering.value) == (mapping.value, filtering.value)
    assert found.unknown == ()


@pytest.mark.parametrize("filtering", Filtering)
@pytest.mark.parametrize("hairpin", Hairpin)
def test_hairpinning_is_seen(filtering: Filtering, hairpin: Hairpin) -> None:
    """RFC 4787 §6; a NAT that sends hairpinned packets on with their internal source counts: they arrive."""
    spec = nat(Mapping.ENDPOINT_INDEPENDENT, filtering, hairpin)
    found = discover(two_peers(spec, "none", seed=5), second=True)
    assert found.hairpinning is (hairpin is not Hairpin.NONE)


def test_hairpinning_of_a_symmetric_nat_stays_unknown() -> None:
    found = discover(two_peers("symmetric", "none", seed=5), second=True)
    assert found.hairpinning is None
    assert found.unknown == ("hairpinning: only the server knows the mapped address",)


@pytest.mark.parametrize("kind", ["full-cone", "address-restricted", "port-restricted", "symmetric"])
def test_loss_does_not_mislead(kind: str) -> None:
    """With a fifth of all packets lost each way, the answer is right all the same."""
    right = 0
    for seed in range(20):
        internet = two_peers(kind, "none", seed=seed)
        internet.a.access.configure(loss=0.2)
        right += discover(internet).classic == KINDS[kind].classic
    assert right >= 19


def test_it_takes_ten_seconds_at_most() -> None:
    internet = two_peers("port-restricted", "none", seed=3)
    start = internet.network.now
    discover(internet)
    assert internet.network.now - start < 10.0


@pytest.mark.parametrize("mapping", Mapping)
@pytest.mark.parametrize("idle", [17.0, 30.0, 120.0, 400.0])
def test_the_lifetime_of_idle_mappings_is_found(mapping: Mapping, idle: float) -> None:
    """RFC 5780 §4.6, within two seconds of what the NAT was built with."""
    config = NatConfig(mapping=mapping, allocation=Allocation.RANDOM, idle_timeout=idle)
    internet = two_peers(KindSpec("test", "test", (config,)), "none", seed=9)
    network, host = internet.network, internet.a.host
    behaviour = Behaviour(PRIMARY, ALTERNATE)
    attach(network, BindingServer(behaviour=behaviour), internet.server, behaviour.local_addresses)
    sockets = [Address(host.address, 5000), Address(host.address, 5001)]
    core = LifetimeProbe(PRIMARY, *sockets, random_bytes=host.random_bytes, now=network.now)
    driver = attach(network, core, host, sockets)
    network.run_for(3600, stop=lambda: isinstance((driver.events or [None])[-1], MappingLifetime))
    found = driver.events[-1]
    assert isinstance(found, MappingLifetime)
    if idle > 300:
        assert found == MappingLifetime(300.0)
        return
    assert found.less_than is not None
    assert found.at_least <= idle <= found.less_than <= found.at_least + 2.0
