"""The dimensions of NATS.md beyond RFC 4787's three: sharing, blocks, contiguity, ranges, timers, sizes."""

from __future__ import annotations

from ipaddress import ip_network
from random import Random

import pytest

from nat.support import (
    HOST,
    OTHER_HOST,
    PUBLIC,
    REMOTE,
    SAME_HOST_OTHER_PORT,
    SECOND,
    STRANGER,
    into,
    make,
    out,
    reason,
)
from natwalk.core import Address
from natwalk.nat import (
    SYN,
    Allocation,
    DropReason,
    EarlyProbe,
    Filtering,
    Icmp,
    IcmpKind,
    IpProtocol,
    Mapping,
    Nat,
    NatConfig,
    Packet,
    Segment,
    WhenFull,
)
from natwalk.nat.table import Guest

EIM, ADM, APDM = Mapping
EIF, ADF, APDF = Filtering
UDP = IpProtocol.UDP


class TestSharing:
    """One external port, several mappings: told apart by the remote."""

    def test_two_hosts_share_a_port_towards_different_remotes(self) -> None:
        nat = make(mapping=APDM, share_ports=True)
        assert out(nat, HOST, REMOTE) == out(nat, OTHER_HOST, STRANGER) == Address(PUBLIC, 5000)
        assert into(nat, REMOTE, Address(PUBLIC, 5000)).packet.destination == HOST
        assert into(nat, STRANGER, Address(PUBLIC, 5000)).packet.destination == OTHER_HOST

    def test_towards_one_remote_the_second_gets_another_port(self) -> None:
        nat = make(mapping=APDM, share_ports=True)
        assert out(nat, HOST, REMOTE) != out(nat, OTHER_HOST, REMOTE)

    def test_an_address_dependent_one_shares_by_address(self) -> None:
        nat = make(mapping=ADM, filtering=ADF, share_ports=True)
        assert out(nat, HOST, REMOTE) != out(nat, OTHER_HOST, SAME_HOST_OTHER_PORT)
        assert out(nat, OTHER_HOST, STRANGER) == Address(PUBLIC, 5000)

    def test_a_socket_can_keep_the_port_it_moved_to(self) -> None:
        """So Linux, found by the test of the engine against the kernel."""
        nat = make(mapping=APDM, share_ports=True, reuse_ports=True, idle_timeout=30)
        out(nat, OTHER_HOST, REMOTE, 0.0)
        moved = out(nat, HOST, REMOTE, 1.0)
        assert moved.port != 5000
        assert out(nat, HOST, STRANGER, 2.0) == moved
        assert out(nat, OTHER_HOST.with_port(moved.port), SAME_HOST_OTHER_PORT, 2.0) == moved
        assert out(nat, HOST, SAME_HOST_OTHER_PORT, 3.0).port == 5000, "there it is taken"
        assert out(nat, HOST, REMOTE.with_port(9), 100.0).port == 5000, "all is forgotten"

    @pytest.mark.parametrize(
        "fields",
        [
            {"mapping": EIM, "share_ports": True},
            {"mapping": APDM, "reuse_ports": True},
            {"mapping": APDM, "filtering": ADF, "share_ports": True},
            {"mapping": APDM, "share_ports": True, "independent_ports": frozenset({500})},
        ],
    )
    def test_what_cannot_be_told_apart_is_refused(self, fields: dict[str, object]) -> None:
        with pytest.raises(ValueError, match="shar"):
            NatConfig(**fields)  # type: ignore[arg-type]


