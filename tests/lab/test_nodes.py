"""Events in a lab: routers that lose their state, cables pulled, timers that run out."""

from __future__ import annotations

from itertools import pairwise

import pytest

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("kind", ["full-cone", "address-restricted", "port-restricted"])
def test_a_reset_router_lets_nobody_in_until_the_host_sends_again(build, kind) -> None:
    with build(kind) as world:
        public = world.mapped("x1")
        assert world.lets_in("x1", public, "before")
        world.lab.nat_a.reset()
        assert not world.lets_in("x1", public, "after")
        assert world.mapped("x1") == public, "the port is kept, so the mapping comes back as it was"
        assert world.lets_in("x1", public, "again")


@pytest.mark.parametrize("kind", ["full-cone", "address-restricted", "port-restricted", "symmetric", "cgnat"])
def test_a_router_reset_with_new_ports_moves_the_mapping(build, kind) -> None:
    with build(kind) as world:
        router = world.lab.routers_a[-1]
        seen = [world.mapped("x1")]
        for _ in range(3):
            router.reset(new_ports=True)
            seen.append(world.mapped("x1"))
            assert not world.lets_in("x1", seen[-2], "to the old port")
            assert world.lets_in("x1", seen[-1], "to the new port")
        assert all(1024 <= port <= 65535 for _, port in seen)
        assert all(earlier != later for earlier, later in pairwise(seen))


@pytest.mark.parametrize("kind", ["full-cone", "address-restricted", "port-restricted", "cgnat"])
def test_after_new_ports_the_mapping_is_still_endpoint_independent(build, kind) -> None:
    with build(kind) as world:
        world.lab.nat_a.reset(new_ports=True)
        assert len({world.mapped(name) for name in world.SERVER}) == 1


def test_a_pulled_cable_loses_packets_and_a_plugged_one_carries_them(build) -> None:
    with build("port-restricted") as world:
        before = world.mapped("x1")
        world.lab.a.link_down()
        world.a.send("a", world.SERVER["x1"], "lost")
        assert world.server.receive("x1", within=0.3) is None
        world.lab.a.link_up()
        assert world.mapped("x1") == before


def test_udp_entries_end_after_the_time_that_is_set(build) -> None:
    with build("port-restricted") as world:
        world.lab.nat_a.set_udp_timeouts(1, 1)
        public = world.mapped("x1")
        assert world.lets_in("x1", public, "in time")
        assert world.a.receive("a", within=2.5) is None, "nothing is sent meanwhile"
        assert not world.lets_in("x1", public, "too late")


def test_the_defaults_are_those_of_linux(build) -> None:
    with build("port-restricted") as world:
        folder = "/proc/sys/net/netfilter"
        for name, seconds in (("nf_conntrack_udp_timeout", 30), ("nf_conntrack_udp_timeout_stream", 120)):
            assert world.lab.nat_a.run(["cat", f"{folder}/{name}"]).stdout == f"{seconds}\n"


def test_a_rate_limit_loses_what_does_not_fit_its_queue(build) -> None:
    with build("port-restricted") as world:
        world.lab.a.limit_rate(125_000)
        for number in range(100):
            world.a.send("a", world.SERVER["x1"], f"{number:01200}")
        arrived = 0
        while world.server.receive("x1", within=0.3) is not None:
            arrived += 1
        assert 20 <= arrived <= 80, "32 kB at once, 6 kB queued, the rest as time passed"
