"""Each kind of NAT, measured from inside with plain UDP sockets, is what its name says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from natwalk.lab.kinds import port_mask_of, ruleset
from natwalk.nat import KINDS, Allocation, Filtering, FirewallConfig, Mapping, NatConfig, kind_spec

TRANSLATING = [name for name, spec in KINDS.items() if spec.translates]
ENDPOINT_INDEPENDENT = [name for name in TRANSLATING if name != "symmetric"]
KEEPS_PORTS = ["full-cone", "address-restricted", "port-restricted"]

# Which of the server's other sockets reach the host after it has sent to x1 only.
FILTERING = {
    "full-cone": {"x1", "x2", "y1"},
    "address-restricted": {"x1", "x2"},
    "port-restricted": {"x1"},
    "symmetric": {"x1"},
    "cgnat": {"x1"},
}

TCP_SERVER = """
import socket
listener = socket.create_server(("203.0.113.10", 80))
print("up", flush=True)
listener.accept()
"""
TCP_CLIENT = "import socket; print(socket.create_connection(('203.0.113.10', 80), 5).getpeername()[1])"


def test_every_translating_kind_has_a_row_in_the_filtering_table() -> None:
    assert set(FILTERING) == set(TRANSLATING)


@pytest.mark.lab
@pytest.mark.parametrize("kind", ENDPOINT_INDEPENDENT)
def test_endpoint_independent_mapping_shows_one_public_port_to_every_destination(build, kind) -> None:
    with build(kind) as world:
        assert len({world.mapped(name) for name in world.SERVER}) == 1


@pytest.mark.lab
def test_symmetric_mapping_shows_another_public_port_to_every_destination(build) -> None:
    with build("symmetric") as world:
        seen = [world.mapped(name) for name in world.SERVER]
        again = [world.mapped(name) for name in world.SERVER]
        assert len({port for _, port in seen}) == len(seen)
        assert {host for host, _ in seen} == {"198.51.100.2"}
        assert again == seen, "a mapping stays while it is used"


@pytest.mark.lab
@pytest.mark.parametrize("kind", KEEPS_PORTS)
def test_simple_home_routers_keep_the_port(build, kind) -> None:
    with build(kind) as world:
        assert world.mapped("x1") == ("198.51.100.2", world.a_local[1])


@pytest.mark.lab
@pytest.mark.parametrize("kind", FILTERING)
def test_filtering(build, kind) -> None:
    with build(kind) as world:
        public = world.mapped("x1")
        reached = {name for name in ("x1", "x2", "y1") if world.lets_in(name, public, f"from {name}")}
        assert reached == FILTERING[kind]


@pytest.mark.lab
def test_a_carrier_nat_puts_two_translations_between_and_moves_the_port(build) -> None:
    with build("cgnat") as world:
        host, port = world.mapped("x1")
        assert host == "198.51.100.2"
        assert port != world.a_local[1]
        assert [router.address for router in world.lab.routers_a] == ["100.64.1.2", "198.51.100.2"]


@pytest.mark.lab
def test_no_nat_is_a_public_address_that_everybody_reaches(build) -> None:
    with build("none") as world:
        assert world.mapped("x1") == world.a_local == (world.lab.a.address, world.a_local[1])
        assert world.lets_in("y2", world.a_local, "unasked")


@pytest.mark.lab
def test_blocked_udp_goes_nowhere_and_tcp_passes(build) -> None:
    with build("udp-blocked", "none") as world:
        world.a.send("a", world.SERVER["x1"])
        assert world.server.receive("x1", within=0.3) is None
        server = world.lab.server.popen([sys.executable, "-c", TCP_SERVER], stdout=subprocess.PIPE)
        assert server.stdout.readline() == b"up\n"
        server.stdout.close()
        assert world.lab.a.run([sys.executable, "-c", TCP_CLIENT]).stdout == "80\n"


@pytest.mark.lab
@pytest.mark.parametrize("kind", ["address-restricted", "port-restricted", "symmetric"])
def test_an_early_probe_from_the_peer_does_not_move_the_later_mapping(build, kind) -> None:
    """Plain Linux conntrack would confirm the stranger's entry and then choose another port (poisoning)."""
    with build(kind) as world:
        host, port = world.mapped("x1")
        world.server.send("y1", (host, port), "early")
        assert world.a.receive("a", within=0.2) is None
        later = world.mapped("y1")
        assert later == (host, port) if kind != "symmetric" else later[1] != port
        assert world.lets_in("y1", later, "now asked for")


