"""Topology files: what they say, and that what is wrong in them is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from natwalk.lab.conditions import Conditions
from natwalk.lab.layout import LayoutError
from natwalk.lab.layout_file import parse_layout, read_layout
from natwalk.nat import Allocation, Mapping, NatConfig, preset

GOOD = """
title = "a home and a firm"

[network.core]
subnet = "203.0.113.0/24"
subnet6 = "2001:db8::/64"

[network.isp]
subnet = "198.51.100.0/24"

[network.home]
subnet = "192.168.1.0/24"

[network.office]
subnet = "10.0.0.0/24"

[nat.router]
kind = "port-restricted"
outside = "isp"
inside = "home"

[nat.firm]
outside = "isp"
inside = "office"
address = "198.51.100.9"
behaviour = { mapping = "address-and-port-dependent", allocation = "sequential", step = 2 }
cable = { delay-ms = 30, jitter-ms = 5, loss = 0.01, burst = 4, rate-mbit = 10 }

[host.alice]
network = "home"

[server.relay]
network = "core"
addresses = ["203.0.113.10", "203.0.113.11", "2001:db8::a"]
run = ["python3 -m http.server 80"]
"""


def test_a_good_file_says_what_is_where() -> None:
    layout = parse_layout(GOOD)
    router, firm = layout.nats
    assert (router.spec, router.engine, router.number) == (preset("port-restricted"), False, 2)
    (config,) = firm.spec.layers
    assert isinstance(config, NatConfig)
    assert (config.mapping, config.allocation, config.step) == (
        Mapping.ADDRESS_AND_PORT_DEPENDENT,
        Allocation.SEQUENTIAL,
        2,
    )
    assert firm.engine
    assert firm.number == 9
    assert firm.cable == Conditions(delay=0.03, jitter=0.005, loss=0.01, burst=4, rate=10e6)
    alice, relay = layout.hosts
    assert alice.numbers == (10,)
    assert relay.numbers == (10, 11)
    assert relay.run == (("python3", "-m", "http.server", "80"),)


def test_a_kind_may_be_changed_in_one_dimension() -> None:
    text = GOOD.replace('kind = "port-restricted"', 'kind = "linux"\nbehaviour = { idle-timeout = 5 }')
    (config,) = parse_layout(text).nats[0].spec.layers
    (linux,) = preset("linux").layers
    assert config.idle_timeout == 5
    assert config.share_ports is linux.share_ports is True


def test_nats_are_built_from_the_internet_inwards() -> None:
    text = GOOD + '[network.carrier]\nsubnet = "100.64.0.0/24"\n'
    text += '[nat.cgn]\nkind = "cgn-fixed"\noutside = "isp"\ninside = "carrier"\naddress = "198.51.100.3"\n'
    text = text.replace('outside = "isp"\ninside = "home"', 'outside = "carrier"\ninside = "home"', 1)
    names = [nat.name for nat in parse_layout(text).in_order()]
    assert names.index("cgn") < names.index("router")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title", "tilte", "unknown key 'tilte' in the file: known are title, network"),
        ("outside", "outsied", r"\[nat.router\]: unknown key 'outsied' in it"),
        ("delay-ms", "delay", "unknown key 'delay' in cable"),
        ("step = 2", "stap = 2", r"\[nat.firm\]: unknown key 'stap' of a nat"),
        ("sequential", "serial", "serial"),
        ("port-restricted", "conical", "'conical' is not a kind of NAT"),
        ('"198.51.100.9"', '"203.0.113.9"', "203.0.113.9 is not in network isp"),
        ('"198.51.100.9"', '"198.51.100.2"', "firm and router have the same address in isp"),
        (
            "[network.core]",
            '[network.x]\nsubnet = "8.8.8.0/24"\n[network.core]',
            "8.8.8.0/24 is not inside of 192.0.2.0/24",
        ),
        ('"192.168.1.0/24"', '"9.0.0.0/8"', "9.0.0.0/8 is not inside of"),
        ('network = "home"', 'network = "hone"', "there is no network 'hone'"),
        ('inside = "office"', 'inside = "home"', "network home is inside of router already"),
        ("[host.alice]", "[host.firm]", "two things called 'firm'"),
        ("[host.alice]", "[host.Alice]", "'Alice' is no name"),
        ('kind = "port-restricted"', "", "needs a kind, a behaviour or layers"),
        ('kind = "port-restricted"', 'kind = "linux"\nby = "kernel"', "the kernel cannot be linux"),
        ('kind = "port-restricted"', 'kind = "linux"\nby = "magic"', "by is 'kernel' or 'engine'"),
        ('kind = "port-restricted"', 'kind = "none"', "none is no NAT"),
        ('kind = "port-restricted"', 'kind = "nat64"', "home needs a subnet6 for nat64"),
        ('outside = "isp"\ninside = "home"', 'outside = "home"\ninside = "home"', "in a circle"),
        ("loss = 0.01", "loss = 7", "a loss of 7.0"),
        ('title = "a home and a firm"', "title = ", "not TOML"),
        ('subnet = "198.51.100.0/24"', "", "subnet is missing"),
        ("[network.core]", "[network]\ncore = 5\n[network.core2]", "network is written"),
    ],
)
def test_what_is_wrong_is_named(old, new, message) -> None:
    assert old in GOOD
    with pytest.raises(LayoutError, match=message):
        parse_layout(GOOD.replace(old, new, 1))


def test_the_file_is_named(tmp_path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("colour = 1")
    with pytest.raises(LayoutError, match=r"bad\.toml: unknown key 'colour'"):
        read_layout(path)


def test_the_example_of_the_reference_can_be_built() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "lab-topology.md").read_text()
    layout = parse_layout(page.partition("```toml\n")[2].partition("```")[0])
    assert [nat.name for nat in layout.nats] == ["router", "carrier"]
