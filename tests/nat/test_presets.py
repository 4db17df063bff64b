"""Every preset has a source, makes boxes that work, and is described; the numbers of the documents hold."""

from __future__ import annotations

from random import Random

import pytest

from nat.support import HOST, PUBLIC, REMOTE, STRANGER, build, reason
from natwalk.core import Address
from natwalk.nat import (
    KINDS,
    PRESETS,
    SYN,
    Allocation,
    BasicNatConfig,
    DropReason,
    FirewallConfig,
    FlowConfig,
    Group,
    IpProtocol,
    Mapping,
    Nat64Config,
    NatConfig,
    Packet,
    Segment,
    Translation,
    TwiceNatConfig,
    classic_name,
    describe,
    details,
    embed,
    make_box,
    preset,
)

APDM = Mapping.ADDRESS_AND_PORT_DEPENDENT
WEB = frozenset({80, 443})


def test_the_kinds_users_know_are_presets_and_names_are_unique() -> None:
    assert {name: spec for name, spec in PRESETS.items() if spec.group is Group.KIND} == dict(KINDS)
    assert all(name == spec.name for name, spec in PRESETS.items())
    assert {spec.group for spec in PRESETS.values()} == set(Group)


def test_an_unknown_preset_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'fritzbox' is not a kind of NAT: one of none, .*aws-nat-gateway"):
        preset("fritzbox")


@pytest.mark.parametrize("name", PRESETS)
class TestEach:
    def test_it_says_where_it_is_from_and_what_it_is(self, name: str) -> None:
        spec = preset(name)
        assert len(spec.source) > 10 or name == "none"
        assert describe(name) == describe(spec) == str(spec)
        assert str(spec).startswith(f"{name}: ")
        assert all(describe(layer) in str(spec) for layer in spec.layers)

    def test_the_classic_name_is_that_of_its_behaviour(self, name: str) -> None:
        layers = preset(name).layers
        if len(layers) == 1 and isinstance(layers[0], NatConfig):
            assert preset(name).classic == classic_name(layers[0])

    def test_a_flow_from_inside_gets_out_and_back_or_is_refused_as_it_says(self, name: str) -> None:
        spec = preset(name)
        box = build(spec)
        source, destination = HOST, REMOTE
        if any(isinstance(layer, Nat64Config) for layer in spec.layers):
            prefix = spec.layers[0].prefix
            source, destination = Address("2001:db8::10", 5000), Address(embed(REMOTE.host, prefix), 3478)
        elif name == "home-ipv6":
            source, destination = Address("2001:db8::10", 5000), Address("2001:db8:9::1", 3478)
        for layer, each in zip(spec.layers, box.boxes, strict=True):
            if isinstance(layer, FirewallConfig) and layer.portal is not None:
                each.sign_in(source.host, 0.0)
        stun = bytes.fromhex("000100002112a442") + bytes(12)
        verdict = box.outbound(Packet(source, destination, stun), 0.0)
        if not spec.passes_udp:
            assert reason(verdict) is DropReason.UDP_BLOCKED
            verdict = box.outbound(
                Packet(source, destination.with_port(443), b"", IpProtocol.TCP, tcp=Segment(SYN)), 0.0
            )
            assert isinstance(verdict, Translation)
        elif name in ("corporate-web", "hotel-web"):
            assert reason(verdict) is DropReason.PORT_BLOCKED
        else:
            assert isinstance(verdict, Translation)
            sent = verdict.packet
            back = box.inbound(Packet(sent.destination, sent.source, stun), 0.1)
            assert isinstance(back, Translation)
            assert (back.packet.source, back.packet.destination) == (destination, source)


@pytest.mark.parametrize(
    ("name", "udp_idle"),
    [
        ("aws-nat-gateway", 350.0),
        ("gcp-cloud-nat", 30.0),
        ("azure-nat-gateway", 240.0),
        ("cgn-cellular", 65.0),
        ("linux", 30.0),
        ("mikrotik", 10.0),
        ("cisco-ios", 300.0),
    ],
)
def test_timers_of_the_documents(name: str, udp_idle: float) -> None:
    (layer,) = preset(name).layers
    assert isinstance(layer, NatConfig)
    assert layer.idle_timeout == udp_idle
    box = make_box(layer, PUBLIC, random_bytes=Random(1).randbytes)
    box.outbound(Packet(HOST, REMOTE, b""), 0.0)
    assert box.next_expiry() == udp_idle


