"""Middleboxes other than a port-translating NAT: basic and twice NAT, NAT64, layers, firewalls, portals."""

from __future__ import annotations

from random import Random

import pytest

from nat.support import HOST, OTHER_HOST, PUBLIC, REMOTE, SECOND, STRANGER, reason
from natwalk.core import Address
from natwalk.nat import (
    ACK,
    RST,
    SYN,
    Allocation,
    BasicNat,
    BasicNatConfig,
    Dropped,
    DropReason,
    Filtering,
    Firewall,
    FirewallConfig,
    FlowConfig,
    Hairpin,
    Icmp,
    IcmpKind,
    IpProtocol,
    Layers,
    Mapping,
    Nat,
    Nat64,
    Nat64Config,
    NatConfig,
    Packet,
    PortalConfig,
    Segment,
    Side,
    Translation,
    TwiceNat,
    TwiceNatConfig,
    UnsolicitedSyn,
    embed,
    extract,
    make_box,
)

ICMP, TCP, UDP = IpProtocol
EIF = Filtering.ENDPOINT_INDEPENDENT


def rng():
    return Random(1).randbytes


def syn(source: Address, destination: Address, flags: int = SYN) -> Packet:
    return Packet(source, destination, b"", TCP, tcp=Segment(flags))


def error_about(
    about: Packet, source: str, kind: IcmpKind = IcmpKind.HOST_UNREACHABLE, mtu: int = 0
) -> Packet:
    return Packet(Address(source, 0), about.source.with_port(0), b"", ICMP, icmp=Icmp(kind, about, mtu))


class TestBasicNat:
    """RFC 3022 §2.1: addresses, not ports."""

    def test_static_both_ways_from_the_first_packet(self) -> None:
        nat = BasicNat(BasicNatConfig(static=((HOST.host, PUBLIC),)))
        come = nat.inbound(Packet(STRANGER, Address(PUBLIC, 80), b"x"), 0.0)
        assert come == Translation(Packet(STRANGER, HOST.with_port(80), b"x", ttl=63), Side.INTERNAL)
        go = nat.outbound(Packet(HOST, REMOTE, b"x"), 1e9)
        assert go == Translation(Packet(Address(PUBLIC, 5000), REMOTE, b"x", ttl=63), Side.EXTERNAL)
        nat.reset(1e9)
        assert nat.next_expiry() is None
        assert isinstance(nat.inbound(Packet(STRANGER, Address(PUBLIC, 80), b""), 1e9), Translation)

    def test_a_pool_lends_an_address_to_each_host_until_it_is_idle(self) -> None:
        nat = BasicNat(BasicNatConfig(pool=(PUBLIC,), idle_timeout=10))
        assert reason(nat.inbound(Packet(REMOTE, Address(PUBLIC, 1), b""), 0.0)) is DropReason.NO_MAPPING
        assert reason(nat.inbound(Packet(REMOTE, Address(SECOND, 1), b""), 0.0)) is DropReason.NOT_OURS
        nat.outbound(Packet(HOST, REMOTE, b""), 0.0)
        assert reason(nat.outbound(Packet(OTHER_HOST, REMOTE, b""), 1.0)) is DropReason.NO_ADDRESS
        nat.inbound(Packet(STRANGER, Address(PUBLIC, 9), b""), 5.0)
        assert nat.next_expiry() == 15.0
        assert reason(nat.outbound(Packet(OTHER_HOST, REMOTE, b""), 14.9)) is DropReason.NO_ADDRESS
        assert isinstance(nat.outbound(Packet(OTHER_HOST, REMOTE, b""), 15.0), Translation)
        nat.reset(16.0)
        assert isinstance(nat.outbound(Packet(HOST, REMOTE, b""), 16.0), Translation)
        assert nat.next_answer() is None
        assert nat.answers(16.0) == []

    def test_errors_are_translated_inside_too(self) -> None:
        nat = BasicNat(BasicNatConfig(static=((HOST.host, PUBLIC),)))
        seen = Packet(Address(PUBLIC, 5000), REMOTE, b"")
        verdict = nat.inbound(error_about(seen, "192.0.2.254"), 0.0)
        assert verdict.packet.destination.host == HOST.host
        assert verdict.packet.icmp.about.source == HOST
        back = nat.outbound(error_about(Packet(REMOTE, HOST, b""), HOST.host), 0.0)
        assert back.packet.source.host == PUBLIC
        assert back.packet.icmp.about.destination == Address(PUBLIC, 5000)

    def test_hops(self) -> None:
        nat = BasicNat(BasicNatConfig(static=((HOST.host, PUBLIC),)))
        for verdict in (
            nat.outbound(Packet(HOST, REMOTE, b"", ttl=1), 0.0),
            nat.inbound(Packet(REMOTE, Address(PUBLIC, 1), b"", ttl=1), 0.0),
        ):
            assert reason(verdict) is DropReason.TTL_EXPIRED
            assert verdict.answer.icmp.kind is IcmpKind.TIME_EXCEEDED

    @pytest.mark.parametrize(
        "fields",
        [
            {"idle_timeout": 0},
            {"static": (("10.0.0.1", PUBLIC), ("10.0.0.1", SECOND))},
            {"static": (("10.0.0.1", PUBLIC), ("10.0.0.2", PUBLIC))},
            {"static": (("10.0.0.1", PUBLIC),), "pool": (PUBLIC,)},
            {"pool": ("example.com",)},
        ],
    )
    def test_what_cannot_be(self, fields: dict[str, object]) -> None:
        with pytest.raises(ValueError):
            BasicNatConfig(**fields)  # type: ignore[arg-type]