class TestOverload:
    """RFC 4787 §4.2.1, port overloading: the internal port always."""

    def test_of_two_hosts_with_one_port_the_newer_takes_what_comes_in(self) -> None:
        nat = make(allocation=Allocation.OVERLOAD)
        assert out(nat, HOST, REMOTE) == out(nat, OTHER_HOST, REMOTE) == Address(PUBLIC, 5000)
        assert into(nat, REMOTE, Address(PUBLIC, 5000)).packet.destination == OTHER_HOST
        assert out(nat, HOST, REMOTE) == Address(PUBLIC, 5000)
        assert into(nat, REMOTE, Address(PUBLIC, 5000)).packet.destination == OTHER_HOST, "starves"

    def test_with_dependent_mapping_only_flows_to_one_remote_collide(self) -> None:
        nat = make(allocation=Allocation.OVERLOAD, mapping=APDM)
        assert out(nat, HOST, REMOTE) == out(nat, OTHER_HOST, STRANGER) == Address(PUBLIC, 5000)
        assert into(nat, REMOTE, Address(PUBLIC, 5000)).packet.destination == HOST

    def test_the_older_gets_the_port_back_by_a_new_mapping(self) -> None:
        nat = make(allocation=Allocation.OVERLOAD, idle_timeout=30)
        out(nat, HOST, REMOTE, 0.0)
        out(nat, OTHER_HOST, REMOTE, 1.0)
        out(nat, HOST, REMOTE, 30.0)
        assert into(nat, REMOTE, Address(PUBLIC, 5000), 30.0).packet.destination == HOST


