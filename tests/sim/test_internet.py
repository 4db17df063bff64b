from __future__ import annotations

import pytest

from natwalk.core import Address
from natwalk.nat import KINDS
from natwalk.sim import START, LinkConfig
from natwalk.sim.internet import SERVER, SERVER_ALTERNATE, SERVER_IPV6, Attachment, two_peers
from sim.support import Mailbag


def test_addresses_are_where_they_are_promised() -> None:
    internet = two_peers("port-restricted", "cgnat", seed=1)
    assert internet.server.addresses == (SERVER, SERVER_ALTERNATE, SERVER_IPV6)
    assert internet.server_address() == Address("203.0.113.10", 3478)
    assert internet.a.host.address.startswith("192.168.")
    assert internet.b.host.address.startswith("10.")
    assert [router.name for router in internet.b.routers] == ["home-b", "carrier-b"]
    assert two_peers("none", "udp-blocked", seed=1).b.host.address.startswith("192.0.2.")


@pytest.mark.parametrize("same_lan", [False, True])
@pytest.mark.parametrize("kind", list(KINDS))
def test_each_kind_lets_a_peer_ask_the_server_unless_udp_is_blocked(kind: str, same_lan: bool) -> None:
    internet = two_peers(kind, kind, seed=1, same_lan=same_lan)
    network = internet.network
    server = Mailbag(network, internet.server, 3478)
    bags = [Mailbag(network, site.host, 5000) for site in (internet.a, internet.b)]
    for bag in bags:
        bag.socket.send(b"x", server.socket.address)
    network.run()
    assert len(server.got) == (2 if KINDS[kind].passes_udp else 0)
    for _, _, source in server.got:
        server.socket.send(b"y", source)
    network.run()
    assert sum(len(bag.got) for bag in bags) == len(server.got)


def test_the_delay_is_one_way_between_peer_and_core() -> None:
    internet = two_peers("none", "none", seed=1, delay=0.1)
    a = Mailbag(internet.network, internet.a.host, 1)
    b = Mailbag(internet.network, internet.b.host, 1)
    a.socket.send(b"x", b.socket.address)
    internet.network.run()
    assert b.got[0][0] == pytest.approx(START + 0.2)


def test_neighbours_share_one_router_and_talk_past_it() -> None:
    internet = two_peers("symmetric", "symmetric", seed=1, same_lan=True)
    assert internet.a.routers == internet.b.routers
    a = Mailbag(internet.network, internet.a.host, 1)
    b = Mailbag(internet.network, internet.b.host, 1)
    a.socket.send(b"x", b.socket.address)
    internet.network.run()
    assert b.got == [(START + 0.001, b"x", a.socket.address)]


def test_one_lan_has_one_nat() -> None:
    with pytest.raises(ValueError, match="one NAT"):
        two_peers("none", "symmetric", seed=1, same_lan=True)
    with pytest.raises(ValueError, match="'bad' is not a kind"):
        two_peers("bad", "symmetric", seed=1)


def test_channels_pass_every_nat() -> None:
    internet = two_peers("udp-blocked", "cgnat", seed=1, access=LinkConfig(delay=0.05, loss=0.5))
    heard: list[str] = []
    for channel in internet.channels():
        channel.b.on_message = heard.append
        channel.a.on_made = lambda channel=channel: channel.a.send(channel.name)
    internet.network.run()
    assert heard == ["a~server", "b~server"]


def test_both_ip_versions_of_a_home_share_its_line() -> None:
    both = Attachment(ipv4="port-restricted", ipv6="home-ipv6")
    internet = two_peers(both, "none", seed=1)
    a, server = internet.a, internet.server
    assert a.host.addresses == ("192.168.1.10", "2001:db8:a::10")
    assert (a.public, a.public6) == ("198.51.100.1", "2001:db8:a::10")
    assert [router.name for router in (*a.routers, *a.routers6)] == ["nat-a", "firewall6-a"]
    seen: list[str] = []
    for local, remote in zip(a.host.addresses, (SERVER, SERVER_IPV6), strict=True):
        server.bind(lambda data, source: seen.append(source.host), 7, remote)
        a.host.bind(lambda data, source: None, 5000, local).send(b"x", Address(remote, 7))
    internet.network.run()
    assert seen == [a.public, a.public6]
    assert internet.network.links["a-core"].outward.sent == 2


def test_a_peer_has_at_least_one_ip_version() -> None:
    with pytest.raises(ValueError, match="IPv4 and IPv6"):
        Attachment()