class TestTwiceNat:
    """RFC 2663 §4.3: both ends have other addresses inside."""

    def box(self, **fields: object) -> TwiceNat:
        nat = NatConfig(public_addresses=(PUBLIC,), **fields)  # type: ignore[arg-type]
        return TwiceNat(TwiceNatConfig(nat=nat, aliases=(("10.9.9.9", REMOTE.host),)), random_bytes=rng())

    def test_there_and_back(self) -> None:
        box = self.box()
        alias = Address("10.9.9.9", 3478)
        there = box.outbound(Packet(HOST, alias, b"x"), 0.0)
        assert there == Translation(Packet(Address(PUBLIC, 5000), REMOTE, b"x", ttl=63), Side.EXTERNAL)
        back = box.inbound(Packet(REMOTE, Address(PUBLIC, 5000), b"y"), 0.0)
        assert back == Translation(Packet(alias, HOST, b"y", ttl=63), Side.INTERNAL)
        error = box.inbound(error_about(there.packet, "192.0.2.254"), 0.0)
        assert error.packet.icmp.about.destination == alias

    def test_what_has_no_alias_passes_as_it_is(self) -> None:
        box = self.box()
        assert box.outbound(Packet(HOST, STRANGER, b""), 0.0).packet.destination == STRANGER

    def test_answers_to_inside_come_from_what_inside_knows(self) -> None:
        box = self.box(router_address="192.168.1.1")
        verdict = box.outbound(Packet(HOST, Address("10.9.9.9", 1), b"", ttl=1), 0.0)
        assert verdict.answer.icmp.about.destination.host == "10.9.9.9"
        assert box.drops.counts == {"TTL expired": 1}
        assert reason(box.inbound(Packet(REMOTE, Address(PUBLIC, 1), b""), 0.0)) is DropReason.NO_MAPPING

    def test_hairpin_held_answers_and_reset(self) -> None:
        box = self.box(
            hairpin=Hairpin.EXTERNAL_SOURCE,
            filtering=EIF,
            unsolicited_syn=UnsolicitedSyn.RST,
            syn_answer_delay=6,
        )
        box.outbound(Packet(OTHER_HOST, REMOTE, b""), 0.0)
        turned = box.outbound(Packet(HOST, Address(PUBLIC, 5000), b""), 0.0)
        assert turned.side is Side.INTERNAL
        assert reason(box.outbound(Packet(HOST, Address(PUBLIC, 9), b""), 0.0)) is DropReason.NO_MAPPING
        box.inbound(syn(REMOTE, Address(PUBLIC, 1)), 1.0)
        assert box.next_answer() == 7.0
        assert len(box.answers(7.0)) == 1
        box.reset(8.0)
        assert reason(box.inbound(Packet(REMOTE, Address(PUBLIC, 5000), b""), 8.0)) is DropReason.NO_MAPPING

    def test_an_alias_is_there_once(self) -> None:
        with pytest.raises(ValueError, match="alias"):
            TwiceNatConfig(nat=NatConfig(), aliases=(("10.0.0.1", PUBLIC), ("10.0.0.1", SECOND)))


