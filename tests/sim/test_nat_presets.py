"""Real ICE agents behind every preset that passes UDP and IPv4: what its mapping and filtering promise."""

from __future__ import annotations

import pytest

from natwalk.core import Address
from natwalk.nat import (
    PRESETS,
    Firewall,
    Group,
    Nat64Config,
    Outcome,
    ServiceQuirk,
    expected,
    preset,
)
from natwalk.sim import SimulationError, sequence
from natwalk.sim.ice import IceMeeting
from natwalk.sim.internet import two_peers

NOT_HERE = {
    "pings-only": "the last test",
    "home-ipv6": "IPv6 only",
    "corporate-web": "UDP to names and clocks only",
    "hotel-web": "UDP to names only",
}
NAMES = [
    name
    for name, spec in PRESETS.items()
    if spec.group is not Group.KIND
    and spec.passes_udp
    and name not in NOT_HERE
    and not any(isinstance(layer, Nat64Config) for layer in spec.layers)
]


def meet(name: str, other: str) -> Outcome:
    internet = two_peers(preset(name), preset(other), seed=7)
    for router in internet.a.routers:
        if isinstance(router.box, Firewall) and router.box.config.portal is not None:
            router.box.sign_in(internet.a.host.address, 0.0)
    result = IceMeeting(internet).run()
    assert result.outcome is not Outcome.NONE, sequence(internet.network.trace)
    return result.outcome


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("peer", ["none", "address-restricted", "port-restricted"])
def test_it_ends_up_where_the_kind_it_behaves_like_does(name: str, peer: str) -> None:
    assert meet(name, peer) is expected(name, peer)


def test_where_only_pings_pass_a_direct_pair_looks_fine_and_carries_nothing() -> None:
    """tailscale#19457: why a path is judged on its data as well."""
    meeting = IceMeeting(two_peers(preset("pings-only"), "none", seed=7))
    with pytest.raises(SimulationError, match="no data"):
        meeting.run()
    assert meeting.direct


WITH_NAT_PMP = [name for name, spec in PRESETS.items() if spec.services and spec.services.nat_pmp]


@pytest.mark.parametrize("name", WITH_NAT_PMP)
def test_a_host_asks_its_router_for_a_port_and_strangers_get_in(name: str) -> None:
    """NAT-PMP on the simulated LAN, byte by byte; a reboot forgets the port."""
    internet = two_peers(preset(name), "none", seed=1)
    network, host, (router,) = internet.network, internet.a.host, internet.a.routers
    heard: list[tuple[bytes, Address]] = []
    socket = host.bind(lambda data, source: heard.append((data, source)), 5000)
    socket.send(bytes.fromhex("0001 0000 1388 1b58 00000e10"), Address("192.168.1.1", 5351))
    network.run_for(1.0)
    [(answer, asked)] = heard
    quirks = preset(name).services.quirks
    assert asked.port == (15351 if ServiceQuirk.REPLY_FROM_OTHER_PORT in quirks else 5351)
    assert answer[:4].hex() == "00810000"
    assert answer[8:].hex() == "13881b5800000e10"
    stranger = internet.b.host.bind(lambda data, source: None, 7)
    mapped = Address(internet.a.public, 7000)
    stranger.send(b"hello", mapped)
    network.run_for(1.0)
    assert heard[1:] == [(b"hello", stranger.address)]
    router.reboot()
    stranger.send(b"hello", mapped)
    network.run_for(1.0)
    assert len(heard) == 2
    assert router.gateway.leases(network.now) == ()
