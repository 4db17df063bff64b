"""Resolution against a real DNS server on loopback."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from natwalk.aio.resolve import ServerNotFound, resolve
from natwalk.core import Address, Transport
from natwalk.stun import InvalidServerUri

ZONE = """
example.test. NAPTR 10 5 "s" "RELAY:turn.tls" "" _turns._tcp.example.test.
example.test. NAPTR 20 5 "s" "RELAY:turn.udp" "" _turn._udp.example.test.
_turn._udp.example.test. SRV 10 1 3479 b.example.test.
_turn._udp.example.test. SRV 5 1 3478 a.example.test.
_turns._tcp.example.test. SRV 5 1 443 a.example.test.
a.example.test. A 192.0.2.1
a.example.test. AAAA 2001:db8::1
b.example.test. CNAME c.example.test.
c.example.test. A 192.0.2.2
plain.test. A 192.0.2.3
"""


class DnsServer(asyncio.DatagramProtocol):
    """Answers from ``ZONE`` over UDP; ``silent`` names get no answer at all."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.records: dict[tuple[str, str], list[str]] = {}
        for line in ZONE.strip().splitlines():
            name, kind, data = line.split(maxsplit=2)
            self.records.setdefault((name, kind), []).append(data)

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        name, kind = query.question[0].name.to_text(), dns.rdatatype.to_text(query.question[0].rdtype)
        self.asked.append(f"{kind} {name}")
        if name.startswith("silent."):
            return
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA
        while alias := self.records.get((name, "CNAME")):
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", alias[0]))
            name = alias[0]
        if found := self.records.get((name, kind)):
            response.answer.append(dns.rrset.from_text_list(name, 60, "IN", kind, found))
        elif not any(owner == name for owner, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(response.to_wire(), addr)


@asynccontextmanager
async def dns_server() -> AsyncIterator[tuple[DnsServer, Address]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(DnsServer, local_addr=("127.0.0.1", 0))
    try:
        yield server, Address(*transport.get_extra_info("sockname"))
    finally:
        transport.close()


async def test_naptr_srv_cname_and_addresses_come_together_in_order() -> None:
    async with dns_server() as (server, address):
        found = await resolve("turn:example.test", nameservers=[address])
        assert [(f.transport, str(f.address), f.name) for f in found] == [
            (Transport.UDP, "192.0.2.1:3478", "example.test"),
            (Transport.UDP, "[2001:db8::1]:3478", "example.test"),
            (Transport.UDP, "192.0.2.2:3479", "example.test"),
        ]
        assert server.asked[0] == "NAPTR example.test."
        found = await resolve("turns:example.test", nameservers=[address], families=[6, 4])
        assert [(f.transport, str(f.address)) for f in found] == [
            (Transport.TLS, "[2001:db8::1]:443"),
            (Transport.TLS, "192.0.2.1:443"),
        ]


async def test_a_domain_without_services_is_its_addresses() -> None:
    async with dns_server() as (server, address):
        (found,) = await resolve("stun:plain.test", nameservers=[address], transports=[Transport.UDP])
        assert str(found.address) == "192.0.2.3:3478"
        assert server.asked[0] == "SRV _stun._udp.plain.test."


async def test_what_is_not_there_is_said_so() -> None:
    async with dns_server() as (_, address):
        with pytest.raises(ServerNotFound, match=r"stun:missing\.test"):
            await resolve("stun:missing.test", nameservers=[address])


async def test_a_name_server_that_is_silent_costs_the_time_allowed_and_no_more() -> None:
    async with dns_server() as (_, address):
        with pytest.raises(ServerNotFound, match=r"within 0\.2 s"):
            await resolve("stun:silent.test", nameservers=[address], within=0.2)


async def test_an_address_asks_nobody() -> None:
    found = await resolve("turn:127.0.0.1:5000?transport=udp", nameservers=[Address("127.0.0.1", 1)])
    assert [(str(f.address), f.transport) for f in found] == [("127.0.0.1:5000", Transport.UDP)]


async def test_names_of_this_machine_are_found_as_the_system_finds_them() -> None:
    found = await resolve("turn:localhost:3478?transport=udp", families=[4])
    assert [str(f.address) for f in found] == ["127.0.0.1:3478"]


async def test_without_dnspython_services_count_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dns.asyncresolver", None)
    found = await resolve("turn:localhost?transport=udp", families=[4])
    assert [str(f.address) for f in found] == ["127.0.0.1:3478"]
    with pytest.raises(ServerNotFound, match="dnspython"):
        await resolve("turn:localhost", nameservers=[Address("127.0.0.1", 53)])


async def test_what_is_no_uri_is_refused() -> None:
    with pytest.raises(InvalidServerUri):
        await resolve("turn://localhost")
