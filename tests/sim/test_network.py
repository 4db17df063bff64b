from __future__ import annotations

import pytest

from natwalk.core import Address, LocalProtocolError
from natwalk.nat import KINDS, Hairpin, NatConfig
from natwalk.sim import START, Happening, Host, LinkConfig, Network, Router, Trace
from sim.support import Mailbag

LAN = LinkConfig(delay=0.001)


def lan(network: Network, config: NatConfig | None = None) -> tuple[Router, Router, Host, Host]:
    """A core, a home router behind it, and two hosts in the home."""
    core = network.router("core")
    home = network.router("home", config or NatConfig(), public_addresses=("198.51.100.1",))
    one, two = network.host("one"), network.host("two")
    network.connect(one, home, "192.168.1.10", config=LAN)
    network.connect(two, home, "192.168.1.11", config=LAN)
    network.connect(home, core, "198.51.100.1")
    return core, home, one, two


class TestHost:
    def test_sockets_are_checked(self) -> None:
        network = Network(1)
        host = network.host("a")
        with pytest.raises(LocalProtocolError, match="not connected"):
            host.bind(lambda data, source: None)
        network.connect(host, network.router("core"), "192.0.2.1", "192.0.2.2")
        assert host.addresses == ("192.0.2.1", "192.0.2.2")
        with pytest.raises(LocalProtocolError, match=r"192\.0\.2\.9 is not an address of a"):
            host.bind(lambda data, source: None, host="192.0.2.9")
        socket = host.bind(lambda data, source: None, 7)
        with pytest.raises(LocalProtocolError, match="taken"):
            host.bind(lambda data, source: None, 7)
        host.bind(lambda data, source: None, 7, "192.0.2.2")
        socket.close()
        socket.close()
        assert host.bind(lambda data, source: None, 7).address == Address("192.0.2.1", 7)

    def test_ephemeral_ports_are_free_and_repeat_with_the_seed(self) -> None:
        def ports() -> list[int]:
            network = Network(5)
            host = network.host("a")
            network.connect(host, network.router("core"), "192.0.2.1")
            return [host.bind(lambda data, source: None).address.port for _ in range(50)]

        assert ports() == ports()
        assert len(set(ports())) == 50
        assert min(ports()) >= 49152

    def test_ephemeral_ports_run_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("natwalk.sim.host.EPHEMERAL", (50000, 50001))
        network = Network(5)
        host = network.host("a")
        network.connect(host, network.router("core"), "192.0.2.1")
        for port in (50000, 50001):
            host.bind(lambda data, source: None, port)
        with pytest.raises(LocalProtocolError, match="no free port"):
            host.free_address()

    def test_sockets_are_bounded(self) -> None:
        network = Network(1)
        host = network.host("a")
        network.connect(host, network.router("core"), "192.0.2.1")
        for port in range(1, Host.SOCKETS + 1):
            host.bind(lambda data, source: None, port)
        with pytest.raises(LocalProtocolError, match="4096 sockets"):
            host.bind(lambda data, source: None)

    def test_a_datagram_to_itself_stays_on_the_host(self) -> None:
        network = Network(1)
        host = network.host("a")
        network.connect(host, network.router("core"), "192.0.2.1", config=LinkConfig(delay=1))
        one, two = Mailbag(network, host, 1), Mailbag(network, host, 2)
        one.socket.send(b"hello", two.socket.address)
        network.run()
        assert two.got == [(START, b"hello", one.socket.address)]

    def test_what_no_socket_takes_is_dropped_with_a_reason(self) -> None:
        network = Network(1)
        core, _, one, two = lan(network)
        Mailbag(network, one, 1).socket.send(b"x", Address("192.168.1.11", 9))
        Mailbag(network, one, 2).socket.send(b"x", Address("192.0.2.99", 9))
        network.run()
        assert two.drops.counts == {"no socket": 1}
        assert core.drops.counts == {"no route": 1}

    def test_several_links_are_chosen_by_source_address(self) -> None:
        """A laptop on two networks at once."""
        network = Network(1)
        core = network.router("core")
        laptop, server = network.host("laptop"), network.host("server")
        network.connect(server, core, "203.0.113.10")
        network.connect(laptop, core, "192.0.2.1", config=LinkConfig(delay=0.010))
        network.connect(laptop, core, "198.51.100.1", config=LinkConfig(delay=0.100))
        bag = Mailbag(network, server, 1)
        for host in laptop.addresses:
            laptop.bind(lambda data, source: None, 5, host).send(b"x", bag.socket.address)
        network.run()
        assert [(round(at - START, 3), source.host) for at, _, source in bag.got] == [
            (0.010, "192.0.2.1"),
            (0.100, "198.51.100.1"),
        ]

    def test_after_it_left_a_network_nothing_passes(self) -> None:
        network = Network(1)
        core, home, one, two = lan(network)
        sender, bag = Mailbag(network, one, 1), Mailbag(network, two, 2)
        network.disconnect(one, home, "192.168.1.10")
        sender.socket.send(b"x", bag.socket.address)
        bag.socket.send(b"x", sender.socket.address)
        network.run()
        assert one.drops.counts == {"no such source address": 1}
        assert core.drops.counts == {"no route": 1}
        network.connect(one, core, "192.0.2.50")
        assert one.addresses == ("192.0.2.50",)