class TestRfc6052:
    """The examples of RFC 6052 §2.4."""

    @pytest.mark.parametrize(
        ("prefix", "address"),
        [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100:0"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::c000:221"),
            ("64:ff9b::/96", "64:ff9b::c000:221"),
        ],
    )
    def test_examples(self, prefix: str, address: str) -> None:
        assert embed("192.0.2.33", prefix) == address
        assert extract(address, prefix) == "192.0.2.33"
        assert extract("2001:db9::1", prefix) is None

    def test_the_eighth_byte_is_zero_or_it_is_none_of_ours(self) -> None:
        assert extract("2001:db8:122:344:1c0:2:2100::", "2001:db8:122:344::/64") is None

    @pytest.mark.parametrize("prefix", ["64:ff9b::/97", "64:ff9b::/95", "2001:db8:0:0:ff00::/96"])
    def test_what_is_no_prefix(self, prefix: str) -> None:
        with pytest.raises(ValueError):
            Nat64Config(nat=NatConfig(), prefix=prefix)


HOST6 = Address("2001:db8:1::10", 5000)
NEIGHBOUR6 = Address("2001:db8:1::11", 5000)


@pytest.mark.parametrize("prefix", ["64:ff9b::/96", "64:ff9b:1::/48"])
class TestNat64:
    """RFC 6146 with the well-known prefix and that for local use."""

    def box(self, prefix: str, **fields: object) -> Nat64:
        nat = NatConfig(public_addresses=(PUBLIC,), allocation=Allocation.RANDOM, **fields)  # type: ignore[arg-type]
        return Nat64(Nat64Config(nat=nat, prefix=prefix), random_bytes=rng())

    def there(self, prefix: str, remote: Address = REMOTE) -> Address:
        return Address(embed(remote.host, prefix), remote.port)

    def test_there_and_back(self, prefix: str) -> None:
        box = self.box(prefix)
        sent = box.outbound(Packet(HOST6, self.there(prefix), b"x"), 0.0)
        assert sent.side is Side.EXTERNAL
        assert sent.packet.destination == REMOTE
        assert sent.packet.source.host == PUBLIC
        back = box.inbound(Packet(REMOTE, sent.packet.source, b"y"), 0.0)
        assert back == Translation(Packet(self.there(prefix), HOST6, b"y", ttl=63), Side.INTERNAL)
        assert reason(box.inbound(Packet(STRANGER, sent.packet.source, b""), 0.0)) is DropReason.FILTERED

    @pytest.mark.parametrize("destination", ["2001:db8::1", "203.0.113.1"])
    def test_other_destinations_are_not_its_business(self, prefix: str, destination: str) -> None:
        box = self.box(prefix)
        verdict = box.outbound(Packet(HOST6, Address(destination, 1), b""), 0.0)
        assert reason(verdict) is DropReason.WRONG_FAMILY
        assert box.drops.total == 1

    def test_private_addresses_only_under_a_prefix_of_ones_own(self, prefix: str) -> None:
        verdict = self.box(prefix).outbound(Packet(HOST6, Address(embed("10.0.0.1", prefix), 1), b""), 0.0)
        assert reason(verdict) is (DropReason.NOT_OURS if prefix == "64:ff9b::/96" else None)

    def test_errors_change_addresses_and_sizes(self, prefix: str) -> None:
        box = self.box(prefix)
        sent = box.outbound(Packet(HOST6, self.there(prefix), b"x"), 0.0).packet
        error = box.inbound(error_about(sent, "192.0.2.254", IcmpKind.PACKET_TOO_BIG, 1400), 0.0).packet
        assert error.source.host == embed("192.0.2.254", prefix)
        assert error.destination.host == HOST6.host
        assert error.icmp.mtu == 1420
        assert (error.icmp.about.source, error.icmp.about.destination) == (HOST6, self.there(prefix))
        came = Packet(self.there(prefix), HOST6, b"")
        back = box.outbound(error_about(came, HOST6.host, IcmpKind.PACKET_TOO_BIG, 1400), 0.0).packet
        assert back.source.host == PUBLIC
        assert back.destination.host == REMOTE.host
        assert back.icmp.mtu == 1380
        assert (back.icmp.about.source, back.icmp.about.destination) == (REMOTE, sent.source)

    def test_neighbours_hairpin_by_their_ipv4_addresses(self, prefix: str) -> None:
        """RFC 6146 §3.8."""
        box = self.box(prefix, hairpin=Hairpin.EXTERNAL_SOURCE, filtering=EIF)
        neighbour = box.outbound(Packet(NEIGHBOUR6, self.there(prefix), b""), 0.0).packet.source
        turned = box.outbound(Packet(HOST6, self.there(prefix, neighbour), b"x"), 0.0)
        assert turned.side is Side.INTERNAL
        assert turned.packet.destination == NEIGHBOUR6
        assert extract(turned.packet.source.host, prefix) == PUBLIC

    def test_answers_are_in_the_right_family(self, prefix: str) -> None:
        box = self.box(prefix, unsolicited_syn=UnsolicitedSyn.ICMP, syn_answer_delay=6)
        verdict = box.outbound(Packet(HOST6, self.there(prefix), b"", ttl=1), 0.0)
        assert verdict.answer.source.version == verdict.answer.destination.version == 6
        assert verdict.answer.icmp.about.destination == self.there(prefix)
        box.inbound(syn(REMOTE, Address(PUBLIC, 1)), 1.0)
        assert box.next_answer() == 7.0
        assert box.answers(7.0)[0].packet.destination.version == 4
        box.reset(8.0)
        assert (
            reason(box.outbound(Packet(HOST6, Address(embed(PUBLIC, prefix), 1), b""), 9.0))
            is DropReason.NO_HAIRPIN
        )