@pytest.mark.lab
def test_without_the_guard_an_early_probe_does_move_the_mapping(build) -> None:
    """The control of the test above: this kernel poisons, so the guard is what prevents it."""
    with build("port-restricted") as world:
        host, port = world.mapped("x1")
        world.lab.nat_a.nft("flush chain ip natwalk guard")
        world.server.send("y1", (host, port), "early")
        assert world.a.receive("a", within=0.2) is None
        assert world.mapped("y1") != (host, port)


@pytest.mark.lab
@pytest.mark.parametrize("kind", ["port-restricted", "address-restricted", "full-cone"])
def test_two_hosts_punch_through_to_each_other(build, kind) -> None:
    with build(kind, kind) as world:
        public_a, public_b = world.mapped("x1", "a"), world.mapped("x1", "b")
        world.a.send("a", public_b, "first, lost unless full cone")
        world.b.send("b", public_a, "second")
        assert world.a.receive("a") == (public_b, "second")
        world.a.send("a", public_b, "third")
        heard = {world.b.receive("b")[1]}
        if kind == "full-cone":
            heard.add(world.b.receive("b")[1])
        assert "third" in heard


@pytest.mark.lab
def test_full_cone_lets_the_host_answer_whoever_came_in_from_the_same_public_port(build) -> None:
    with build("full-cone") as world:
        public = world.mapped("x1")
        assert world.lets_in("y2", public, "stranger")
        assert world.mapped("y2") == public


@pytest.mark.lab
def test_there_is_no_hairpin(build) -> None:
    with build("full-cone", same_lan=True) as world:
        public_b = world.mapped("x1", "b")
        world.a.send("a", public_b)
        assert world.b.receive("b", within=0.3) is None


@pytest.mark.lab
def test_hosts_on_one_lan_reach_each_other_directly(build) -> None:
    with build("symmetric", same_lan=True) as world:
        world.a.send("a", world.b_local, "neighbour")
        assert world.b.receive("b") == (world.a_local, "neighbour")
        assert world.lab.nat_a is world.lab.nat_b


@pytest.mark.lab
def test_packets_to_private_addresses_vanish_in_the_internet(build) -> None:
    with build("port-restricted", "port-restricted") as world:
        world.a.send("a", world.b_local)
        assert world.b.receive("b", within=0.3) is None
        assert world.mapped("x1"), "and no ICMP error came back to the socket"


def test_a_behaviour_the_lab_does_not_have_is_refused() -> None:
    odd = NatConfig(mapping=Mapping.ADDRESS_DEPENDENT, filtering=Filtering.ADDRESS_DEPENDENT)
    with pytest.raises(ValueError, match="the lab has no NAT with"):
        ruleset(odd, "198.51.100.2", 0)


def test_a_firewall_that_passes_udp_has_no_rule_against_it() -> None:
    assert "udp drop" in ruleset(FirewallConfig(udp=False), "198.51.100.2", 0)
    assert "udp drop" not in ruleset(FirewallConfig(udp=True), "198.51.100.2", 0)


def test_the_carrier_layer_moves_ports_and_home_layers_keep_them() -> None:
    home, carrier = kind_spec("cgnat").layers
    assert port_mask_of(home) == 0
    assert port_mask_of(carrier) != 0
    assert isinstance(carrier, NatConfig)
    assert carrier.allocation is Allocation.RANDOM
    assert "udp sport xor 0x2000" in ruleset(carrier, "198.51.100.2", port_mask_of(carrier))
