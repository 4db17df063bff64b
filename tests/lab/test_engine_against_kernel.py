"""The same packets through a plain nftables masquerade and through the engine's preset for it: same fate."""

from __future__ import annotations

import sys
from random import Random

import pytest

from lab.needs import needs_tun
from natwalk.core import Address
from natwalk.nat import RST, SYN, IcmpKind, IpProtocol, Nat, Packet, Segment, Translation, preset

PORT = 40000
SERVER = {
    "x1": Address("203.0.113.10", 5001),
    "x2": Address("203.0.113.10", 5002),
    "y1": Address("203.0.113.11", 5001),
    "y2": Address("203.0.113.11", 5002),
}
MASQUERADE = """
flush ruleset
table ip natwalk {
  chain translate {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "wan" masquerade
  }
}
"""

# (host, server socket): the host sends there. (server socket, host, server socket): the first sends to the
# public address that the flow between the other two has.
STEPS = [
    ("a", "x1"),
    ("a", "y1"),
    ("x1", "a", "x1"),
    ("x2", "a", "x1"),
    ("b", "y2"),  # the same port to another remote: shared
    ("y2", "a", "x1"),
    ("b", "x1"),  # the same port to the same remote: it has to move
    ("x1", "b", "x1"),
    ("x1", "a", "x1"),
    ("b", "y1"),  # it need not, and follows the newest
    ("y1", "b", "y1"),
    ("a", "x2"),  # x2 has knocked before: poisoned
    ("x2", "a", "x2"),
    ("a", "y2"),  # follows the newest too
    ("a", "x1"),
    ("b", "y2"),
]


class Router:
    """Two hosts behind a router of the lab: one of the kernel, with that ruleset, or the engine's."""

    def __init__(self, world, ruleset: str = "") -> None:
        self.world = world
        if ruleset:
            world.lab.nat_a.nft(ruleset)
        self.agents = {"a": world.a, "b": world.b}
        world.a.bind("same", world.lab.a.address, PORT)
        world.b.bind("same", world.lab.b.address, PORT)

    def out(self, host: str, to: str) -> Address:
        self.agents[host].send("same", SERVER[to].sockname)
        return Address(*self.world.server.source_seen(to))

    def into(self, source: str, external: Address) -> str | None:
        self.world.server.send(source, external.sockname)
        got = [host for host, agent in self.agents.items() if agent.receive("same", within=0.2)]
        assert len(got) <= 1
        return got[0] if got else None


class Engine:
    """The same two behind the preset."""

    def __init__(self, world) -> None:
        (layer,) = preset("linux").layers
        self.nat = Nat(layer.at(world.lab.nat_a.address), random_bytes=Random(1).randbytes)
        self.hosts = {"a": Address(world.lab.a.address, PORT), "b": Address(world.lab.b.address, PORT)}
        self.now = 0.0

    def out(self, host: str, to: str) -> Address:
        verdict = self.nat.outbound(Packet(self.hosts[host], SERVER[to], b""), self._next())
        assert isinstance(verdict, Translation)
        return verdict.packet.source

    def into(self, source: str, external: Address) -> str | None:
        verdict = self.nat.inbound(Packet(SERVER[source], external, b""), self._next())
        if not isinstance(verdict, Translation):
            return None
        return next(host for host, address in self.hosts.items() if address == verdict.packet.destination)

    def _next(self) -> float:
        self.now += 0.1
        return self.now


def fate(router) -> list[str | None]:
    """What becomes of every step: whether the port was kept, who received it."""
    seen: dict[tuple[str, str], Address] = {}
    story: list[str | None] = []
    for step in STEPS:
        if len(step) == 2:
            external = router.out(*step)
            same = seen.setdefault(step, external) == external
            story.append(("kept" if external.port == PORT else "moved") if same else "not the same as before")
        else:
            source, host, remote = step
            story.append(router.into(source, seen[host, remote]))
    return story


EXPECTED = [
    *("kept", "kept", "a", None),
    *("kept", "b"),
    *("moved", "b", "a", "moved", "b"),
    *("moved", "a", "moved"),
    *("kept", "kept"),
]


@pytest.mark.lab
def test_the_same_packets_have_the_same_fate(build) -> None:
    with build("port-restricted", same_lan=True) as world:
        kernel, engine = fate(Router(world, MASQUERADE)), fate(Engine(world))
    assert engine == EXPECTED
    assert kernel == engine


KNOCK = """
import errno, socket
answers = []
for kind, port in ((socket.SOCK_DGRAM, 40000), (socket.SOCK_STREAM, 40001)):
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.settimeout(5)
        try:
            sock.connect(("PUBLIC", port))
            sock.send(b"anybody there?")
            sock.recv(10)
        except OSError as error:
            answers.append(errno.errorcode.get(error.errno or 0, str(error)))
print(*answers)
"""


@pytest.mark.lab
def test_who_knocks_where_nobody_is_gets_the_same_answer(build) -> None:
    """An ICMP port unreachable over UDP, a reset over TCP: both refuse the connection."""
    with build("port-restricted", same_lan=True) as world:
        public = world.lab.nat_a.address
        world.lab.nat_a.nft(MASQUERADE)
        told = world.lab.server.run([sys.executable, "-c", KNOCK.replace("PUBLIC", public)]).stdout.split()
        nat = Engine(world).nat
    udp = nat.inbound(Packet(SERVER["x1"], Address(public, PORT), b""), 0.0)
    tcp = nat.inbound(
        Packet(SERVER["x1"], Address(public, PORT + 1), b"", IpProtocol.TCP, tcp=Segment(SYN)), 0.0
    )
    assert told == ["ECONNREFUSED", "ECONNREFUSED"]
    assert udp.answer.icmp.kind is IcmpKind.PORT_UNREACHABLE
    assert tcp.answer.tcp.flags & RST


@pytest.mark.lab
@needs_tun
def test_the_engine_as_a_router_in_user_space_does_the_same(build) -> None:
    with build("linux", same_lan=True) as world:
        assert fate(Router(world)) == EXPECTED
