"""The engine as a router in namespaces: measured from inside with plain sockets, as the kernel's are."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lab.test_kinds import FILTERING, TCP_CLIENT, TCP_SERVER
from natwalk.lab import LabError
from natwalk.nat import preset

pytestmark = pytest.mark.lab


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