class TestLayers:
    """A home router with an address of RFC 6598 §7 behind a carrier's NAT."""

    HOME, CARRIER = "100.64.0.1", PUBLIC

    def box(self, home: dict[str, object], carrier: dict[str, object]) -> Layers:
        configs = (
            NatConfig(public_addresses=(self.HOME,), **home),
            NatConfig(public_addresses=(PUBLIC,), **carrier),
        )  # type: ignore[arg-type]
        return Layers([Nat(config, random_bytes=Random(n).randbytes) for n, config in enumerate(configs)])

    def test_two_translations_there_and_two_back(self) -> None:
        box = self.box({}, {"allocation": Allocation.RANDOM})
        sent = box.outbound(Packet(HOST, REMOTE, b""), 0.0)
        assert sent.packet.source.host == PUBLIC
        assert sent.packet.ttl == 62
        back = box.inbound(Packet(REMOTE, sent.packet.source, b""), 0.0)
        assert back == Translation(Packet(REMOTE, HOST, b"", ttl=62), Side.INTERNAL)

    def test_the_harder_layer_rules(self) -> None:
        box = self.box(
            {"filtering": EIF},
            {"mapping": Mapping.ADDRESS_AND_PORT_DEPENDENT, "allocation": Allocation.RANDOM},
        )
        assert (
            box.outbound(Packet(HOST, REMOTE, b""), 0.0).packet.source
            != box.outbound(Packet(HOST, STRANGER, b""), 0.0).packet.source
        )
        seen = box.outbound(Packet(HOST, REMOTE, b""), 0.0).packet.source
        assert reason(box.inbound(Packet(STRANGER, seen, b""), 0.0)) is DropReason.FILTERED
        assert box.drops.total == 1

    def test_a_packet_the_carrier_turns_around_comes_back_through_the_home_router(self) -> None:
        box = self.box({"filtering": EIF}, {"filtering": EIF, "hairpin": Hairpin.EXTERNAL_SOURCE})
        target = box.outbound(Packet(OTHER_HOST, REMOTE, b""), 0.0).packet.source
        turned = box.outbound(Packet(HOST, target, b"x"), 0.0)
        assert turned.side is Side.INTERNAL
        assert turned.packet.destination == OTHER_HOST

    def test_hops_run_out_at_the_carrier_and_the_host_hears_of_it(self) -> None:
        """What a low-TTL opener relies on: the home router has a mapping, the carrier does not."""
        box = self.box({}, {})
        verdict = box.outbound(Packet(HOST, REMOTE, b"", ttl=2), 0.0)
        assert reason(verdict) is DropReason.TTL_EXPIRED
        assert verdict.answer.destination.host == HOST.host
        assert verdict.answer.icmp.about.source == HOST
        home, carrier = box.boxes
        assert len(home.mappings(0.0)) == 1
        assert carrier.mappings(0.0) == ()

    def test_an_answer_of_the_home_router_goes_out_through_the_carrier(self) -> None:
        box = self.box({"unsolicited_syn": UnsolicitedSyn.RST}, {"filtering": EIF})
        seen = box.outbound(syn(HOST, REMOTE), 0.0).packet.source
        verdict = box.inbound(syn(STRANGER, seen), 0.0)
        assert reason(verdict) is DropReason.UNSOLICITED_SYN
        assert verdict.answer.tcp.flags & RST
        assert verdict.answer.source == seen

    def test_an_answer_that_cannot_get_back_is_none(self) -> None:
        box = Layers([Firewall(FirewallConfig(udp=True, icmp=False)), self.box({}, {}).boxes[0]])
        verdict = box.outbound(Packet(HOST, REMOTE, b"", ttl=2), 0.0)
        assert verdict == Dropped(DropReason.TTL_EXPIRED, None)

    def test_answers_held_back(self) -> None:
        late = {"unsolicited_syn": UnsolicitedSyn.RST, "syn_answer_delay": 6.0}
        box = self.box(late, late | {"filtering": EIF})
        assert box.next_answer() is None
        seen = box.outbound(syn(HOST, REMOTE), 0.0).packet.source
        box.inbound(syn(STRANGER, seen), 1.0)
        box.inbound(syn(STRANGER, Address(PUBLIC, 9)), 2.0)
        assert box.next_answer() == 7.0
        assert [a.packet.source for a in box.answers(8.0)] == [seen, Address(PUBLIC, 9)]
        box.reset(9.0)
        assert reason(box.inbound(syn(STRANGER, seen), 9.0)) is DropReason.NO_MAPPING


