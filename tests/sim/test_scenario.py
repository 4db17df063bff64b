"""Whole peers through what happens to networks meanwhile: how long it is silent, and that nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import pytest

from natwalk.core import Address, LocalProtocolError
from natwalk.path import PathKind
from natwalk.peer import Failure
from natwalk.sim import Network, SimulationError, sequence
from natwalk.sim.internet import SERVER, Attachment, Kind, two_peers
from natwalk.sim.peer import PeerMeeting
from natwalk.sim.scenario import ELSEWHERE, Direction, Scenario
from sim.support import Mailbag

PAIRS = [
    pytest.param("port-restricted", "port-restricted", id="direct"),
    pytest.param("symmetric", "symmetric", id="relay"),
    pytest.param("none", "cgnat", id="open"),
]
BLOCK = b"tick" * 250


class Story:
    """A connected pair; peer a sends a block a second while things happen."""

    def __init__(self, kind_a: Kind, kind_b: Kind, seed: int = 1) -> None:
        self.internet = two_peers(kind_a, kind_b, seed=seed)
        self.network: Network = self.internet.network
        self.meeting = PeerMeeting(self.internet)
        self.scenario = Scenario(self.internet)
        assert self.meeting.connect()
        assert self.meeting.b is not None
        self.a, self.b = self.meeting.a, self.meeting.b
        self.stream = self.a.send(BLOCK)
        self.blocks = 1
        self.network.run_for(2.0)

    def later(self, seconds: float, call: Callable[..., object], *args: object) -> None:
        self.network.after(seconds, call, *args)

    def longest_silence(self, seconds: int) -> float:
        """How long b heard nothing at most; asserts that everything is there in the end."""
        silence, last, got = 0.0, self.network.now, len(self.b.received[self.stream])
        until = self.network.now + seconds
        while self.network.now < until:
            assert self.a.ended is None, f"{self.a.ended}\n{sequence(self.network.trace)}"
            self.a.send(BLOCK, self.stream)
            self.blocks += 1
            for _ in range(10):
                self.network.run_for(0.1)
                if len(self.b.received[self.stream]) > got:
                    silence, last = max(silence, self.network.now - last), self.network.now
                    got = len(self.b.received[self.stream])
        assert bytes(self.b.received[self.stream]) == BLOCK * self.blocks, self.network.trace.text(200)
        return max(silence, self.network.now - last)


@pytest.mark.parametrize(("kind_a", "kind_b"), PAIRS)
def test_routers_that_reboot_are_hardly_noticed(kind_a: str, kind_b: str) -> None:
    story = Story(kind_a, kind_b)
    story.scenario.reboot("a")
    story.later(20.0, story.scenario.reboot, "b")
    assert story.longest_silence(40) < 8.0


@pytest.mark.parametrize("seconds", [10.0, 30.0])
@pytest.mark.parametrize(("kind_a", "kind_b"), PAIRS)
def test_after_a_cut_data_flows_again_within_seconds(kind_a: str, kind_b: str, seconds: float) -> None:
    story = Story(kind_a, kind_b)
    story.scenario.cut("a")
    story.later(seconds, story.scenario.mend, "a")
    assert seconds < story.longest_silence(60) < seconds + 8.0


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize(("kind_a", "kind_b"), PAIRS)
def test_a_fault_one_way_is_over_when_it_is_over(kind_a: str, kind_b: str, direction: Direction) -> None:
    story = Story(kind_a, kind_b)
    story.scenario.cut("a", direction)
    story.later(6.0, story.scenario.mend, "a", direction)
    silence = story.longest_silence(40)
    assert silence < 14.0
    assert direction is Direction.INWARD or silence > 6.0


@pytest.mark.parametrize(("kind_a", "kind_b"), PAIRS[:2])
def test_a_line_with_a_new_address_goes_on(kind_a: str, kind_b: str) -> None:
    story = Story(kind_a, kind_b)
    new = story.scenario.renumber("a")
    assert new == story.scenario.a.public != story.internet.a.public
    assert story.longest_silence(60) < 15.0


@pytest.mark.parametrize("told", [True, False], ids=["connection-to-server-breaks", "nothing-is-told"])
@pytest.mark.parametrize(("kind_a", "kind_b"), PAIRS)
def test_a_host_that_roams_goes_on_in_its_new_network(kind_a: str, kind_b: str, *, told: bool) -> None:
    """Faster when the broken connection to the server tells of it; the repair takes fresh sockets there."""
    story = Story(kind_a, kind_b)
    story.scenario.roam("a", "port-restricted")
    if told:
        story.meeting.channels[0].cut()
        story.later(1.0, story.meeting.channels[0].restore)
    assert story.longest_silence(60) < (8.0 if told else 25.0)
    assert story.a.info is not None
    assert story.a.info.local.host in (story.scenario.a.public, SERVER)


def test_from_both_ip_versions_to_one() -> None:
    both = Attachment(ipv4="port-restricted", ipv6="home-ipv6")
    story = Story(both, both)
    story.scenario.roam("a", Attachment(ipv6="home-ipv6"))
    assert story.longest_silence(60) < 40.0
    assert story.a.info is not None
    assert story.a.info.kind is PathKind.DIRECT
    assert ":" in story.a.info.local.host


@pytest.mark.parametrize(("kind_a", "kind_b"), PAIRS)
def test_a_nap_costs_what_it_lasts(kind_a: str, kind_b: str) -> None:
    story = Story(kind_a, kind_b)
    story.scenario.sleep("b")
    story.later(5.0, story.scenario.wake, "b")
    assert 5.0 < story.longest_silence(40) < 12.0


def test_who_sleeps_for_long_is_gone_and_finds_that_out_on_waking() -> None:
    story = Story("port-restricted", "port-restricted")
    story.scenario.sleep("b")
    story.a.send(BLOCK, story.stream)
    assert story.network.run_for(60.0, stop=lambda: story.a.ended is not None)
    assert story.a.ended is not None
    assert story.a.ended.failure is Failure.PEER_GONE
    story.scenario.wake("b")
    assert story.network.run_for(60.0, stop=lambda: story.b.ended is not None)


class TestTheEventsThemselves:
    def test_roaming_takes_addresses_and_routes_away(self) -> None:
        internet = two_peers(Attachment(ipv4="cgnat", ipv6="home-ipv6"), "none", seed=1)
        scenario, host = Scenario(internet), internet.a.host
        before = host.addresses
        network = internet.network
        server = Mailbag(network, internet.server, 7)
        old = Mailbag(network, host, 5)
        for number in range(len(ELSEWHERE)):
            site = scenario.roam("a", "port-restricted" if number % 2 else Attachment(ipv4="none"))
            assert scenario.a is site is scenario.site("a")
            assert not set(before) & set(host.addresses)
            before = host.addresses
            server.got.clear()
            old.socket.send(b"lost", server.socket.address)
            Mailbag(network, host, 6).socket.send(b"x", server.socket.address)
            network.run_for(1.0)
            assert [(data, source.host) for _, data, source in server.got] == [(b"x", site.public)]
        assert host.drops.counts == {"no such source address": len(ELSEWHERE)}
        with pytest.raises(SimulationError, match="roam"):
            scenario.roam("a", "none")

    def test_a_new_address_replaces_the_old_one(self) -> None:
        internet = two_peers("full-cone", "none", seed=1)
        network, scenario = internet.network, Scenario(internet)
        server = Mailbag(network, internet.server, 7)
        bag = Mailbag(network, internet.a.host, 5)
        seen = []
        for _ in range(3):
            bag.socket.send(b"x", Address(SERVER, 7))
            network.run_for(1.0)
            seen.append(server.got[-1][2].host)
            scenario.renumber("a")
        assert seen == ["198.51.100.1", "198.51.100.150", "198.51.100.151"]
        server.socket.send(b"to the old one", server.got[0][2])
        network.run_for(1.0)
        assert bag.payloads == []
        with pytest.raises(SimulationError, match="not behind a NAT"):
            scenario.renumber("b")

    def test_a_sleeping_host_hears_nothing_but_what_tcp_keeps_for_it(self) -> None:
        internet = two_peers("none", "none", seed=1)
        network, scenario = internet.network, Scenario(internet)
        bag = Mailbag(network, internet.b.host, 5)
        sender = Mailbag(network, internet.a.host, 5).socket
        heard: list[float] = []
        scenario.sleep("b")
        internet.b.host.when_awake(lambda: heard.append(network.now))
        sender.send(b"x", bag.socket.address)
        network.run_for(5.0)
        assert (bag.payloads, heard) == ([], [])
        scenario.wake("b")
        sender.send(b"y", bag.socket.address)
        woken = network.now
        network.run_for(1.0)
        assert (bag.payloads, heard) == ([b"y"], [woken])
        assert internet.b.host.drops.counts == {"asleep": 1}

    def test_what_waits_for_a_sleeper_is_bounded(self) -> None:
        host = two_peers("none", "none", seed=1).b.host
        host.sleep()
        for _ in range(host.MISSED):
            host.when_awake(print)
        with pytest.raises(SimulationError, match="wait for b"):
            host.when_awake(print)

    def test_there_are_two_peers(self) -> None:
        with pytest.raises(LocalProtocolError, match="called a and b"):
            Scenario(two_peers("none", "none", seed=1)).cut("c")

    def test_the_links_of_a_new_network_are_captured_too(self) -> None:
        internet = two_peers("none", "none", seed=1)
        file = BytesIO()
        capture = internet.network.capture(file)
        Scenario(internet).roam("a", "port-restricted")
        Mailbag(internet.network, internet.a.host, 6).socket.send(b"x", Address(SERVER, 7))
        internet.network.run()
        assert capture.packets == 3
        assert b"a-nat-a0" in file.getvalue()

    def test_all_of_it_is_in_the_trace(self) -> None:
        internet = two_peers("port-restricted", "none", seed=1)
        scenario = Scenario(internet)
        scenario.cut("a", Direction.INWARD)
        scenario.mend("a")
        scenario.reboot("a")
        scenario.renumber("a")
        scenario.roam("b", "symmetric")
        scenario.sleep("b")
        scenario.wake("b")
        words = [line.split("# ")[1].split() for line in internet.network.trace.text().splitlines()]
        assert [" ".join(line) for line in words] == [
            "core>nat-a down",
            "nat-a>core up",
            "core>nat-a up",
            "nat-a reboot",
            "nat-a now at 198.51.100.150",
            "b now on another network, at 172.16.0.10",
            "b asleep",
            "b awake",
        ]