class TestBlocks:
    """RFC 7422 §2: ports of one subscriber come out of its own block."""

    def fields(self, **more: object) -> dict[str, object]:
        return {"mapping": APDM, "allocation": Allocation.BLOCK, "block_size": 64} | more

    def ports(self, nat: Nat, host: Address, count: int) -> list[int]:
        return [out(nat, host, REMOTE.with_port(n)).port for n in range(1, count + 1)]

    def test_all_ports_of_a_subscriber_lie_in_one_block_and_no_two_share_one(self) -> None:
        nat = make(**self.fields())
        blocks = [{(port - 1024) // 64 for port in self.ports(nat, host, 64)} for host in (HOST, OTHER_HOST)]
        assert [len(block) for block in blocks] == [1, 1]
        assert blocks[0] != blocks[1]

    def test_the_block_is_all_there_is(self) -> None:
        nat = make(**self.fields())
        self.ports(nat, HOST, 64)
        assert reason(nat.outbound(Packet(HOST, STRANGER, b""), 0.0)) is DropReason.NO_PORT

    def test_unless_it_may_have_more(self) -> None:
        nat = make(**self.fields(blocks_per_subscriber=2))
        assert len({(port - 1024) // 64 for port in self.ports(nat, HOST, 128)}) == 2

    def test_blocks_run_out_and_come_back(self) -> None:
        nat = make(**self.fields(ports=(1024, 1087), idle_timeout=10))
        out(nat, HOST, REMOTE, 0.0)
        assert reason(nat.outbound(Packet(OTHER_HOST, STRANGER, b""), 9.0)) is DropReason.NO_PORT
        out(nat, OTHER_HOST, REMOTE, 10.0)

    def test_tcp_uses_the_same_block(self) -> None:
        nat = make(**self.fields())
        udp = out(nat, HOST, REMOTE)
        echo = Packet(HOST, REMOTE, b"", IpProtocol.ICMP, icmp=Icmp(IcmpKind.ECHO_REQUEST))
        icmp = nat.outbound(echo, 0.0).packet.source
        assert (udp.port - 1024) // 64 == (icmp.port - 1024) // 64

    @pytest.mark.parametrize(
        "fields", [{"block_size": 0}, {"block_size": 65535}, {"blocks_per_subscriber": 0}]
    )
    def test_impossible_blocks_are_refused(self, fields: dict[str, object]) -> None:
        with pytest.raises(ValueError, match="block"):
            NatConfig(**self.fields(**fields))  # type: ignore[arg-type]


class TestContiguity:
    """RFC 4787 §4.2.3: RTCP's port follows RTP's."""

    def test_neighbours_inside_are_neighbours_outside(self) -> None:
        nat = make(allocation=Allocation.RANDOM, keep_parity=True, keep_contiguity=True)
        for port in range(5000, 5400, 2):
            rtp = out(nat, HOST.with_port(port), REMOTE)
            rtcp = out(nat, HOST.with_port(port + 1), REMOTE)
            assert (rtcp.host, rtcp.port) == (rtp.host, rtp.port + 1)

    def test_where_the_neighbour_is_taken_any_port_will_do(self) -> None:
        nat = make(allocation=Allocation.RANDOM, keep_parity=True, keep_contiguity=True, ports=(10, 13))
        out(nat, HOST, REMOTE)
        out(nat, OTHER_HOST, REMOTE)
        assert reason(nat.outbound(Packet(HOST.with_port(6000), REMOTE, b""), 0.0)) is DropReason.NO_PORT
        out(nat, HOST.with_port(6001), REMOTE)
        out(nat, HOST.with_port(5001), REMOTE)

    def test_a_poisoned_neighbour_is_not_taken(self) -> None:
        nat = make(
            allocation=Allocation.RANDOM,
            keep_parity=True,
            keep_contiguity=True,
            early_probe=EarlyProbe.POISONS,
        )
        rtp = out(nat, HOST, REMOTE)
        into(nat, REMOTE, rtp.with_port(rtp.port + 1))
        assert out(nat, HOST.with_port(5001), REMOTE).port != rtp.port + 1

    def test_it_needs_parity(self) -> None:
        with pytest.raises(ValueError, match="parity"):
            NatConfig(keep_contiguity=True)


class TestRange:
    """RFC 4787 §4.2.1: low ports stay low."""

    def test_kept(self) -> None:
        nat = make(keep_range=True)
        assert out(nat, HOST.with_port(500), REMOTE).port == 500
        other = out(nat, OTHER_HOST.with_port(500), REMOTE)
        assert other.port < 1024
        assert other.port != 500

    def test_not_kept(self) -> None:
        assert out(make(), HOST.with_port(500), REMOTE).port >= 1024

    def test_a_low_port_comes_back(self) -> None:
        nat = make(keep_range=True, idle_timeout=10)
        out(nat, HOST.with_port(500), REMOTE)
        assert out(nat, OTHER_HOST.with_port(500), REMOTE, 10.0).port == 500


class TestTimers:
    def test_an_answered_mapping_can_live_longer(self) -> None:
        """Linux: 30 seconds until a reply, 120 after."""
        nat = make(idle_timeout=30, replied_timeout=120, inbound_refresh=True)
        seen = out(nat, HOST, REMOTE, 0.0)
        assert nat.next_expiry() == 30.0
        into(nat, REMOTE, seen, 1.0)
        assert nat.next_expiry() == 121.0
        out(nat, HOST, REMOTE, 2.0)
        assert nat.next_expiry() == 122.0

    def test_absolute_lifetimes_can_spread(self) -> None:
        nat = make(mapping=APDM, absolute_timeout=50, absolute_spread=25)
        for port in range(1, 100):
            out(nat, HOST, REMOTE.with_port(port), 0.0)
        ends = {entry.expires_at for entry in nat.entries(0.0)}
        assert len(ends) > 90
        assert all(50 <= end <= 75 for end in ends)

    def test_a_new_mapping_while_the_old_one_still_lets_in(self) -> None:
        nat = make(allocation=Allocation.RANDOM, remap_after=20, idle_timeout=60)
        old = out(nat, HOST, REMOTE, 0.0)
        assert out(nat, HOST, REMOTE, 19.9) == old
        new = out(nat, HOST, REMOTE, 20.0)
        assert new != old
        assert nat.external(HOST, REMOTE, 21.0) == new
        for external in (old, new):
            assert into(nat, REMOTE, external, 21.0).packet.destination == HOST
        assert reason(into(nat, REMOTE, old, 79.9)) is DropReason.NO_MAPPING


def test_some_internal_ports_are_mapped_endpoint_independently() -> None:
    nat = make(mapping=APDM, allocation=Allocation.RANDOM, independent_ports=frozenset({500}))
    ike = HOST.with_port(500)
    assert out(nat, ike, REMOTE) == out(nat, ike, STRANGER)
    assert out(nat, HOST, REMOTE) != out(nat, HOST, STRANGER)


@pytest.mark.parametrize("inwards", [False, True])
def test_packets_above_some_size_vanish(inwards: bool) -> None:
    nat = make(max_packet=1000)
    seen = out(nat, HOST, REMOTE)

    def verdict(size: int):
        if inwards:
            return nat.inbound(Packet(REMOTE, seen, bytes(size - 28)), 0.0)
        return nat.outbound(Packet(HOST, REMOTE, bytes(size - 28)), 0.0)

    assert reason(verdict(1000)) is None
    assert reason(verdict(1001)) is DropReason.TOO_LARGE
    assert verdict(1001).answer is None


class TestForwards:
    """Mappings that a service on the router asks for."""

    def test_everybody_gets_in_until_its_end_whatever_the_traffic(self) -> None:
        nat = make(mapping=APDM, allocation=Allocation.RANDOM, inbound_refresh=True)
        external = nat.forward(UDP, HOST, 100.0, 0.0, external_port=7000)
        assert external == Address(PUBLIC, 7000)
        for now in (0.0, 50.0, 99.9):
            assert into(nat, STRANGER, external, now).packet.destination == HOST
            assert out(nat, HOST, REMOTE, now) == external, "packets out go by it too"
        assert nat.forwarded(UDP, HOST, 60.0) == (external, 40.0)
        assert reason(into(nat, STRANGER, external, 100.0)) is DropReason.NO_MAPPING
        assert nat.forwarded(UDP, HOST, 100.0) is None

    def test_renewed_it_keeps_its_port_and_can_end_sooner(self) -> None:
        nat = make()
        external = nat.forward(UDP, HOST, 100.0, 0.0)
        assert nat.forward(UDP, HOST, 100.0, 50.0, external_port=1) == external
        assert nat.next_expiry() == 150.0
        nat.forward(UDP, HOST, 10.0, 50.0)
        assert nat.next_expiry() == 60.0
        assert nat.unforward(UDP, HOST, 55.0)
        assert not nat.unforward(UDP, HOST, 55.0)

    def test_only_guests(self) -> None:
        nat = make()
        guest = Guest(ip_network("203.0.113.0/24"), 3478)
        external = nat.forward(UDP, HOST, 100.0, 0.0, guests=(guest,))
        assert reason(into(nat, REMOTE, external)) is None
        assert reason(into(nat, SAME_HOST_OTHER_PORT, external)) is DropReason.FILTERED
        assert reason(into(nat, STRANGER, external)) is DropReason.FILTERED

    def test_a_taken_port_is_replaced(self) -> None:
        nat = make(share_ports=True, mapping=APDM)
        out(nat, OTHER_HOST, REMOTE)
        external = nat.forward(UDP, HOST, 100.0, 0.0, external_port=5000)
        assert external.port != 5000
        assert out(nat, OTHER_HOST.with_port(external.port), REMOTE) != external

    def test_tcp_connections_come_and_go_and_the_forward_stays(self) -> None:
        nat = make(mapping=APDM, max_peers_per_mapping=1, tcp_transitory=10)
        external = nat.forward(IpProtocol.TCP, HOST, 100.0, 0.0)
        first = Packet(REMOTE, external, b"", IpProtocol.TCP, tcp=Segment(SYN))
        assert nat.inbound(first, 0.0).packet.destination == HOST
        assert nat.next_expiry() == 100.0
        second = first._replace(source=STRANGER)
        assert reason(nat.inbound(second, 1.0)) is DropReason.TABLE_FULL
        assert reason(nat.inbound(second, 10.0)) is None, "the first is over"

    def test_a_port_shared_by_flows_is_nobodys_forward(self) -> None:
        nat = make(mapping=APDM, share_ports=True)
        external = nat.forward(UDP, HOST, 100.0, 0.0, external_port=7000)
        assert out(nat, OTHER_HOST.with_port(7000), REMOTE) != external
        assert into(nat, REMOTE, external).packet.destination == HOST

    @pytest.mark.parametrize("wanted", [5000, None])
    @pytest.mark.parametrize("shared", [False, True])
    def test_the_port_a_socket_has_already_becomes_the_forwards(
        self, wanted: int | None, shared: bool
    ) -> None:
        """STUN first, mapping after: what others were told stays true."""
        nat = make(mapping=APDM if shared else EIM, share_ports=shared)
        seen = {out(nat, HOST, remote) for remote in (REMOTE, STRANGER)}
        assert nat.forward(UDP, HOST, 100.0, 0.0, external_port=wanted) == Address(PUBLIC, 5000)
        assert seen == {Address(PUBLIC, 5000)}
        assert [entry.external for entry in nat.entries(0.0)] == [Address(PUBLIC, 5000)]
        assert into(nat, SAME_HOST_OTHER_PORT, Address(PUBLIC, 5000)).packet.destination == HOST

    def test_unless_somebody_else_shares_it(self) -> None:
        nat = make(mapping=APDM, share_ports=True)
        out(nat, HOST, REMOTE)
        out(nat, OTHER_HOST, STRANGER)
        assert nat.forward(UDP, HOST, 100.0, 0.0, external_port=5000).port != 5000

    def test_used_ones_are_not_the_first_to_be_evicted(self) -> None:
        nat = make(max_mappings=2, when_full=WhenFull.EVICT_OLDEST)
        external = nat.forward(UDP, HOST, 100.0, 0.0, external_port=7000)
        for n in range(5):
            out(nat, OTHER_HOST.with_port(6000 + n), REMOTE, float(n))
            out(nat, HOST, REMOTE, n + 0.5)
        assert into(nat, STRANGER, external, 9.0).packet.destination == HOST

    def test_a_flow_through_one_can_be_held_and_is_anyway(self) -> None:
        nat = make()
        external = nat.forward(UDP, HOST, 100.0, 0.0)
        assert nat.hold(HOST, REMOTE, 600.0, 1.0) == (external, 99.0)

    def test_exactly_this_port_or_none(self) -> None:
        nat = make()
        nat.forward(UDP, HOST, 100.0, 0.0, external_port=7000)
        assert nat.forward(UDP, OTHER_HOST, 9.0, 0.0, external_port=7000, exact=True) is DropReason.NO_PORT
        assert nat.forward(UDP, OTHER_HOST, 9.0, 0.0, external_port=7001, exact=True).port == 7001

    def test_limits_hold(self) -> None:
        nat = make(max_mappings=1)
        nat.forward(UDP, HOST, 100.0, 0.0)
        assert nat.forward(UDP, OTHER_HOST, 100.0, 0.0) is DropReason.TABLE_FULL
        full = make(ports=(4000, 4000))
        full.forward(UDP, HOST, 100.0, 0.0)
        assert full.forward(UDP, OTHER_HOST, 100.0, 0.0) is DropReason.NO_PORT

    def test_a_reboot_forgets_them(self) -> None:
        nat = make()
        nat.forward(UDP, HOST, 100.0, 0.0)
        nat.reset(1.0)
        assert nat.forwarded(UDP, HOST, 1.0) is None
        assert nat.public_addresses == (PUBLIC,)


def test_an_idle_nat_is_small() -> None:
    """Ten thousand pairs have twenty thousand of them."""
    import tracemalloc

    config = NatConfig(public_addresses=(PUBLIC, SECOND))
    tracemalloc.start()
    nats = [Nat(config, random_bytes=Random(1).randbytes) for _ in range(100)]
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / len(nats) < 8192
