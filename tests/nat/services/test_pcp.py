"""PCP on the router (RFC 6887), byte by byte."""

from __future__ import annotations

from ipaddress import ip_address
from struct import pack, unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.services.support import CLIENT, OTHER, OUTSIDE, PUBLIC, Router
from natwalk.core import Address
from natwalk.nat import Allocation, Mapping, Packet
from natwalk.nat.services.pcp import ERROR_LIFETIME, FILTERS, Result

NONCE = bytes(range(12))


def mapped(host: str) -> bytes:
    packed = ip_address(host).packed
    return packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed


def head(opcode: int, lifetime: int, client: str = CLIENT.host, version: int = 2) -> bytes:
    return pack("!BBHI16s", version, opcode, 0, lifetime, mapped(client))


def map_request(
    internal: int = 5000,
    external: int = 7000,
    lifetime: int = 600,
    *,
    protocol: int = 17,
    nonce: bytes = NONCE,
    options: bytes = b"",
    client: str = CLIENT.host,
) -> bytes:
    body = pack("!12sB3xHH16s", nonce, protocol, internal, external, mapped("0.0.0.0"))
    return head(1, lifetime, client) + body + options


def peer_request(
    internal: int = 5000,
    remote_port: int = 7,
    lifetime: int = 600,
    *,
    protocol: int = 17,
    client: str = CLIENT.host,
) -> bytes:
    body = pack("!12sB3xHH16s", NONCE, protocol, internal, 0, mapped("0.0.0.0"))
    return head(2, lifetime) + body + pack("!H2x16s", remote_port, mapped(OUTSIDE.host))


def option(code: int, value: bytes = b"") -> bytes:
    return pack("!BBH", code, 0, len(value)) + value + bytes(-len(value) % 4)


def filtering(host: str, length: int, port: int = 0) -> bytes:
    return option(3, pack("!xBH16s", length, port, mapped(host)))


def ask(
    router: Router, request: bytes, source: Address = CLIENT, now: float = 1.0
) -> tuple[Result, int, bytes]:
    """Result, lifetime, and what follows the header."""
    (answer,) = router.ask(request, 5351, source, now)
    payload = answer.payload
    version, opcode, _, result, lifetime, epoch = unpack("!BBBBII", payload[:12])
    assert (version, opcode) == (2, 0x80 | request[1])
    assert epoch == int(now)
    assert len(payload) % 4 == 0
    return Result(result), lifetime, payload[24:]


def external_port(body: bytes) -> int:
    return unpack("!12sB3xHH16s", body[:36])[3]


def test_a_mapping_byte_by_byte() -> None:
    router = Router()
    result, lifetime, body = ask(router, map_request())
    assert (result, lifetime) == (Result.SUCCESS, 600)
    assert body == pack("!12sB3xHH16s", NONCE, 17, 5000, 7000, mapped(PUBLIC))
    assert router.reaches(Address(PUBLIC, 7000)) == Address(CLIENT.host, 5000)
    assert router.reaches(Address(PUBLIC, 7000), 601.0) is None


def test_announce_is_answered() -> None:
    assert ask(Router(), head(0, 0)) == (Result.SUCCESS, 0, b"")


def test_a_mapping_belongs_to_its_nonce() -> None:
    router = Router()
    ask(router, map_request())
    assert ask(router, map_request(nonce=bytes(12)))[0] is Result.NOT_AUTHORIZED
    assert ask(router, map_request(lifetime=0, nonce=bytes(12)))[0] is Result.NOT_AUTHORIZED
    assert ask(router, map_request(external=1))[0] is Result.SUCCESS
    assert ask(router, map_request(lifetime=0))[:2] == (Result.SUCCESS, 0)
    assert router.reaches(Address(PUBLIC, 7000)) is None
    assert ask(router, map_request(lifetime=0))[0] is Result.SUCCESS, "what is not there is gone already"


def test_prefer_failure() -> None:
    router = Router()
    ask(router, map_request(client=OTHER.host), OTHER)
    result, lifetime, body = ask(router, map_request(options=option(2)))
    assert (result, lifetime) == (Result.CANNOT_PROVIDE_EXTERNAL, ERROR_LIFETIME)
    assert body == map_request(options=option(2))[24:]
    assert external_port(ask(router, map_request())[2]) != 7000
    assert ask(router, map_request(5001, 80, options=option(2)))[0] is Result.NOT_AUTHORIZED


def test_filters_let_only_some_in() -> None:
    router = Router()
    options = filtering("203.0.113.0", 96 + 24) + filtering("192.0.2.1", 128, 99)
    assert ask(router, map_request(options=options))[2].endswith(options)
    external = Address(PUBLIC, 7000)
    assert router.reaches(external) == Address(CLIENT.host, 5000)
    assert router.reaches(external, remote=Address("192.0.2.1", 99)) == Address(CLIENT.host, 5000)
    assert router.reaches(external, remote=Address("192.0.2.1", 98)) is None
    everybody = filtering("0.0.0.0", 0)
    ask(router, map_request(options=options + everybody))
    assert router.reaches(external, remote=Address("192.0.2.1", 98)) == Address(CLIENT.host, 5000)


