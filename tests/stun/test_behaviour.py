"""The server's side of behaviour discovery: answers from where RFC 5780's table says, none too long."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from conformance import CoreConformance, drain
from natwalk.core import Address, Core, LocalProtocolError, Path, Transmit, Transport
from natwalk.stun import (
    CHANGE_REQUEST,
    ERROR_CODE,
    MAPPED_ADDRESS,
    OTHER_ADDRESS,
    PADDING,
    RESPONSE_ORIGIN,
    RESPONSE_PORT,
    UNKNOWN_ATTRIBUTES,
    XOR_MAPPED_ADDRESS,
    Attribute,
    Behaviour,
    BindingServer,
    ChangeRequest,
    Method,
    decode,
    encode,
    indication,
    request,
)
from natwalk.stun.partner import RATE, WINDOW

TID = bytes(range(12))
A1, A2, P1, P2 = "192.0.2.1", "192.0.2.2", 3478, 3479
BEHAVIOUR = Behaviour(Address(A1, P1), Address(A2, P2))
CLIENT = Address("198.51.100.7", 50000)
SECRET = b"s" * 32


def at(host: str, port: int) -> Path:
    return Path(Address(host, port), CLIENT)


def one(server: BindingServer, asked: bytes, path: Path, now: float = 0.0) -> Transmit:
    server.receive(asked, path, now)
    (out,), events = drain(server)
    assert events == []
    return out


def ask(
    *attributes: Attribute, path: Path | None = None, behaviour: Behaviour | None = BEHAVIOUR
) -> Transmit:
    server = BindingServer(behaviour=behaviour)
    return one(server, encode(request(Method.BINDING, TID, *attributes)), path or at(A1, P1))


class TestBehaviourConformance(CoreConformance):
    def make(self, now: float) -> Core[Any]:
        server = BindingServer(behaviour=BEHAVIOUR)
        server.receive(encode(request(Method.BINDING, TID)), at(A1, P1), now)
        return server


@pytest.mark.parametrize("host", [A1, A2])
@pytest.mark.parametrize("port", [P1, P2])
@pytest.mark.parametrize("change_ip", [False, True])
@pytest.mark.parametrize("change_port", [False, True])
def test_the_answer_comes_from_where_the_table_says(
    host: str, port: int, change_ip: bool, change_port: bool
) -> None:
    """RFC 5780 §6.1, table 1, for each of the four sockets."""
    other_host, other_port = (A2 if host == A1 else A1), (P2 if port == P1 else P1)
    out = ask((CHANGE_REQUEST, ChangeRequest(change_ip, change_port)), path=at(host, port))
    origin = Address(other_host if change_ip else host, other_port if change_port else port)
    assert out.path == Path(origin, CLIENT)
    assert decode(out.data).attributes == (
        (XOR_MAPPED_ADDRESS, CLIENT),
        (MAPPED_ADDRESS, CLIENT),
        (RESPONSE_ORIGIN, origin),
        (OTHER_ADDRESS, Address(other_host, other_port)),
    )


def test_without_change_request_it_is_the_same_from_where_it_was_asked() -> None:
    assert ask() == ask((CHANGE_REQUEST, ChangeRequest()))


def test_response_port_sends_it_to_another_port_of_the_same_host() -> None:
    out = ask((RESPONSE_PORT, 4000))
    assert out.path.remote == CLIENT.with_port(4000)
    assert decode(out.data).get(XOR_MAPPED_ADDRESS) == CLIENT


def test_response_port_zero_and_response_port_with_padding_are_bad_requests() -> None:
    """RFC 5780 §6.1: PADDING and RESPONSE-PORT together are answered with 400."""
    for attributes in [((RESPONSE_PORT, 0),), ((RESPONSE_PORT, 4000), (PADDING, bytes(100)))]:
        out = ask(*attributes)
        assert out.path == at(A1, P1)
        error = decode(out.data).get(ERROR_CODE)
        assert error is not None
        assert error.code == 400


@pytest.mark.parametrize("asked", [0, 4, 40, 100, 333, 1472, 1500, 9000, 60000])
def test_padding_never_makes_the_answer_longer_than_the_request(asked: int) -> None:
    """FAULTS 39: the deviation from RFC 5780 §6.1 that keeps PADDING from being an amplifier."""
    plain = ask()
    size = len(encode(request(Method.BINDING, TID, (PADDING, bytes(asked)))))
    out = ask((PADDING, bytes(asked)))
    assert len(out.data) <= max(size, len(plain.data))
    padding = decode(out.data).get(PADDING)
    if asked >= 100:
        assert padding is not None
        assert len(out.data) > size - 8 or len(padding) == 1500
        assert not any(padding)


@pytest.mark.parametrize(
    "path",
    [
        at("192.0.2.9", P1),
        at(A1, P1)._replace(transport=Transport.TCP),
        at(A1, P1)._replace(transport=Transport.DTLS),
    ],
)
def test_elsewhere_it_is_a_plain_server(path: Path) -> None:
    """FAULTS 39: a listener that is no part of the four, and anything but UDP, answers 32 bytes."""
    assert len(ask(path=path).data) == 32
    out = ask((CHANGE_REQUEST, ChangeRequest()), (RESPONSE_PORT, 1), (PADDING, b""), path=path)
    assert decode(out.data).get(UNKNOWN_ATTRIBUTES) == (3, 0x27, 0x26)


def test_it_can_be_turned_off_and_on() -> None:
    server = BindingServer(behaviour=BEHAVIOUR)
    asked = encode(request(Method.BINDING, TID))
    server.set_behaviour(None)
    assert len(one(server, asked, at(A1, P1)).data) == 32
    server.set_behaviour(BEHAVIOUR)
    assert len(one(server, asked, at(A1, P1)).data) == 68


def test_behind_a_one_to_one_nat_clients_are_told_public_addresses() -> None:
    out = ask(behaviour=replace(BEHAVIOUR, public=("203.0.113.1", "203.0.113.2")))
    message = decode(out.data)
    assert out.path == at(A1, P1)
    assert message.get(RESPONSE_ORIGIN) == Address("203.0.113.1", P1)
    assert message.get(OTHER_ADDRESS) == Address("203.0.113.2", P2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alternate": Address(A1, P2)}, "differ in address"),
        ({"alternate": Address(A2, P1)}, "differ in address"),
        ({"alternate": Address(A2, 0)}, "differ in address"),
        ({"alternate": Address("2001:db8::1", P2)}, "not of one IP version"),
        ({"primary": Address("0.0.0.0", P1)}, "single addresses"),
        ({"public": ("203.0.113.1", "203.0.113.1")}, "must differ"),
        ({"public": ("203.0.113.1", "2001:db8::1")}, "not of one IP version"),
        ({"partner_secret": b"short"}, "16 bytes"),
    ],
)
def test_what_cannot_work_is_refused_at_once(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(BEHAVIOUR, **change)


def test_the_secret_is_not_in_the_repr() -> None:
    assert "ssss" not in repr(replace(BEHAVIOUR, partner_secret=SECRET))


class Partners:
    """Two servers with one address each, and what passes between them."""

    def __init__(self, secret: bytes = SECRET, skew: float = 0.0) -> None:
        rng = random.Random(3)
        self.first = BindingServer(
            behaviour=Behaviour(Address(A1, P1), Address(A2, P2), partner_secret=SECRET),
            random_bytes=rng.randbytes,
        )
        self.second = BindingServer(
            behaviour=Behaviour(Address(A2, P1), Address(A1, P2), partner_secret=secret),
            random_bytes=rng.randbytes,
        )
        self.first.wall_offset = 1.7e9
        self.second.wall_offset = 1.7e9 + skew

    def order(self, *attributes: Attribute, now: float = 0.0) -> Transmit:
        """What the first sends to the second when a client asks with ``attributes``."""
        return one(self.first, encode(request(Method.BINDING, TID, *attributes)), at(A1, P1), now)

    def follow(self, order: Transmit, now: float = 0.0) -> list[Transmit]:
        self.second.receive(order.data, Path(order.path.remote, order.path.local), now)
        return drain(self.second)[0]


CHANGE_BOTH: Attribute = (CHANGE_REQUEST, ChangeRequest(True, True))


@pytest.mark.parametrize(("change_port", "port"), [(False, P1), (True, P2)])
def test_a_partner_answers_as_one_server_with_two_addresses_would(change_port: bool, port: int) -> None:
    change = (CHANGE_REQUEST, ChangeRequest(True, change_port))
    partners = Partners()
    order = partners.order(change)
    assert order.path == Path(Address(A1, P1), Address(A2, port))
    (answer,) = partners.follow(order)
    assert answer == ask(change)


def test_a_partner_answers_padded_and_classic_requests_and_other_ports_too() -> None:
    for attributes in [((PADDING, bytes(400)),), ((RESPONSE_PORT, 4000),)]:
        partners = Partners()
        (answer,) = partners.follow(partners.order(CHANGE_BOTH, *attributes))
        assert answer == ask(CHANGE_BOTH, *attributes)
    classic = b"\x00\x01\x00\x08" + bytes(16) + b"\x00\x03\x00\x04\x00\x00\x00\x06"
    partners = Partners()
    (answer,) = partners.follow(one(partners.first, classic, at(A1, P1)))
    assert answer == one(BindingServer(behaviour=BEHAVIOUR), classic, at(A1, P1))


def test_what_needs_no_partner_is_answered_at_once() -> None:
    partners = Partners()
    assert partners.order((CHANGE_REQUEST, ChangeRequest(False, True))).path == Path(Address(A1, P2), CLIENT)


def test_an_order_is_good_once() -> None:
    partners = Partners()
    order = partners.order(CHANGE_BOTH)
    assert len(partners.follow(order)) == 1
    assert partners.follow(order) == []
    assert partners.second.drops.last == "a partner's order came twice"


@pytest.mark.parametrize("skew", [-WINDOW - 1, WINDOW + 1])
def test_an_old_order_is_not_followed(skew: float) -> None:
    partners = Partners(skew=skew)
    assert partners.follow(partners.order(CHANGE_BOTH)) == []
    assert partners.second.drops.last == "a partner's order is old, or the clocks differ"
    partners = Partners(skew=skew * 0.9)
    assert len(partners.follow(partners.order(CHANGE_BOTH))) == 1


def test_forged_and_damaged_orders_are_not_followed() -> None:
    partners = Partners(secret=b"x" * 32)
    assert partners.follow(partners.order(CHANGE_BOTH)) == []
    partners = Partners()
    order = partners.order(CHANGE_BOTH)
    for index in range(len(order.data)):
        damaged = bytearray(order.data)
        damaged[index] ^= 0x10
        answers = partners.follow(order._replace(data=bytes(damaged)))
        assert all(out.path.remote == order.path.local for out in answers)  # one flip makes it a request
    elsewhere = Path(Address("192.0.2.66", P1), order.path.remote)
    assert partners.follow(order._replace(path=elsewhere)) == []
    assert partners.follow(order._replace(data=encode(indication(Method.BINDING, TID)))) == []
    assert len(partners.follow(order)) == 1


def test_signed_orders_that_make_no_sense_are_not_followed() -> None:
    partners = Partners()
    good = decode(partners.order(CHANGE_BOTH).data)
    kept = [a for a in good.attributes if a[0].name != "MESSAGE-INTEGRITY-SHA256"]
    elsewhere = {"RESPONSE-ORIGIN": Address("192.0.2.66", P1), "XOR-PEER-ADDRESS": Address("192.0.2.66", 53)}
    wrong = [
        [a for a in kept if a[0].name != "DATA"],
        [a for a in kept if a[0].name != "XOR-PEER-ADDRESS"],
        *([(s, elsewhere[name] if s.name == name else v) for s, v in kept] for name in elsewhere),
        [(s, b"\x02" + v[1:] if s.name == "DATA" else v) for s, v in kept],
    ]
    for attributes in wrong:
        data = encode(indication(Method.BINDING, TID, *attributes), integrity_key=SECRET, sha256=True)
        order = Transmit(data, Path(Address(A1, P1), Address(A2, P2)))
        assert partners.follow(order) == [], attributes
    assert partners.second.drops.total == len(wrong)


def test_orders_have_a_rate_on_both_sides() -> None:
    partners = Partners()
    asked = encode(request(Method.BINDING, TID, CHANGE_BOTH))
    for _ in range(1000):
        partners.first.receive(asked, at(A1, P1), 0.0)
    orders = drain(partners.first)[0]
    assert len(orders) == RATE
    assert sum(len(partners.follow(order)) for order in orders) == RATE
    partners.first.receive(asked, at(A1, P1), 0.5)
    assert len(drain(partners.first)[0]) == 1


def test_a_partner_needs_randomness_and_a_wall_clock() -> None:
    behaviour = replace(BEHAVIOUR, partner_secret=SECRET)
    with pytest.raises(LocalProtocolError):
        BindingServer(behaviour=behaviour)
    server = BindingServer(behaviour=behaviour, random_bytes=random.Random(1).randbytes)
    server.receive(encode(request(Method.BINDING, TID, CHANGE_BOTH)), at(A1, P1), 0.0)
    assert drain(server) == ([], [])
    assert "wall clock" in (server.drops.last or "")