class Inwards:
    """A box that has something to say to inside."""

    def __init__(self, packet: Packet) -> None:
        self.packet = packet

    def next_answer(self) -> float | None:
        return 1.0

    def answers(self, now: float) -> list[Translation]:
        return [Translation(self.packet, Side.INTERNAL)]


def test_what_an_outer_box_says_to_inside_comes_in_through_the_inner_ones() -> None:
    home = Nat(NatConfig(public_addresses=("100.64.0.1",)), random_bytes=rng())
    seen = home.outbound(Packet(HOST, REMOTE, b""), 0.0).packet.source
    box = Layers([home, Inwards(Packet(REMOTE, seen, b"late"))])
    assert box.next_answer() == 1.0
    assert box.answers(1.0) == [Translation(Packet(REMOTE, HOST, b"late", ttl=63), Side.INTERNAL)]


class TestFirewall:
    def test_without_rules_and_state_everything_passes(self) -> None:
        packet = Packet(HOST, REMOTE, b"x")
        opened = Firewall(FirewallConfig(udp=True))
        assert opened.outbound(packet, 0.0) == Translation(packet._replace(ttl=63), Side.EXTERNAL)
        assert opened.inbound(packet, 0.0) == Translation(packet._replace(ttl=63), Side.INTERNAL)
        assert opened.outbound(packet._replace(ttl=1), 0.0).answer.icmp.kind is IcmpKind.TIME_EXCEEDED

    @pytest.mark.parametrize(
        ("protocol", "port", "refusal"),
        [
            (UDP, 443, DropReason.UDP_BLOCKED),
            (TCP, 443, None),
            (TCP, 80, DropReason.PORT_BLOCKED),
            (ICMP, 0, DropReason.ICMP_BLOCKED),
        ],
    )
    def test_tcp_443_only(self, protocol: IpProtocol, port: int, refusal: DropReason | None) -> None:
        box = Firewall(FirewallConfig(udp=False, icmp=False, tcp_ports=frozenset({443}), rejects=True))
        tcp = Segment(SYN) if protocol is TCP else None
        icmp = Icmp(IcmpKind.ECHO_REQUEST) if protocol is ICMP else None
        packet = Packet(HOST, REMOTE.with_port(port), b"", protocol, tcp=tcp, icmp=icmp)
        verdict = box.outbound(packet, 0.0)
        assert reason(verdict) is refusal
        if refusal is DropReason.PORT_BLOCKED:
            assert verdict.answer.tcp.flags & RST
        elif refusal is not None:
            assert verdict.answer.icmp.kind is IcmpKind.ADMIN_PROHIBITED
        assert (
            reason(box.inbound(Packet(packet.destination, HOST, b"", protocol, tcp=tcp, icmp=icmp), 0.0))
            is refusal
        )

    def test_tcp_can_be_blocked_as_a_whole_and_silently(self) -> None:
        verdict = Firewall(FirewallConfig(udp=True, tcp=False)).outbound(syn(HOST, REMOTE), 0.0)
        assert verdict == Dropped(DropReason.TCP_BLOCKED)

    @pytest.mark.parametrize("flow", [None, FlowConfig(), FlowConfig(router_address="192.168.1.1")])
    def test_sizes_and_hops(self, flow: FlowConfig | None) -> None:
        box = Firewall(FirewallConfig(udp=True, flow=flow, max_packet=100))
        assert reason(box.outbound(Packet(HOST, REMOTE, bytes(73)), 0.0)) is DropReason.TOO_LARGE
        verdict = box.outbound(Packet(HOST, REMOTE, bytes(72), ttl=1), 0.0)
        assert reason(verdict) is DropReason.TTL_EXPIRED
        own = flow is not None and flow.router_address is not None
        assert verdict.answer.source.host == ("192.168.1.1" if own else REMOTE.host)

    def test_some_udp_ports(self) -> None:
        box = Firewall(FirewallConfig(udp=True, udp_ports=frozenset({53})))
        assert reason(box.outbound(Packet(HOST, REMOTE.with_port(53), b""), 0.0)) is None
        assert reason(box.outbound(Packet(HOST, REMOTE, b""), 0.0)) is DropReason.PORT_BLOCKED

    @pytest.mark.parametrize("version", [4, 6])
    def test_with_state_only_what_was_asked_for_comes_in(self, version: int) -> None:
        host, remote, stranger = (
            (HOST, REMOTE, STRANGER)
            if version == 4
            else (HOST6, Address("2001:db8:2::1", 1), Address("2001:db8:3::1", 1))
        )
        box = Firewall(FirewallConfig(udp=True, flow=FlowConfig(idle_timeout=30)))
        assert reason(box.inbound(Packet(remote, host, b""), 0.0)) is DropReason.NO_MAPPING
        assert box.outbound(Packet(host, remote, b""), 0.0).packet.source == host
        assert box.inbound(Packet(remote, host, b""), 1.0).packet == Packet(remote, host, b"", ttl=63)
        assert reason(box.inbound(Packet(stranger, host, b""), 1.0)) is DropReason.FILTERED
        assert reason(box.inbound(Packet(remote, host, b""), 30.0)) is DropReason.NO_MAPPING
        assert box.drops.total == 3
        box.outbound(syn(host, remote), 31.0)
        assert reason(box.inbound(syn(remote, host, SYN | ACK), 31.0)) is None
        box.reset(32.0)
        assert reason(box.inbound(syn(remote, host, ACK), 32.0)) is DropReason.NO_MAPPING

    def test_state_has_limits_and_passes_errors_as_they_are(self) -> None:
        box = Firewall(FirewallConfig(udp=True, flow=FlowConfig(max_mappings=1)))
        box.outbound(Packet(HOST, REMOTE, b""), 0.0)
        assert reason(box.outbound(Packet(OTHER_HOST, REMOTE, b""), 0.0)) is DropReason.TABLE_FULL
        error = error_about(Packet(HOST, REMOTE, b""), "192.0.2.254")
        assert box.inbound(error, 0.0).packet == error._replace(ttl=63)
        mine = error_about(Packet(REMOTE, HOST, b""), "192.168.1.254")
        assert box.outbound(mine, 0.0).packet == mine._replace(ttl=63)

    def test_answers_held_back(self) -> None:
        flow = FlowConfig(unsolicited_syn=UnsolicitedSyn.RST, syn_answer_delay=6)
        box = Firewall(FirewallConfig(udp=True, flow=flow))
        assert box.next_answer() is None
        box.inbound(syn(REMOTE, HOST), 0.0)
        assert box.next_answer() == 6.0
        assert len(box.answers(6.0)) == 1

    @pytest.mark.parametrize("fields", [{"max_packet": 0}, {"tcp_ports": frozenset({0})}])
    def test_what_cannot_be(self, fields: dict[str, object]) -> None:
        with pytest.raises(ValueError):
            FirewallConfig(udp=True, **fields)  # type: ignore[arg-type]


