"""A topology built, with what can happen to it; every packet through kernels, engines and cables."""

from __future__ import annotations

import json
import struct
import subprocess
import sys

import pytest

from lab.needs import needs_tun
from natwalk.lab import LabError
from natwalk.lab.conditions import Conditions
from natwalk.lab.layout_file import parse_layout
from natwalk.lab.world import World

pytestmark = [pytest.mark.lab, needs_tun]

LAYOUT = """
[network.core]
subnet = "203.0.113.0/24"
subnet6 = "2001:db8::/64"
[network.isp]
subnet = "198.51.100.0/24"
subnet6 = "2001:db8:1::/64"
[network.home]
subnet = "192.168.1.0/24"
subnet6 = "2001:db8:2::/64"
[network.office]
subnet = "10.0.0.0/24"
[network.mobile]
subnet = "10.1.0.0/24"
subnet6 = "2001:db8:3::/64"
[nat.router]
kind = "port-restricted"
outside = "isp"
inside = "home"
[nat.firm]
outside = "isp"
inside = "office"
address = "198.51.100.9"
behaviour = { mapping = "address-and-port-dependent", allocation = "sequential", step = 2, max-mappings = 50 }
[nat.six]
kind = "nat64"
outside = "isp"
inside = "mobile"
address = "198.51.100.20"
[host.alice]
network = "home"
[host.bob]
network = "office"
cable = { delay-ms = 40 }
[host.carol]
network = "mobile"
[server.relay]
network = "core"
addresses = ["203.0.113.10", "203.0.113.11"]
"""
SERVER = """
import json, socket
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
sock.bind(("::", 7))
print("up", flush=True)
while True:
    data, source = sock.recvfrom(2000)
    sock.sendto(json.dumps([source[0].removeprefix("::ffff:"), source[1]]).encode(), source)
"""
CLIENT = """
import socket, sys, time
host, within = sys.argv[1], float(sys.argv[2])
family = socket.AF_INET6 if ":" in host else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as sock:
    sock.bind(("", 5000))
    sock.settimeout(within)
    for _ in range(2):  # the second without neighbours being looked for
        started = time.monotonic()
        sock.sendto(b"who am I?", (host, 7))
        try:
            answer = sock.recv(2000).decode()
        except TimeoutError:
            print("null")
            break
    else:
        print(answer[:-1] + f", {time.monotonic() - started}]")
"""


class Site:
    def __init__(self, world: World) -> None:
        self.world = world
        self.server = world.node("relay").popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE)
        assert self.server.stdout.readline() == b"up\n"
        self.server.stdout.close()

    def seen(self, name: str, server: str = "203.0.113.10", within: float = 5.0):
        """How the server sees ``name``: host, port, and seconds of the round trip; None without an answer."""
        done = self.world.node(name).run([sys.executable, "-I", "-S", "-c", CLIENT, server, str(within)])
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def site():
    with World(parse_layout(LAYOUT)) as world:
        yield Site(world)


def test_every_host_is_seen_as_its_nat_says(site) -> None:
    assert site.seen("alice")[:2] == ["198.51.100.2", 5000]
    assert site.seen("bob")[0] == "198.51.100.9"
    assert site.seen("carol", "64:ff9b::203.0.113.10")[0] == "198.51.100.20"


def test_ipv6_is_routed_behind_a_firewall(site) -> None:
    assert site.seen("alice", "2001:db8::a")[:2] == ["2001:db8:2::a", 5000]
    assert site.seen("carol", "2001:db8::a")[:2] == ["2001:db8:3::a", 5000]
    knock = "import socket; socket.create_connection(('2001:db8:2::a', 9), 0.5)"
    done = site.world.node("relay").run([sys.executable, "-c", knock], check=False)
    assert "TimeoutError" in done.stderr, "nobody asked for it: dropped, not refused"


