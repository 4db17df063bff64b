from __future__ import annotations

import dns.flags
import dns.message
import pytest

from natwalk.core import Address, Transport
from natwalk.sim.internet import SERVER, SERVER_IPV6, Internet, two_peers
from natwalk.sim.names import TRIES, WAIT, Lookup, NameServer
from natwalk.stun import parse_uri

ZONE = f"""
_stun._udp.example.test. 60 IN SRV 0 1 3479 stun.example.test.
stun.example.test. 60 IN A {SERVER}
stun.example.test. 60 IN AAAA {SERVER_IPV6}
example.test. 60 IN NAPTR 10 10 "s" "RELAY:turn.udp" "" _turn._udp.example.test.
_turn._udp.example.test. 60 IN SRV 0 1 3480 stun.example.test.
alias.example.test. 60 IN CNAME stun.example.test.
loop.example.test. 60 IN CNAME loop.example.test.
"""
NAMESERVER = Address(SERVER, 53)


def look_up(kind: str, uri: str, *, served: bool = True, loss: float = 0.0) -> tuple[Internet, Lookup]:
    internet = two_peers(kind, "none", seed=5)
    internet.a.access.configure(loss=loss)
    if served:
        NameServer(internet.server, ZONE)
    lookup = Lookup(internet.network, internet.a.host, NAMESERVER, parse_uri(uri))
    internet.network.run_for(60.0, stop=lambda: lookup.endpoints is not None)
    return internet, lookup


@pytest.mark.parametrize("kind", ["none", "port-restricted", "symmetric", "cgnat"])
@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_a_service_is_found_through_any_nat(kind: str, loss: float) -> None:
    """SRV, then the addresses of the server it names (RFC 8489 §8)."""
    _, lookup = look_up(kind, "stun:example.test", loss=loss)
    assert lookup.endpoints is not None
    found = [(str(each.address), each.transport) for each in lookup.endpoints]
    assert found == [(f"{SERVER}:3479", Transport.UDP), (f"[{SERVER_IPV6}]:3479", Transport.UDP)]


def test_a_relay_is_found_by_its_naptr_record() -> None:
    """RFC 5928 §3: NAPTR, SRV, addresses."""
    _, lookup = look_up("port-restricted", "turn:example.test")
    assert lookup.endpoints is not None
    assert str(lookup.endpoints[0].address) == f"{SERVER}:3480"


def test_only_the_name_server_that_was_asked_is_heard() -> None:
    internet = two_peers("none", "none", seed=1)
    network, asked = internet.network, []
    internet.server.bind(lambda data, source: asked.append((data, source)), 53)
    lookup = Lookup(network, internet.a.host, NAMESERVER, parse_uri("stun:stun.example.test:1"))
    network.run_for(0.5)
    stranger = internet.b.host.bind(lambda data, source: None, 53)
    for data, source in asked:
        stranger.send(dns.message.make_response(dns.message.from_wire(data)).to_wire(), source)
        stranger.send(b"no DNS", source)
    network.run_for(1.0)
    assert lookup.endpoints is None
    network.run_for(5.0)
    assert lookup.endpoints == []


def test_an_answer_is_no_question() -> None:
    internet = two_peers("none", "none", seed=1)
    server = NameServer(internet.server, ZONE)
    query = dns.message.make_query("stun.example.test", "A")
    query.flags |= dns.flags.QR
    internet.b.host.bind(lambda data, source: None, 9).send(query.to_wire(), NAMESERVER)
    internet.network.run_for(1.0)
    assert server.questions == 0


def test_an_alias_is_followed() -> None:
    _, lookup = look_up("none", "stun:alias.example.test:3478")
    assert lookup.endpoints is not None
    found = [str(each.address) for each in lookup.endpoints if each.transport is Transport.UDP]
    assert found == [f"{SERVER}:3478", f"[{SERVER_IPV6}]:3478"]


@pytest.mark.parametrize("name", ["nobody.example.test", "loop.example.test"])
def test_what_is_not_there_is_not_found(name: str) -> None:
    internet, lookup = look_up("none", f"stun:{name}:3478")
    assert lookup.endpoints == []
    assert internet.network.now < 1001.0


def test_a_name_server_that_does_not_answer_is_asked_three_times() -> None:
    internet, lookup = look_up("none", "stun:example.test:3478", served=False)
    assert lookup.endpoints == []
    assert internet.network.now == pytest.approx(1000.0 + TRIES * WAIT)
    assert internet.server.drops.counts == {"no socket": 2 * TRIES}


def test_an_address_needs_no_question() -> None:
    internet, lookup = look_up("udp-blocked", f"stun:{SERVER}")
    assert lookup.endpoints is not None
    assert {str(each.address) for each in lookup.endpoints} == {f"{SERVER}:3478"}
    assert internet.network.datagrams == 0


def test_what_is_no_dns_is_ignored() -> None:
    internet = two_peers("none", "none", seed=1)
    server = NameServer(internet.server, ZONE)
    lookup = Lookup(internet.network, internet.a.host, NAMESERVER, parse_uri("stun:stun.example.test:1"))
    noise = internet.b.host.bind(lambda data, source: pytest.fail("answered"), 9)
    noise.send(b"\xff", NAMESERVER)
    noise.send(b"", NAMESERVER)
    internet.network.run_for(5.0)
    assert server.questions == 2
    assert lookup.endpoints