@pytest.mark.parametrize(
    ("options", "result"),
    [
        (option(2, b"1234"), Result.MALFORMED_OPTION),
        (option(3, b"1234"), Result.MALFORMED_OPTION),
        (filtering("192.0.2.1", 129), Result.MALFORMED_OPTION),
        (filtering("192.0.2.1", 50), Result.MALFORMED_OPTION),
        (filtering("192.0.2.1", 128) * (FILTERS + 1), Result.EXCESSIVE_REMOTE_PEERS),
        (option(2) + b"\x02\0\0\x04", Result.MALFORMED_OPTION),
        (b"\x02\0\xff\xff", Result.MALFORMED_OPTION),
        (option(77), Result.UNSUPP_OPTION),
        (option(200, b"whatever"), Result.SUCCESS),
        (filtering("2001:db8::", 32), Result.SUCCESS),
    ],
)
def test_options(options: bytes, result: Result) -> None:
    assert ask(Router(), map_request(options=options))[0] is result


@pytest.mark.parametrize(
    ("request_", "result"),
    [
        (head(0, 0, version=3), Result.UNSUPP_VERSION),
        (head(0, 0)[:20], Result.MALFORMED_REQUEST),
        (head(0, 0) + b"x", Result.MALFORMED_REQUEST),
        (head(0, 0) + bytes(1100), Result.MALFORMED_REQUEST),
        (head(1, 600), Result.MALFORMED_REQUEST),
        (head(2, 600) + bytes(52), Result.MALFORMED_REQUEST),
        (peer_request(0), Result.MALFORMED_REQUEST),
        (peer_request(remote_port=0), Result.MALFORMED_REQUEST),
        (peer_request(protocol=6), Result.UNSUPP_PROTOCOL),
        (peer_request() + option(2), Result.UNSUPP_OPTION),
        (head(99, 600), Result.UNSUPP_OPCODE),
        (map_request(protocol=0), Result.MALFORMED_REQUEST),
        (map_request(0, protocol=0), Result.UNSUPP_PROTOCOL),
        (map_request(0), Result.UNSUPP_PROTOCOL),
        (map_request(protocol=132), Result.UNSUPP_PROTOCOL),
    ],
)
def test_errors(request_: bytes, result: Result) -> None:
    assert ask(Router(), request_)[:2] == (result, ERROR_LIFETIME)


def test_peer_keeps_a_flow_that_nothing_else_keeps() -> None:
    """RFC 6887 §12: the mapping that is there, or one made for it; only that peer gets in."""
    router = Router(nat={"mapping": Mapping.ADDRESS_AND_PORT_DEPENDENT, "allocation": Allocation.RANDOM})
    internal, remote = Address(CLIENT.host, 5000), OUTSIDE.with_port(7)
    seen = router.nat.outbound(Packet(internal, remote, b""), 0.5).packet.source
    result, lifetime, body = ask(router, peer_request())
    assert (result, lifetime) == (Result.SUCCESS, 600)
    assert external_port(body) == seen.port
    assert body[36:] == pack("!H2x16s", 7, mapped(OUTSIDE.host))
    router.nat.outbound(Packet(internal, remote, b""), 2.0)
    assert router.reaches(seen, 600.9, remote) == internal
    assert router.reaches(seen, 600.9, OUTSIDE) is None
    assert router.reaches(seen, 601.0, remote) is None


def test_peer_where_no_mapping_can_be() -> None:
    full = Router(nat={"max_mappings_per_subscriber": 1})
    ask(full, map_request())
    assert ask(full, peer_request(5001))[0] is Result.USER_EX_QUOTA
    assert ask(Router(), peer_request(lifetime=0))[:2] == (Result.SUCCESS, 120), "as long as it lives anyway"
    bounded = Router(nat={"absolute_timeout": 60.0})
    assert ask(bounded, peer_request())[:2] == (Result.SUCCESS, 60), "no longer than the NAT can"


def test_quota_and_ports_run_out() -> None:
    router = Router(mappings_per_client=1, nat={"ports": (7000, 7001)})
    ask(router, map_request())
    assert ask(router, map_request(5001))[0] is Result.USER_EX_QUOTA
    ask(router, map_request(client=OTHER.host), OTHER)
    third = Address("192.168.1.12", 1)
    assert ask(router, map_request(client=third.host), third)[0] is Result.NO_RESOURCES


def test_nobody_maps_for_another() -> None:
    """FAULTS 100: a request in another's name, by address or by THIRD_PARTY, is refused."""
    router = Router()
    assert ask(router, map_request(client=OTHER.host))[0] is Result.ADDRESS_MISMATCH
    third_party = option(1, mapped(OTHER.host))
    assert ask(router, map_request(options=third_party))[0] is Result.UNSUPP_OPTION
    assert router.ask(map_request(client=OUTSIDE.host), 5351, OUTSIDE) == []
    assert router.gateway.leases(1.0) == ()


@pytest.mark.parametrize("payload", [b"\x02", bytes([2, 0x80]) + bytes(22)])
def test_what_gets_no_answer(payload: bytes) -> None:
    assert Router().ask(payload, 5351) == []


def test_without_pcp_the_version_is_refused_in_the_old_words() -> None:
    """RFC 6887 §9: so that a client falls back to NAT-PMP."""
    (answer,) = Router(pcp=False).ask(map_request(), 5351)
    assert answer.payload[:4] == bytes([0, 129, 0, 1])
    (answer,) = Router(nat_pmp=False).ask(b"\0\0", 5351)
    assert answer.payload[:4] == bytes([2, 128, 0, Result.UNSUPP_VERSION])
    assert Router(nat_pmp=False, pcp=False).ask(map_request(), 5351) == []


@given(st.binary(max_size=120), st.integers(0, 3))
def test_any_bytes_are_answered_or_dropped(tail: bytes, opcode: int) -> None:
    Router().ask(head(opcode, 600) + tail, 5351)