class TestRouter:
    def test_neighbours_never_meet_the_nat(self) -> None:
        network = Network(1)
        _, _, one, two = lan(network)
        bag = Mailbag(network, two, 9)
        Mailbag(network, one, 5000).socket.send(b"x", bag.socket.address)
        network.run()
        assert bag.got == [(START + 0.002, b"x", Address("192.168.1.10", 5000))]
        assert not network.trace.select(Happening.TRANSLATE)

    def test_hairpin_comes_back_in(self) -> None:
        network = Network(1)
        core, _, one, two = lan(network, NatConfig(hairpin=Hairpin.EXTERNAL_SOURCE))
        server = network.host("server")
        network.connect(server, core, "203.0.113.10")
        anywhere = Address("203.0.113.10", 1)
        first, second = Mailbag(network, one, 5000), Mailbag(network, two, 5001)
        for bag, other in ((first, 5001), (second, 5000)):
            bag.socket.send(b"open", anywhere)
            bag.socket.send(b"open", Address("198.51.100.1", other))
        network.run()
        first.socket.send(b"x", Address("198.51.100.1", 5001))
        network.run()
        assert [(data, source) for _, data, source in second.got][-1] == (b"x", Address("198.51.100.1", 5000))

    def test_a_reboot_loses_the_mappings(self) -> None:
        network = Network(1)
        core, home, one, _ = lan(network)
        server = network.host("server")
        network.connect(server, core, "203.0.113.10")
        bag, inside = Mailbag(network, server, 1), Mailbag(network, one, 5000)
        inside.socket.send(b"x", bag.socket.address)
        network.run()
        network.after(1.0, home.reboot)
        network.after(0.5, bag.socket.send, b"before", bag.got[0][2])
        network.after(1.5, bag.socket.send, b"after", bag.got[0][2])
        network.run()
        assert inside.payloads == [b"before"]
        assert home.drops.counts == {"no mapping for this port": 1}
        assert "# home         reboot" in network.trace.text()

    def test_a_filter_drops_what_it_says_both_ways_until_it_is_lifted(self) -> None:
        network = Network(1)
        core, home, one, _ = lan(network)
        server = network.host("server")
        network.connect(server, core, "203.0.113.10")
        outside, inside = Mailbag(network, server, 1), Mailbag(network, one, 5000)
        inside.socket.send(b"out", outside.socket.address)
        network.run()
        seen = outside.got[0][2]
        home.block(lambda packet: packet.payload != b"pass")
        for payload in (b"stop", b"pass"):
            inside.socket.send(payload, outside.socket.address)
            outside.socket.send(payload, seen)
        network.run()
        assert (outside.payloads, inside.payloads) == ([b"out", b"pass"], [b"pass"])
        assert home.drops.counts == {"blocked": 2}
        home.block(None)
        outside.socket.send(b"again", seen)
        network.run()
        assert inside.payloads == [b"pass", b"again"]

    def test_a_plain_router_only_forwards(self) -> None:
        network = Network(1)
        core, office = network.router("core"), network.router("office")
        inner, outer = network.host("inner"), network.host("outer")
        network.connect(inner, office, "192.0.2.1")
        network.connect(office, core, "192.0.2.1")
        network.connect(outer, core, "203.0.113.10")
        one, two = Mailbag(network, inner, 1), Mailbag(network, outer, 2)
        one.socket.send(b"out", two.socket.address)
        two.socket.send(b"in", one.socket.address)
        two.socket.send(b"lost", Address("192.0.2.2", 1))
        office.reboot()
        network.run()
        assert (one.payloads, two.payloads) == ([b"in"], [b"out"])
        network.disconnect(office, core, "192.0.2.1")
        one.socket.send(b"out", two.socket.address)
        network.run()
        assert office.drops.counts == {"no route": 1}


def test_names_are_unique() -> None:
    network = Network(1)
    network.host("x")
    with pytest.raises(LocalProtocolError):
        network.router("x")


def test_a_network_may_link_two_nodes_twice() -> None:
    network = Network(1)
    core, host = network.router("core"), network.host("a")
    network.connect(host, core, "192.0.2.1")
    network.connect(host, core, "192.0.2.2")
    assert list(network.links) == ["a-core", "a-core'"]


def test_another_host_does_not_change_what_a_host_draws() -> None:
    def draw(*names: str) -> bytes:
        network = Network(9)
        return {name: network.host(name).random_bytes(16) for name in names}["a"]

    assert draw("a") == draw("b", "a", "c")
    assert draw("a") != Network(10).host("a").random_bytes(16)


def test_without_a_trace_nothing_is_kept() -> None:
    network = Network(1, trace=Trace(limit=0))
    _, _, one, two = lan(network)
    Mailbag(network, one, 1).socket.send(b"x", Mailbag(network, two, 2).socket.address)
    network.run()
    assert network.trace.records == ()
    assert network.trace.forgotten == 0


def test_every_kind_has_a_router_for_each_layer() -> None:
    network = Network(1)
    for kind, spec in KINDS.items():
        for depth, layer in enumerate(spec.layers):
            router = network.router(f"{kind}-{depth}", layer, public_addresses=("198.51.100.1",))
            assert router.box is not None
