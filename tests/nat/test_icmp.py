"""ICMP through the NAT (RFC 5508) and hop limits."""

from __future__ import annotations

import pytest

from nat.support import HOST, OTHER_HOST, PUBLIC, REMOTE, STRANGER, into, make, out, reason
from natwalk.core import Address
from natwalk.nat import (
    Allocation,
    DropReason,
    EarlyProbe,
    Filtering,
    Hairpin,
    Icmp,
    IcmpKind,
    IpProtocol,
    Nat,
    Packet,
    Side,
    Translation,
    icmp_error,
)

ICMP = IpProtocol.ICMP
ROUTER = Address("192.0.2.254", 0)
QUERY = Address(HOST.host, 77)
TARGET = Address(REMOTE.host, 0)


def ping(nat: Nat, source: Address = QUERY, now: float = 0.0) -> Address:
    verdict = nat.outbound(Packet(source, TARGET, b"", ICMP, icmp=Icmp(IcmpKind.ECHO_REQUEST)), now)
    assert isinstance(verdict, Translation)
    return verdict.packet.source


def error(source: Address, destination: Address, about: Packet, kind: IcmpKind) -> Packet:
    return Packet(source, destination.with_port(0), b"", ICMP, icmp=Icmp(kind, about))


class TestQueries:
    """RFC 5508 §3: the identifier is translated as a port is."""

    def test_a_ping_and_its_reply(self) -> None:
        nat = make()
        seen = ping(nat)
        assert seen == Address(PUBLIC, 77)
        reply = Packet(TARGET, seen, b"", ICMP, icmp=Icmp(IcmpKind.ECHO_REPLY))
        assert nat.inbound(reply, 59.9) == Translation(
            reply._replace(destination=QUERY, ttl=63), Side.INTERNAL
        )
        assert reason(nat.inbound(reply, 60.0)) is DropReason.NO_MAPPING

    def test_two_hosts_with_one_identifier(self) -> None:
        nat = make()
        assert ping(nat) != ping(nat, Address(OTHER_HOST.host, 77))

    def test_a_reply_from_inside_makes_no_mapping(self) -> None:
        nat = make()
        reply = Packet(Address(HOST.host, 0), TARGET.with_port(7), b"", ICMP, icmp=Icmp(IcmpKind.ECHO_REPLY))
        assert reason(nat.outbound(reply, 0.0)) is DropReason.NO_MAPPING
        assert nat.entries(0.0) == ()

    def test_a_ping_from_outside_has_no_mapping(self) -> None:
        nat = make()
        ping(nat)
        request = Packet(
            TARGET.with_port(77), Address(PUBLIC, 0), b"", ICMP, icmp=Icmp(IcmpKind.ECHO_REQUEST)
        )
        assert reason(nat.inbound(request, 0.0)) is DropReason.NO_MAPPING


class TestErrorsFromOutside:
    """RFC 5508 §4.2.1: delivered to who sent the packet, which is quoted as that host knows it."""

    @pytest.mark.parametrize("kind", [IcmpKind.PORT_UNREACHABLE, IcmpKind.TIME_EXCEEDED])
    def test_translated_inside_and_out(self, kind: IcmpKind) -> None:
        nat = make(allocation=Allocation.RANDOM)
        seen = out(nat, HOST, REMOTE)
        verdict = nat.inbound(error(ROUTER, seen, Packet(seen, REMOTE, b"x"), kind), 1.0)
        assert verdict == Translation(
            error(ROUTER, HOST, Packet(HOST, REMOTE, b"x"), kind)._replace(ttl=63), Side.INTERNAL
        )
        assert nat.next_expiry() == 120.0, "refreshes nothing"

    def test_about_a_ping(self) -> None:
        nat = make(allocation=Allocation.RANDOM)
        seen = ping(nat)
        about = Packet(seen, TARGET, b"", ICMP, icmp=Icmp(IcmpKind.ECHO_REQUEST))
        verdict = nat.inbound(error(ROUTER, seen, about, IcmpKind.HOST_UNREACHABLE), 1.0)
        assert isinstance(verdict, Translation)
        assert verdict.packet.destination == Address(HOST.host, 0)
        assert verdict.packet.icmp.about.source == QUERY

    def test_about_nothing_we_sent(self) -> None:
        about = Packet(Address(PUBLIC, 9), REMOTE, b"")
        verdict = make().inbound(error(ROUTER, about.source, about, IcmpKind.PORT_UNREACHABLE), 0.0)
        assert reason(verdict) is DropReason.NO_MAPPING

    @pytest.mark.parametrize("ends", [False, True])
    def test_some_nats_end_the_mapping(self, ends: bool) -> None:
        nat = make(icmp_error_ends_mapping=ends)
        seen = out(nat, HOST, REMOTE)
        nat.inbound(error(ROUTER, seen, Packet(seen, REMOTE, b""), IcmpKind.TIME_EXCEEDED), 1.0)
        assert (nat.entries(1.0) == ()) is ends


