"""The engine as a router in namespaces: measured from inside with plain sockets, as the kernel's are."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lab.needs import needs_tun
from lab.test_kinds import FILTERING, TCP_CLIENT, TCP_SERVER
from natwalk.lab import LabError
from natwalk.nat import preset

pytestmark = [pytest.mark.lab, needs_tun]


@pytest.mark.parametrize("kind", FILTERING)
def test_the_engine_filters_and_maps_as_the_kernel_does(build, kind) -> None:
    with build(kind, engine=True) as world:
        public = world.mapped("x1")
        reached = {name for name in ("x1", "x2", "y1") if world.lets_in(name, public, f"from {name}")}
        assert reached == FILTERING[kind]
        ports = {world.mapped(name) for name in world.SERVER}
        assert len(ports) == (4 if kind == "symmetric" else 1)
        assert {host for host, _ in ports} == {"198.51.100.2"}


def test_tcp_goes_through_and_blocked_udp_does_not(build) -> None:
    with build("udp-blocked", "none", engine=True) as world:
        world.a.send("a", world.SERVER["x1"])
        assert world.server.receive("x1", within=0.3) is None
        server = world.lab.server.popen([sys.executable, "-c", TCP_SERVER], stdout=subprocess.PIPE)
        assert server.stdout.readline() == b"up\n"
        server.stdout.close()
        assert world.lab.a.run([sys.executable, "-c", TCP_CLIENT]).stdout == "80\n"


def test_hairpin_as_the_preset_says(build) -> None:
    with build("rfc-4787", same_lan=True) as world:
        public_a, public_b = world.mapped("x1", "a"), world.mapped("x1", "b")
        world.b.send("b", public_a)
        world.a.send("a", public_b)
        assert world.b.source_seen("b") == public_a


def test_it_forgets_fills_and_changes(build) -> None:
    with build("port-restricted", engine=True) as world:
        router = world.lab.nat_a
        before = world.mapped("x1")
        router.reset(new_ports=True)
        assert not world.lets_in("x1", before, "to the old port")
        assert world.mapped("x1") != before
        router.change(preset("symmetric"))
        assert len({world.mapped(name) for name in world.SERVER}) == 4
        assert router.fill() == 1020
        router.reset()
        assert world.mapped("x1")
        assert router.statistics()["mappings"] == 1
        with pytest.raises(LabError, match="cannot become udp-blocked"):
            router.change(preset("udp-blocked"))


ASK_NAT_PMP = """
import socket, struct
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind(("192.168.1.10", 0))
    sock.settimeout(5)
    sock.sendto(struct.pack("!BBHHHI", 0, 1, 0, 7000, 7100, 600), ("192.168.1.1", 5351))
    version, opcode, result, _, inside, outside, _ = struct.unpack("!BBHIHHI", sock.recv(100))
    print(result, inside, outside)
"""
ASK_UPNP = """
import re, socket, urllib.request
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(5)
    sock.sendto(
        b"M-SEARCH * HTTP/1.1\\r\\nHOST: 239.255.255.250:1900\\r\\nMAN: \\"ssdp:discover\\"\\r\\nMX: 1\\r\\n"
        b"ST: ssdp:all\\r\\n\\r\\n", ("239.255.255.250", 1900))
    answer = sock.recv(2000).decode()
location = re.search(r"(?i)location: *(\\S+)", answer)[1]
with urllib.request.urlopen(location, timeout=5) as page:
    print(location, b"InternetGatewayDevice" in page.read())
"""


def test_its_mapping_services_open_a_port_for_everybody(build) -> None:
    with build("home-all-services") as world:
        world.a.bind("open", world.lab.a.address, 7000)
        assert world.lab.a.run([sys.executable, "-c", ASK_NAT_PMP]).stdout == "0 7000 7100\n"
        world.server.send("y2", ("198.51.100.2", 7100), "unasked")
        assert world.a.receive("open") == (world.SERVER["y2"], "unasked")
        world.lab.nat_a.reset()
        world.server.send("y2", ("198.51.100.2", 7100), "after the reboot")
        assert world.a.receive("open", within=0.3) is None


def test_it_is_found_and_described_as_an_internet_gateway_device(build) -> None:
    with build("home-upnp") as world:
        said = world.lab.a.run([sys.executable, "-c", ASK_UPNP]).stdout.split()
        assert said[0].startswith("http://192.168.1.1:5000/")
        assert said[1] == "True"
