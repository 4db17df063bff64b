"""NAT-PMP on the router (RFC 6886), byte by byte."""

from __future__ import annotations

from struct import pack, unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.services.support import CLIENT, OTHER, OUTSIDE, PUBLIC, ROUTER, Router
from natwalk.core import Address
from natwalk.nat import IpProtocol, ServiceQuirk, WhenFull
from natwalk.nat.services.nat_pmp import NO_RESOURCES, NOT_AUTHORIZED, UNSUPPORTED_OPCODE, UNSUPPORTED_VERSION


def ask(router: Router, payload: bytes, source: Address = CLIENT, now: float = 1.0) -> bytes:
    (answer,) = router.ask(payload, 5351, source, now)
    assert answer.destination == source
    return answer.payload


def request(internal: int, external: int, lifetime: int, opcode: int = 1) -> bytes:
    return pack("!BBHHHI", 0, opcode, 0, internal, external, lifetime)


def test_the_external_address() -> None:
    router = Router()
    (answer,) = router.ask(b"\0\0", 5351, now=77.5)
    assert answer.source == Address(ROUTER, 5351)
    assert answer.payload == bytes([0, 128, 0, 0]) + pack("!I", 77) + bytes([198, 51, 100, 1])


@pytest.mark.parametrize(("opcode", "protocol"), [(1, IpProtocol.UDP), (2, IpProtocol.TCP)])
def test_a_mapping_lets_everybody_in_for_its_time(opcode: int, protocol: IpProtocol) -> None:
    router = Router()
    answer = ask(router, request(5000, 7000, 600, opcode))
    assert unpack("!BBHIHHI", answer) == (0, 128 + opcode, 0, 1, 5000, 7000, 600)
    external, left = router.nat.forwarded(protocol, Address(CLIENT.host, 5000), 1.0)
    assert (external, left) == (Address(PUBLIC, 7000), 600.0)
    if protocol is IpProtocol.UDP:
        assert router.reaches(external) == Address(CLIENT.host, 5000)
        assert router.reaches(external, 601.0) is None


def test_a_taken_port_is_replaced_and_a_renewal_keeps_it() -> None:
    router = Router()
    first = unpack("!HHI", ask(router, request(5000, 7000, 600))[8:])
    second = unpack("!HHI", ask(router, request(5000, 7000, 600), OTHER)[8:])
    assert first[1] == 7000
    assert second[1] not in (0, 7000)
    assert unpack("!HHI", ask(router, request(5000, 9, 600), OTHER, 300.0)[8:])[1] == second[1]


def test_lifetimes_are_cut_to_what_the_router_gives() -> None:
    router = Router()
    assert unpack("!I", ask(router, request(5000, 0, 1))[12:]) == (120,)
    assert unpack("!I", ask(router, request(5000, 0, 10**9))[12:]) == (86400,)


@pytest.mark.parametrize(("port", "left"), [(5000, 1), (0, 0)])
def test_one_or_all_of_a_client_can_be_ended(port: int, left: int) -> None:
    """RFC 6886 §3.4; those of others and of the other protocol stay."""
    router = Router()
    for internal in (5000, 5001):
        ask(router, request(internal, internal, 600))
    ask(router, request(5000, 8000, 600, 2))
    ask(router, request(5000, 9000, 600), OTHER)
    assert unpack("!BBHIHHI", ask(router, request(port, 0, 0)))[2:] == (0, 1, port, 0, 0)
    assert len(router.gateway.leases(1.0)) == left + 2


def test_what_gets_an_error() -> None:
    router = Router(pcp=False, lowest_port=1024, mappings_per_client=1)
    assert unpack("!H", ask(router, bytes([7, 0]))[2:4]) == (UNSUPPORTED_VERSION,)
    assert unpack("!H", ask(router, bytes([0, 9]))[2:4]) == (UNSUPPORTED_OPCODE,)
    assert unpack("!H", ask(router, request(0, 7000, 600))[2:4]) == (NOT_AUTHORIZED,)
    assert unpack("!HHI", ask(router, request(5000, 80, 600))[8:])[1] >= 1024
    assert unpack("!H", ask(router, request(5001, 0, 600))[2:4]) == (NO_RESOURCES,)


def test_a_full_table_is_no_resources_and_evicts_leases_where_it_evicts() -> None:
    full = Router(nat={"max_mappings_per_subscriber": 1})
    ask(full, request(5000, 0, 600))
    assert unpack("!H", ask(full, request(5001, 0, 600))[2:4]) == (NO_RESOURCES,)
    evicting = Router(nat={"max_mappings": 1, "when_full": WhenFull.EVICT_OLDEST})
    ask(evicting, request(5000, 0, 600))
    ask(evicting, request(5001, 0, 600))
    assert [lease.internal.port for lease in evicting.gateway.leases(1.0)] == [5001]


@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\x80", b"\0\x01short", bytes([0, 129]) + bytes(14)])
def test_what_gets_no_answer(payload: bytes) -> None:
    assert Router(pcp=False).ask(payload, 5351) == []


def test_a_client_cannot_touch_what_pcp_made_with_a_nonce() -> None:
    router = Router()
    internal = Address(CLIENT.host, 5000)
    router.gateway._leases.open(IpProtocol.UDP, internal, 7000, 600, 1.0, nonce=b"n" * 12)
    assert unpack("!H", ask(router, request(5000, 7000, 600))[2:4]) == (NOT_AUTHORIZED,)
    assert unpack("!H", ask(router, request(5000, 0, 0))[2:4]) == (NOT_AUTHORIZED,)
    ask(router, request(0, 0, 0))
    assert len(router.gateway.leases(1.0)) == 1


def test_quirks() -> None:
    odd = Router(ServiceQuirk.REPLY_FROM_OTHER_PORT, ServiceQuirk.PRIVATE_EXTERNAL_ADDRESS)
    (answer,) = odd.ask(b"\0\0", 5351)
    assert answer.source == Address(ROUTER, 15351)
    assert answer.payload[8:] == bytes([10, 77, 0, 2])


def test_requests_from_outside_the_lan_are_dropped() -> None:
    """FAULTS 100: the services serve the LAN only (VU#184540)."""
    router = Router()
    for source in (OUTSIDE, Address(ROUTER, 1), Address("192.168.1.255", 1), Address("192.168.1.0", 1)):
        assert router.ask(request(5000, 7000, 600), 5351, source) == []
    assert router.gateway.drops.counts == {"not from the LAN": 4}
    assert router.gateway.leases(1.0) == ()


def test_a_client_that_asks_too_fast_waits() -> None:
    router = Router(rate=10.0, burst=5)
    assert sum(bool(router.ask(b"\0\0", 5351, now=1.0)) for _ in range(100)) == 5
    assert router.ask(b"\0\0", 5351, OTHER, 1.0)
    assert router.ask(b"\0\0", 5351, now=1.1)


@given(st.binary(max_size=40), st.booleans())
def test_any_bytes_are_answered_or_dropped(payload: bytes, pcp: bool) -> None:
    Router(pcp=pcp).ask(payload, 5351)
