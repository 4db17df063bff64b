"""Population files: what they say, what is refused, and how pairs are drawn from them."""

from __future__ import annotations

import tomllib
from collections import Counter

import pytest

from natwalk.nat import Allocation, FirewallConfig, Hairpin, Mapping, NatConfig
from natwalk.sim.population import PopulationError, load, parse, shipped, shipped_text

SMALL = """
name = "small"
title = "two networks"
[[network]]
name = "home"
share = 0.75
ipv6 = 0.5
delay-ms = [10, 40]
nats = { port-restricted = 0.5, mine = 0.5 }
[[network]]
name = "office"
share = 0.25
udp-blocked = 0.2
delay-ms = 5
loss = 0.01
burst = 3
nats = { none = 1 }
[nat.mine]
source = "a cupboard"
layers = [
  { mapping = "address-dependent", allocation = "sequential", step = -2, ports = [2000, 3000] },
  { box = "firewall", udp = true, only-stun = true },
  { hairpin = "external-source", keep-parity = true },
]
"""


def test_a_file_says_networks_nats_and_links() -> None:
    population = parse(SMALL)
    home, office = population.networks
    inner, wall, outer = home.specs["mine"].layers
    assert isinstance(inner, NatConfig)
    assert (inner.mapping, inner.allocation, inner.step) == (
        Mapping.ADDRESS_DEPENDENT,
        Allocation.SEQUENTIAL,
        -2,
    )
    assert inner.ports == (2000, 3000)
    assert isinstance(wall, FirewallConfig)
    assert wall.only_stun
    assert isinstance(outer, NatConfig)
    assert outer.hairpin is Hairpin.EXTERNAL_SOURCE
    assert outer.keep_parity
    assert home.specs["mine"].source == "a cupboard"
    assert office.link.delay == (0.005, 0.005)
    assert (office.link.loss, office.link.burst) == (0.01, 3.0)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[10, 40]", "[40, 10]", "network[1].delay-ms must be one positive number or two"),
        ("share = 0.75", "share = 0.7", "network.share: shares add up to 0.95"),
        ("ipv6 = 0.5", "ipv6 = 5", "network[1].ipv6 must be from 0 to 1, not 5"),
        ("ipv6 = 0.5", "ipv7 = 0.5", "network[1].ipv7 is not a key of a population; here are: burst,"),
        ("mine = 0.5 }", "mine = 0.4 }", "network[1].nats: shares add up to 0.9"),
        ("{ none = 1 }", "{ nun = 1 }", "network[2].nats.nun: 'nun' is not"),
        ("{ none = 1 }", "{ nat64 = 1 }", "network[2].nats.nat64: nat64 is not for peers of a population"),
        ("{ none = 1 }", "{ hotel-portal = 1 }", "hotel-portal is not for peers of a population"),
        ('name = "office"', 'name = "home"', "two are called 'home'"),
        ('title = "two networks"', "", "title is missing"),
        ('title = "two networks"', "title = 3", "title must be text, not 3"),
        ('title = "two networks"', 'title = "t"\none-nat = 0.1', "one-nat: none in office has no NAT"),
        ('title = "two networks"', 'title = "t"\nopposite = "x"', "opposite: 'x' is not"),
        (
            '"address-dependent"',
            '"address"',
            "nat.mine.layers[1].mapping must be one of endpoint",
        ),
        ("udp = true", 'udp = "yes"', "nat.mine.layers[2].udp must be true or false"),
        ('box = "firewall"', 'box = "toaster"', "nat.mine.layers[2].box must be one of nat, firewall"),
        ("step = -2", "step = 0", "nat.mine.layers[1]: step of sequential allocation must not be 0"),
        ("udp = true, ", "", "nat.mine.layers[2]"),
        ('source = "a cupboard"', 'sauce = "a"', "nat.mine.sauce is not a key"),
        ("burst = 3", "burst = 0.5", "network[2].loss: bursts of 0.5 packets"),
        ("loss = 0.01", 'loss = "1 %"', "network[2].loss must be a number from 0, not '1 %'"),
        ("[[network]]", "[[network]", "not TOML"),
        ("{ none = 1 }", "3", "network[2].nats must be a table, not 3"),
    ],
)
def test_a_mistake_is_an_error_that_names_the_key(old: str, new: str, words: str) -> None:
    assert old in SMALL
    with pytest.raises(PopulationError) as caught:
        parse(SMALL.replace(old, new))
    assert words in str(caught.value)


def test_without_networks_there_is_no_population() -> None:
    with pytest.raises(PopulationError, match="network must be"):
        parse('name = "x"\ntitle = "x"\nnetwork = []')


def test_an_unknown_name_says_which_there_are() -> None:
    with pytest.raises(PopulationError, match="there are: homes-2005, internet-2026, mobile-heavy"):
        load("internet")


def test_pairs_are_drawn_by_their_number_alone() -> None:
    population = parse(SMALL)
    draws = [population.draw(3, number) for number in range(50)]
    assert [population.draw(3, number) for number in reversed(range(50))] == draws[::-1]
    assert len({draw.seed for draw in draws}) == 50
    assert population.draw(4, 0) != draws[0]


def test_shares_come_out_as_they_are_in_the_file() -> None:
    population = parse(SMALL)
    draws = [population.draw(1, number) for number in range(4000)]
    peers = [peer for draw in draws for peer in (draw.a, draw.b)]
    networks = Counter(peer.network for peer in peers)
    assert abs(networks["home"] / len(peers) - 0.75) < 0.015
    home = [peer for peer in peers if peer.network == "home"]
    assert abs(sum(peer.ipv6 for peer in home) / len(home) - 0.5) < 0.02
    assert abs(sum(peer.nat.name == "mine" for peer in home) / len(home) - 0.5) < 0.02
    assert not any(peer.blocked for peer in home)
    office = [peer for peer in peers if peer.network == "office"]
    assert abs(sum(peer.blocked for peer in office) / len(office) - 0.2) < 0.03
    assert all(peer.nat.name == "udp-blocked" for peer in office if peer.blocked)
    delays = sorted(peer.access.delay for peer in home)
    assert 0.010 <= delays[0] < delays[-1] <= 0.040
    assert abs(delays[len(delays) // 2] - 0.020) < 0.001, "each doubling is as likely"


@pytest.mark.parametrize("name", shipped())
def test_each_number_of_a_shipped_population_has_its_source(name: str) -> None:
    document = tomllib.loads(shipped_text(name))
    assert document["name"] == name == load(name).name
    for network in document["network"]:
        numbers = network.keys() - {"name", "sources"}
        assert numbers == network["sources"].keys()
        assert all(len(text) > 8 for text in network["sources"].values() if text != "by definition")
    for kind in document.get("nat", {}).values():
        assert kind["source"]
    assert document.get("opposite") is None or document["sources"]["opposite"]