class TestErrorsFromInside:
    """RFC 5508 §4.2.2: outside it comes from the NAT's address, about a packet to that address."""

    @pytest.mark.parametrize("router", [HOST.with_port(0), Address("192.168.1.254", 0)])
    def test_translated_inside_and_out(self, router: Address) -> None:
        nat = make(allocation=Allocation.RANDOM)
        seen = out(nat, HOST, REMOTE)
        about = Packet(REMOTE, HOST, b"")
        verdict = nat.outbound(error(router, REMOTE, about, IcmpKind.PORT_UNREACHABLE), 1.0)
        assert verdict == Translation(
            error(Address(PUBLIC, 0), REMOTE, Packet(REMOTE, seen, b""), IcmpKind.PORT_UNREACHABLE)._replace(
                ttl=63
            ),
            Side.EXTERNAL,
        )

    def test_about_nothing_that_came_in(self) -> None:
        packet = error(HOST, REMOTE, Packet(REMOTE, HOST, b""), IcmpKind.PORT_UNREACHABLE)
        assert reason(make().outbound(packet, 0.0)) is DropReason.NO_MAPPING

    def test_between_neighbours_it_is_translated_twice(self) -> None:
        """RFC 5508 §5: hairpinned, as the packet it is about was."""
        nat = make(
            hairpin=Hairpin.EXTERNAL_SOURCE,
            filtering=Filtering.ENDPOINT_INDEPENDENT,
            allocation=Allocation.RANDOM,
        )
        mine, target = out(nat, HOST, REMOTE), out(nat, OTHER_HOST, REMOTE)
        delivered = nat.outbound(Packet(HOST, target, b"x"), 0.0).packet
        assert (delivered.source, delivered.destination) == (mine, OTHER_HOST)
        verdict = nat.outbound(error(OTHER_HOST, mine, delivered, IcmpKind.PORT_UNREACHABLE), 0.0)
        assert isinstance(verdict, Translation)
        assert verdict.side is Side.INTERNAL
        assert verdict.packet.destination == HOST.with_port(0)
        about = verdict.packet.icmp.about
        assert (about.source, about.destination) == (HOST, target)


class TestHops:
    def test_each_nat_takes_one(self) -> None:
        nat = make()
        verdict = nat.outbound(Packet(HOST, REMOTE, b"", ttl=5), 0.0)
        assert verdict.packet.ttl == 4
        back = nat.inbound(Packet(REMOTE, verdict.packet.source, b"", ttl=2), 0.0)
        assert back.packet.ttl == 1

    @pytest.mark.parametrize("ttl", [0, 1])
    def test_a_packet_without_hops_left_makes_no_mapping_and_its_sender_hears_of_it(self, ttl: int) -> None:
        nat = make(router_address="192.168.1.1")
        packet = Packet(HOST, REMOTE, b"", ttl=ttl)
        verdict = nat.outbound(packet, 0.0)
        assert reason(verdict) is DropReason.TTL_EXPIRED
        assert verdict.answer == icmp_error(IcmpKind.TIME_EXCEEDED, packet, "192.168.1.1")
        assert nat.entries(0.0) == ()

    def test_inbound_too(self) -> None:
        nat = make()
        seen = out(nat, HOST, REMOTE)
        verdict = nat.inbound(Packet(REMOTE, seen, b"", ttl=1), 0.0)
        assert reason(verdict) is DropReason.TTL_EXPIRED
        assert verdict.answer.source == Address(PUBLIC, 0)

    def test_errors_are_not_answered_with_errors(self) -> None:
        packet = error(HOST, REMOTE, Packet(REMOTE, HOST, b""), IcmpKind.PORT_UNREACHABLE)
        assert make().outbound(packet._replace(ttl=1), 0.0).answer is None


def test_an_early_udp_probe_can_be_answered() -> None:
    nat = make(early_probe=EarlyProbe.ANSWERED)
    probe = Packet(STRANGER, Address(PUBLIC, 5000), b"in")
    verdict = into(nat, STRANGER, probe.destination)
    assert verdict.answer == icmp_error(IcmpKind.PORT_UNREACHABLE, probe, PUBLIC)
    assert out(nat, HOST, STRANGER) == Address(PUBLIC, 5000), "and poisons nothing"
