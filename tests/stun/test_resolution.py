"""The decisions of RFC 5928 §3: what is asked of DNS, in which order, and what comes of the answers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest

from natwalk.core import Address, Transport
from natwalk.stun import parse_uri
from natwalk.stun.resolution import (
    MAX_ENDPOINTS,
    MAX_ROUNDS,
    Naptr,
    Question,
    Record,
    RecordType,
    ServerEndpoint,
    Srv,
    resolution,
)

UDP, TCP, TLS, DTLS = Transport.UDP, Transport.TCP, Transport.TLS, Transport.DTLS
Zone = Mapping[tuple[str, str], Sequence[Record]]

V4 = {("example.net", "A"): [Address("192.0.2.1", 0)]}


def look_up(text: str, zone: Zone, seed: int = 1, **options: object) -> tuple[list[str], list[Question]]:
    """The endpoints as words and every question asked."""
    steps = resolution(parse_uri(text), random_bytes=random.Random(seed).randbytes, **options)  # type: ignore[arg-type]
    asked: list[Question] = []
    try:
        questions = next(steps)
        while True:
            asked += questions
            questions = steps.send([zone.get((q.name.rstrip("."), q.type), ()) for q in questions])
    except StopIteration as end:
        endpoints: list[ServerEndpoint] = end.value
    return [f"{found.transport} {found.address}" for found in endpoints], asked


def kinds(asked: list[Question]) -> list[str]:
    return [f"{question.type} {question.name}" for question in asked]


def test_an_address_asks_nothing() -> None:
    assert look_up("turn:192.0.2.1", {}) == (["udp 192.0.2.1:3478", "tcp 192.0.2.1:3478"], [])
    assert look_up("turns:[2001:db8::1]?transport=tcp", {}) == (["tls [2001:db8::1]:5349"], [])
    assert look_up("stun:192.0.2.1:99", {}, transports=[UDP]) == (["udp 192.0.2.1:99"], [])


def test_an_explicit_port_asks_for_addresses_only() -> None:
    found, asked = look_up("turn:example.net:5000?transport=udp", V4)
    assert found == ["udp 192.0.2.1:5000"]
    assert kinds(asked) == ["A example.net", "AAAA example.net"]


def test_without_records_of_services_it_is_the_default_port() -> None:
    found, asked = look_up("turn:example.net", V4, transports=[UDP, TCP])
    assert found == ["udp 192.0.2.1:3478", "tcp 192.0.2.1:3478"]
    assert kinds(asked) == [
        "NAPTR example.net",
        "SRV _turn._udp.example.net",
        "SRV _turn._tcp.example.net",
        "A example.net",
        "AAAA example.net",
    ]


@pytest.mark.parametrize(
    ("uri", "owner", "expected"),
    [
        ("turn:example.net?transport=udp", "_turn._udp.example.net", "udp"),
        ("turn:example.net?transport=tcp", "_turn._tcp.example.net", "tcp"),
        ("turns:example.net?transport=tcp", "_turns._tcp.example.net", "tls"),
        ("turns:example.net?transport=udp", "_turns._udp.example.net", "dtls"),
        ("stun:example.net", "_stun._udp.example.net", "udp"),
        ("stuns:example.net", "_stuns._tcp.example.net", "tls"),
    ],
)
def test_srv_says_host_and_port(uri: str, owner: str, expected: str) -> None:
    zone = {
        (owner, "SRV"): [Srv(0, 0, 4000, "s1.example.net.")],
        ("s1.example.net", "AAAA"): [Address("2001:db8::5", 0)],
    }
    found, asked = look_up(uri, zone)
    assert found == [f"{expected} [2001:db8::5]:4000"]
    assert not any(question.type is RecordType.NAPTR for question in asked)


def test_naptr_orders_transports_and_leads_to_srv_and_addresses() -> None:
    """As in RFC 5928 §4: a domain that prefers TLS, then UDP; a service of another application is skipped."""
    zone: Zone = {
        ("example.net", "NAPTR"): [
            Naptr(100, 20, "S", "RELAY:turn.udp", "", "_turn._udp.example.net."),
            Naptr(100, 10, "", "RELAY:turn.udp:turn.tcp", "", "datagram.example.net."),
            Naptr(50, 10, "s", "SIP+D2U", "", "_sip._udp.example.net."),
            Naptr(60, 10, "s", "RELAY:turn.udp", "!.*!x!", "_turn._udp.example.net."),
        ],
        ("datagram.example.net", "NAPTR"): [Naptr(1, 1, "A", "RELAY:turn.tcp", "", "a.example.net.")],
        ("_turn._udp.example.net", "SRV"): [Srv(0, 0, 3479, "a.example.net.")],
        ("a.example.net", "A"): [Address("192.0.2.7", 0)],
    }
    found, asked = look_up("turn:example.net", zone)
    assert found == ["tcp 192.0.2.7:3478", "udp 192.0.2.7:3479"]
    assert "SRV _sip._udp.example.net" not in kinds(asked)


def test_a_secure_uri_never_falls_back_to_plain_transports() -> None:
    zone: Zone = {
        **V4,
        ("example.net", "NAPTR"): [Naptr(1, 1, "s", "RELAY:turn.udp", "", "_turn._udp.example.net.")],
        ("_turn._udp.example.net", "SRV"): [Srv(0, 0, 1, "example.net.")],
    }
    found, _ = look_up("turns:example.net", zone)
    assert found == ["tls 192.0.2.1:5349", "dtls 192.0.2.1:5349"]
    assert look_up("turns:example.net:1", V4, transports=[UDP, TCP])[0] == []
    assert look_up("turns:192.0.2.1", V4, transports=[UDP, TCP])[0] == []


def test_priorities_are_kept_and_weights_are_chances() -> None:
    servers = [Srv(2, 0, 1, "late."), Srv(1, 3, 1, "big."), Srv(1, 1, 1, "small."), Srv(1, 0, 1, "none.")]
    zone: Zone = {
        ("_stun._udp.example.net", "SRV"): servers,
        **{(s.target[:-1], "A"): [Address(f"192.0.2.{n}", 0)] for n, s in enumerate(servers)},
    }
    first: Counter[str] = Counter()
    for seed in range(400):
        found, _ = look_up("stun:example.net", zone, seed, transports=[UDP])
        assert len(found) == 4
        assert found[-1] == "udp 192.0.2.0:1"
        first[found[0]] += 1
    assert first["udp 192.0.2.1:1"] > 1.8 * first["udp 192.0.2.2:1"] > first["udp 192.0.2.3:1"] > 0


@pytest.mark.parametrize("record", [Srv(0, 0, 3478, "."), Srv(0, 0, 0, "a.example.net.")])
def test_a_service_that_says_it_is_not_there_is_not_there(record: Srv) -> None:
    zone: Zone = {**V4, ("_stun._udp.example.net", "SRV"): [record]}
    found, _ = look_up("stun:example.net", zone, transports=[UDP])
    assert found == ["udp 192.0.2.1:3478"]


def test_families_come_in_the_order_asked_for_and_nothing_comes_twice() -> None:
    zone: Zone = {
        ("example.net", "A"): [Address("192.0.2.1", 0)] * 3,
        ("example.net", "AAAA"): [Address("2001:db8::1", 0)],
    }
    assert look_up("stun:example.net:1", zone, transports=[UDP], families=[6, 4])[0] == [
        "udp [2001:db8::1]:1",
        "udp 192.0.2.1:1",
    ]
    assert look_up("stun:example.net:1", zone, transports=[UDP], families=[6])[0] == ["udp [2001:db8::1]:1"]


def test_records_that_lead_in_circles_end() -> None:
    zone: Zone = {
        ("example.net", "NAPTR"): [
            Naptr(1, n, "", "RELAY:turn.udp", "", "b.example.net.") for n in range(50)
        ],
        ("b.example.net", "NAPTR"): [
            Naptr(1, n, "", "RELAY:turn.udp", "", "example.net.") for n in range(50)
        ],
    }
    found, asked = look_up("turn:example.net", zone)
    assert found == []
    assert len(asked) <= 2 * MAX_ROUNDS


def test_endpoints_are_bounded() -> None:
    many = [Address(f"192.0.2.{n}", 0) for n in range(200)]
    zone: Zone = {
        ("_stun._udp.example.net", "SRV"): [Srv(0, 0, n + 1, "a.example.net.") for n in range(100)],
        ("a.example.net", "A"): many,
    }
    found, asked = look_up("stun:example.net", zone)
    assert len(found) == MAX_ENDPOINTS
    assert len(asked) <= 2 * MAX_ROUNDS