def test_a_cable_has_its_delay_and_gets_another(site) -> None:
    assert 0.08 <= site.seen("bob")[2] < 2
    site.world.condition("bob", Conditions(delay=0.2))
    assert 0.4 <= site.seen("bob")[2] < 3
    site.world.condition("bob", Conditions(delay=0.04))
    with pytest.raises(LabError, match="attached without conditions"):
        site.world.condition("alice", Conditions())


@pytest.mark.parametrize("name", ["alice", "bob", "router", "firm"])
@pytest.mark.parametrize("direction", ["both", "in", "out"])
def test_a_cut_cable_loses_everything_until_it_is_mended(site, name, direction) -> None:
    host = {"router": "alice", "firm": "bob"}.get(name, name)
    site.world.node(name).cut(direction)
    assert site.seen(host, within=0.5) is None
    site.world.node(name).mend()
    assert site.seen(host) is not None


def test_a_one_way_cut_still_carries_the_other_way(site, tmp_path) -> None:
    site.world.capture("relay", tmp_path / "relay.pcap")
    site.world.node("alice").cut("in")
    assert site.seen("alice", within=0.5) is None
    site.world.node("alice").mend()
    assert b"who am I?" in site.world.stop_capture("relay").read_bytes(), "the question arrived"


def test_a_capture_can_be_read_back(site, tmp_path) -> None:
    path = tmp_path / "bob.pcap"
    site.world.capture("bob", path)
    with pytest.raises(LabError, match="captured already"):
        site.world.capture("bob", path)
    host, port, _ = site.seen("bob")
    assert site.world.stop_capture("bob") == path
    frames = read_pcap(path)
    assert sum(b"who am I?" in frame for frame in frames) == 2
    assert sum(json.dumps([host, port]).encode() in frame for frame in frames) == 2
    with pytest.raises(LabError, match="is not captured"):
        site.world.stop_capture("bob")


def read_pcap(path) -> list[bytes]:
    data = path.read_bytes()
    magic, *_, linktype = struct.unpack_from("=IHHiIII", data)
    assert (magic, linktype) == (0xA1B23C4D, 1)
    frames, at = [], 24
    while at < len(data):
        length = struct.unpack_from("=IIII", data, at)[2]
        frames.append(data[at + 16 : at + 16 + length])
        at += 16 + length
    return frames


def test_nats_forget_change_and_fill(site) -> None:
    world = site.world
    world.reboot("firm")
    assert world.fill("firm") == 50
    assert site.seen("bob", within=0.5) is None
    world.reboot("firm")
    assert site.seen("bob") is not None
    world.change("firm", "full-cone")
    assert site.seen("bob")[:2] == ["198.51.100.9", 5000]
    world.change("router", "symmetric")
    assert site.seen("alice")[1] != 5000
    world.change("router", "full-cone")
    assert site.seen("alice")[1] == 5000
    for wrong, message in (
        (lambda: world.change("router", "linux-random"), "it cannot become linux-random"),
        (lambda: world.change("router", "cgnat"), "it cannot become cgnat"),
        (lambda: world.fill("router"), "only the engine's tables"),
        (lambda: world.reboot("alice"), "alice is no NAT: those are router, firm, six"),
        (lambda: world.move("router", "core"), "only hosts can move"),
        (lambda: world.move("alice", "moon"), "there is no network 'moon'"),
        (lambda: world.node("zoe"), "there is no 'zoe'"),
    ):
        with pytest.raises(LabError, match=message):
            wrong()


def test_a_host_moves_to_another_network_and_back(site) -> None:
    assert site.world.move("bob", "core") == "203.0.113.20"
    assert site.seen("bob")[:2] == ["203.0.113.20", 5000]
    assert site.world.move("bob", "office", 10) == "10.0.0.10"
    assert site.seen("bob")[0] == "198.51.100.9"


def test_the_status_says_what_is_there(site) -> None:
    status = site.world.status()
    assert status["nodes"]["alice"]["address"] == "192.168.1.10"
    assert status["nodes"]["six"]["nat"]["by"] == "engine"
    assert status["nodes"]["router"]["nat"]["by"] == "kernel"
    json.dumps(status)