class TestPortal:
    PORTAL = Address("198.18.0.1", 80)

    def box(self, **fields: object) -> Firewall:
        portal = PortalConfig(portal=self.PORTAL, lifetime=100)
        return Firewall(FirewallConfig(udp=True, portal=portal, rejects=True, **fields))  # type: ignore[arg-type]

    def test_before_signing_in_only_names_and_the_portal_work(self) -> None:
        box = self.box()
        assert reason(box.outbound(Packet(HOST, REMOTE, b""), 0.0)) is DropReason.PORTAL
        assert reason(box.outbound(syn(HOST, REMOTE.with_port(443)), 0.0)) is DropReason.PORTAL
        assert reason(box.outbound(Packet(HOST, REMOTE.with_port(53), b""), 0.0)) is None
        assert reason(box.outbound(syn(HOST, self.PORTAL.with_port(443)), 0.0)) is None

    def test_web_servers_are_replaced_by_the_portal(self) -> None:
        box, web = self.box(flow=FlowConfig()), REMOTE.with_port(80)
        assert box.outbound(syn(HOST, web), 0.0).packet.destination == self.PORTAL
        reply = box.inbound(syn(self.PORTAL, HOST, SYN | ACK), 0.0)
        assert reply.packet.source == web

    def test_after_signing_in_everything_does_for_its_time(self) -> None:
        box = self.box()
        box.outbound(syn(HOST, REMOTE.with_port(80)), 0.0)
        box.sign_in(HOST.host, 10.0)
        assert box.outbound(Packet(HOST, REMOTE, b""), 109.9).packet.destination == REMOTE
        assert box.outbound(syn(HOST, REMOTE.with_port(80)), 20.0).packet.destination.host == REMOTE.host
        assert box.inbound(syn(self.PORTAL, HOST, ACK), 20.0).packet.source == self.PORTAL
        assert reason(box.outbound(Packet(OTHER_HOST, REMOTE, b""), 20.0)) is DropReason.PORTAL
        assert reason(box.outbound(Packet(HOST, REMOTE, b""), 110.0)) is DropReason.PORTAL

    def test_a_reboot_forgets_who_signed_in(self) -> None:
        box = self.box()
        box.sign_in(HOST.host, 0.0)
        box.reset(1.0)
        assert reason(box.outbound(Packet(HOST, REMOTE, b""), 1.0)) is DropReason.PORTAL

    def test_its_memory_is_bounded(self) -> None:
        box = self.box()
        for n in range(1100):
            box.sign_in(f"10.0.{n // 250}.{n % 250}", 0.0)
            box.outbound(syn(Address("172.16.0.1", n + 1), REMOTE.with_port(80)), 0.0)
        assert len(box._portal._until) == len(box._portal._meant) == box._portal.LIMIT

    def test_signing_in_without_a_portal_changes_nothing(self) -> None:
        Firewall(FirewallConfig(udp=True)).sign_in(HOST.host, 0.0)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (NatConfig(), Nat),
        (BasicNatConfig(), BasicNat),
        (TwiceNatConfig(nat=NatConfig()), TwiceNat),
        (Nat64Config(nat=NatConfig()), Nat64),
        (FirewallConfig(udp=True), Firewall),
    ],
)
def test_every_configuration_has_its_box(config: object, kind: type) -> None:
    assert type(make_box(config, PUBLIC, random_bytes=rng())) is kind  # type: ignore[arg-type]