@pytest.mark.parametrize("name", ["aws-nat-gateway", "azure-nat-gateway", "gcp-cloud-nat"])
def test_clouds_map_by_destination(name: str) -> None:
    (layer,) = preset(name).layers
    assert layer.mapping is Mapping.ADDRESS_AND_PORT_DEPENDENT
    assert layer.shares_ports


def test_google_gives_a_machine_64_ports_for_each_destination() -> None:
    box = build(preset("gcp-cloud-nat"))
    ports = set()
    for port in range(1, 65):
        for remote in (REMOTE, STRANGER):
            ports.add(box.outbound(Packet(HOST.with_port(port), remote, b""), 0.0).packet.source.port)
    assert len(ports) == 64
    assert reason(box.outbound(Packet(HOST.with_port(65), REMOTE, b""), 0.0)) is DropReason.NO_PORT


def test_a_plain_linux_router_keeps_ports_as_long_as_no_two_hosts_want_one() -> None:
    box = build(preset("linux"))
    seen = {box.outbound(Packet(HOST, remote, b""), 0.0).packet.source for remote in (REMOTE, STRANGER)}
    assert seen == {Address(PUBLIC, HOST.port)}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (NatConfig(filtering=f), w)
        for f, w in zip(
            type(NatConfig().filtering), ("full cone", "restricted cone", "port restricted cone"), strict=True
        )
    ]
    + [
        (NatConfig(mapping=Mapping.ADDRESS_DEPENDENT), "symmetric"),
        (
            NatConfig(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=Allocation.OVERLOAD),
            "port restricted cone",
        ),
        (
            NatConfig(mapping=APDM, share_ports=True),
            "port restricted cone until ports collide",
        ),
    ],
)
def test_the_words_of_rfc_3489(config: NatConfig, words: str) -> None:
    assert classic_name(config) == words


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (FirewallConfig(udp=True), "a firewall that lets UDP pass"),
        (FirewallConfig(udp=False, tcp=False, icmp=False), "a firewall that lets nothing pass"),
        (
            FirewallConfig(
                udp=True, icmp=False, tcp_ports=frozenset({443, 80}), max_packet=1280, only_stun=True
            ),
            "a firewall that lets UDP and TCP to port 80, 443 pass, drops UDP that is not STUN, "
            "drops packets over 1280 bytes",
        ),
        (
            FirewallConfig(udp=True, flow=FlowConfig()),
            "a firewall that lets UDP, TCP and ICMP pass, address-and-port-dependent filtering",
        ),
        (BasicNatConfig(), "one-to-one translation of addresses, ports kept (basic NAT)"),
        (
            BasicNatConfig(static=(("10.0.0.1", "192.0.2.1"),), pool=("192.0.2.2",)),
            "one-to-one translation of addresses, ports kept (static and dynamic pool)",
        ),
        (
            TwiceNatConfig(nat=NatConfig()),
            "twice NAT: remote addresses renamed as well; endpoint-independent mapping, "
            "address-and-port-dependent filtering (port restricted cone)",
        ),
    ],
)
def test_words_for_other_boxes(layer, words: str) -> None:
    assert describe(layer) == words


def test_details_name_every_habit() -> None:
    said = "; ".join(
        phrase for spec in PRESETS.values() for layer in spec.layers for phrase in details(layer)
    )
    for words in (
        "keeps the port always",
        "ports shared",
        "low ports stay low",
        "arbitrary pooling",
        "for port 500",
        "UDP gone after 50 s to 75 s",
        "hairpins with external source",
        "early probes poison",
        "answers early probes",
        "answers unsolicited SYNs by ICMP",
        "maps anew after 30 s",
        "packets over 1280 bytes vanish",
        "random ports, 1 × 64 a subscriber",
    ):
        assert words in said
    odd = NatConfig(
        allocation=Allocation.SEQUENTIAL,
        step=-2,
        simultaneous_open=False,
        icmp_error_ends_mapping=True,
        when_full=type(NatConfig().when_full).EVICT_OLDEST,
        keep_parity=True,
        keep_contiguity=True,
    )
    assert {
        "ports in steps of -2, 1024-65535",
        "no TCP simultaneous open",
        "an ICMP error ends the mapping",
        "evicts the oldest when full",
        "parity and contiguity kept",
    } <= set(details(odd))
    assert details(TwiceNatConfig(nat=odd)) == details(odd)
    assert details(BasicNatConfig()) == ("addresses idle for 86400 s are free again",)
