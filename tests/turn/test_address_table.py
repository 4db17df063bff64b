"""The whole table of addresses a relay must refuse, on every path: FAULTS 1, 2, 3, 4, 5, 7, 8, 14."""

from __future__ import annotations

from typing import Any

import pytest

from natwalk.core import Address, Path, Transport
from natwalk.stun import DATA, REQUESTED_ADDRESS_FAMILY, XOR_PEER_ADDRESS
from natwalk.turn import ConnectWanted, PeerPolicy, TurnConfig
from turn_world import LISTENER, RELAY, RELAY6, Raw, World, code_of, make_config

ALWAYS = (
    # this network, IPv4 and IPv6
    *("0.0.0.0", "0.1.2.3", "0.255.255.255", "::"),
    # IPv4 in IPv6: mapped, compatible, SIIT, local NAT64, and ISATAP and NAT64 of what is refused always
    *("::ffff:127.0.0.1", "::ffff:0.0.0.0", "::ffff:169.254.169.254", "::ffff:8.8.8.8", "::127.0.0.1"),
    *("::8.8.8.8", "::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8", "64:ff9b:1::7f00:1", "64:ff9b:1:2::808:808"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b::e000:1", "64:ff9b::", "2001:470::5efe:169.254.169.254"),
    # tunnels
    *("2002:7f00:1::", "2002:808:808::1", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "192.88.99.1"),
    # link-local, metadata, unique-local, site-local
    *("169.254.0.1", "169.254.169.254", "169.254.254.255", "fe80::1", "febf::1", "fc00::1", "fd00:ec2::254"),
    *("fdff::1", "fec0::1", "feff::1"),
    # multicast, reserved, broadcast, discard-only, benchmarking, protocol assignments
    *("224.0.0.1", "239.255.255.254", "ff02::1", "ff0e::1", "ff00::", "240.0.0.1", "255.255.255.255"),
    *("100::1", "198.18.0.1", "198.19.255.254", "192.0.0.1", "192.0.0.254"),
)
"""Refused whatever the operator allows."""

UNLESS_ALLOWED = (
    *("127.0.0.1", "127.0.0.8", "127.255.255.254", "::1"),
    *("10.0.0.1", "10.255.255.254", "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.255.254"),
    *("100.64.0.0", "100.100.100.200", "100.127.255.254", "168.63.129.16"),
    *("192.0.2.1", "192.0.2.254", "198.51.100.1", "198.51.100.254", "203.0.113.1", "203.0.113.254"),
    *("2001:db8::1", "3fff::1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2001:470::5efe:127.0.0.1"),
    *("2001:470::200:5efe:10.0.0.1",),
)
"""Refused unless the operator allows them (or the IPv4 address they stand for) by name."""

OPEN = (
    *("8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "11.0.0.0"),
    *("192.0.1.1", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2606:4700::1111", "2a00::1"),
    *("64:ff9b::808:808",),
)

EVERYTHING = ("0.0.0.0/0", "::/0")


class Paths:
    """One allocation for UDP and one for TCP, of the family of ``host``, that try all ways to a peer."""

    def __init__(self, host: str, policy: PeerPolicy) -> None:
        self.world = world = World(make_config(policy=policy, tcp_relays=True))
        family = (REQUESTED_ADDRESS_FAMILY, 2 if ":" in host else 1)
        self.udp = self.allocation(Transport.UDP, family)
        self.tcp = self.allocation(Transport.TCP, family)
        self.host = host
        world.to_peers.clear()

    def allocation(self, transport: Transport, family: tuple[Any, Any]) -> Raw:
        raw = self.world.raw_client(50000 if transport is Transport.UDP else 50001, transport=transport)
        answer = raw.allocate_tcp(family) if transport is Transport.TCP else raw.allocate(family)
        assert code_of(answer) == 0
        return raw

    def answers(self, port: int = 80) -> tuple[int, ...]:
        """What CreatePermission, ChannelBind and Connect are answered: 0 also for a Connect under way."""
        peer = Address(self.host, port)
        permitted = self.udp.permit(peer)
        bound = self.udp.bind_channel(0x4000, peer)
        connect = code_of(self.tcp.connect(peer))
        under_way = connect == -1 and any(isinstance(e, ConnectWanted) for e in self.world.server_events)
        return permitted, bound, 0 if under_way else connect

    def leaks(self, port: int = 80) -> list[str]:
        """Which ways are open when a permission is there, however that came about."""
        world, peer, found = self.world, Address(self.host, port), []
        table = world.server._table
        for raw in (self.udp, self.tcp):
            table.permit(table.by_client[raw.path], peer.host, world.now)
        self.udp.indicate((XOR_PEER_ADDRESS, peer), (DATA, b"x"))
        if world.to_peers:
            found.append("Send")
        self.udp.inbox()
        assert self.udp.relayed is not None
        assert self.tcp.relayed is not None
        world.server.receive(b"x", Path(self.udp.relayed, peer), world.now)
        if world.server.poll_transmit() is not None:
            found.append("peer to client")
        if world.server.peer_accepted(self.tcp.relayed, peer, world.now) is not None:
            found.append("connection from the peer")
        return found


@pytest.mark.parametrize("host", ALWAYS + UNLESS_ALLOWED)
def test_special_address_is_refused_on_every_path(host: str) -> None:
    """FAULTS 1, 2, 3, 4, 5, 7: 403 three times, no datagram either way, no connection either way."""
    paths = Paths(host, PeerPolicy())
    assert paths.answers() == (403, 403, 403)
    assert paths.leaks() == []
    assert not any(isinstance(event, ConnectWanted) for event in paths.world.server_events)


@pytest.mark.parametrize("host", ALWAYS)
def test_nothing_opens_what_is_refused_always(host: str) -> None:
    """FAULTS 3, 13: not even an entry for everything."""
    paths = Paths(host, PeerPolicy(allow=EVERYTHING))
    assert paths.answers() == (403, 403, 403)
    assert paths.leaks() == []


@pytest.mark.parametrize("host", UNLESS_ALLOWED + OPEN)
def test_allowed_and_global_addresses_are_open_on_every_path(host: str) -> None:
    """The table refuses what it says and nothing else: 8080 is no denied port."""
    paths = Paths(host, PeerPolicy(allow=EVERYTHING if host in UNLESS_ALLOWED else ()))
    assert paths.answers(8080) == (0, 0, 0)
    assert paths.leaks(8081) == ["Send", "peer to client", "connection from the peer"]


@pytest.mark.parametrize("host", [RELAY, RELAY6])
@pytest.mark.parametrize("port", [3478, 5349, 9641, 22, 49152, 65535])
def test_own_endpoints_are_refused_on_every_path(host: str, port: int) -> None:
    """FAULTS 8: listeners, the admin port, any port of an own host, closed relay ports."""
    paths = Paths(host, PeerPolicy())
    paths.world.server.add_listener(LISTENER.with_port(5349), Transport.TLS)
    paths.world.server.set_own_endpoints([Address(RELAY, 9641), Address(RELAY6, 9641)])
    _, bound, connect = paths.answers(port)
    assert (bound, connect) == (403, 403)
    assert paths.leaks(port) == []


def test_backend_of_the_server_is_refused_though_it_is_allowed() -> None:
    """FAULTS 8: a database on an address the policy opens."""
    database = Address("10.0.0.7", 5432)
    paths = Paths(database.host, PeerPolicy(allow=["10.0.0.0/8"]))
    paths.world.server.set_own_endpoints([database])
    assert paths.answers(5432) == (403, 403, 403)
    assert paths.leaks(5432) == []


def test_names_are_no_addresses() -> None:
    """FAULTS 14: nothing in the core takes a name, so nothing is resolved twice; who resolves, pins."""
    for make in (
        lambda: Address("db.internal", 5432),
        lambda: PeerPolicy(deny=["db.internal"]),
        lambda: TurnConfig(relay_addresses=("turn.example.org",)),
    ):
        with pytest.raises(ValueError):
            make()
