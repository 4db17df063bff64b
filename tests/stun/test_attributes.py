"""The attribute table: complete, consistent, and every value comes back as it was sent."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk import stun
from natwalk.core import Address, LocalProtocolError, MalformedMessage
from natwalk.stun import ATTRIBUTES, AttributeSpec, Message, MessageClass, Method, decode, encode
from natwalk.stun.attributes import unknown

TID = bytes(range(12))

ADDRESSES = st.builds(
    Address,
    st.ip_addresses().map(str),
    st.integers(0, 0xFFFF),
)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=127)
ALGORITHM = st.builds(stun.PasswordAlgorithm, st.integers(0, 0xFFFF), st.binary(max_size=20))
REASON = st.builds(stun.ErrorCode, st.integers(300, 699), TEXT.map(lambda t: t.rstrip("\0")))


def uint(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, 2**bits - 1)


VALUES: dict[AttributeSpec[Any], st.SearchStrategy[Any]] = {
    stun.MAPPED_ADDRESS: ADDRESSES,
    stun.CHANGE_REQUEST: st.builds(stun.ChangeRequest, st.booleans(), st.booleans()),
    stun.USERNAME: TEXT,
    stun.MESSAGE_INTEGRITY: st.binary(min_size=20, max_size=20),
    stun.ERROR_CODE: REASON,
    stun.UNKNOWN_ATTRIBUTES: st.lists(uint(16), max_size=200).map(tuple),
    stun.CHANNEL_NUMBER: uint(16),
    stun.LIFETIME: uint(32),
    stun.XOR_PEER_ADDRESS: ADDRESSES,
    stun.DATA: st.binary(max_size=1500),
    stun.REALM: TEXT,
    stun.NONCE: st.binary(max_size=509),
    stun.XOR_RELAYED_ADDRESS: ADDRESSES,
    stun.REQUESTED_ADDRESS_FAMILY: uint(8),
    stun.EVEN_PORT: st.booleans(),
    stun.REQUESTED_TRANSPORT: uint(8),
    stun.DONT_FRAGMENT: st.just(True),
    stun.ACCESS_TOKEN: st.binary(max_size=300),
    stun.MESSAGE_INTEGRITY_SHA256: st.sampled_from([16, 20, 24, 28, 32]).map(bytes),
    stun.PASSWORD_ALGORITHM: ALGORITHM,
    stun.USERHASH: st.binary(min_size=32, max_size=32),
    stun.XOR_MAPPED_ADDRESS: ADDRESSES,
    stun.RESERVATION_TOKEN: st.binary(min_size=8, max_size=8),
    stun.PRIORITY: uint(32),
    stun.USE_CANDIDATE: st.just(True),
    stun.PADDING: st.binary(max_size=1200),
    stun.RESPONSE_PORT: uint(16),
    stun.CONNECTION_ID: uint(32),
    stun.ADDITIONAL_ADDRESS_FAMILY: uint(8),
    stun.ADDRESS_ERROR_CODE: st.builds(stun.AddressErrorCode, uint(8), st.integers(300, 699), TEXT),
    stun.PASSWORD_ALGORITHMS: st.lists(ALGORITHM, max_size=5).map(tuple),
    stun.ALTERNATE_DOMAIN: st.text("abc-.", max_size=255),
    stun.ICMP: st.builds(stun.IcmpError, uint(7), uint(9), st.binary(min_size=4, max_size=4)),
    stun.SOFTWARE: TEXT,
    stun.ALTERNATE_SERVER: ADDRESSES,
    stun.TRANSACTION_TRANSMIT_COUNTER: st.builds(stun.TransmitCounter, uint(8), uint(8)),
    stun.CACHE_TIMEOUT: uint(32),
    stun.ICE_CONTROLLED: uint(64),
    stun.ICE_CONTROLLING: uint(64),
    stun.RESPONSE_ORIGIN: ADDRESSES,
    stun.OTHER_ADDRESS: ADDRESSES,
    stun.ECN_CHECK: st.builds(stun.EcnCheck, uint(2), st.booleans()),
    stun.THIRD_PARTY_AUTHORIZATION: TEXT,
    stun.MOBILITY_TICKET: st.binary(max_size=300),
}
ORDINARY = [
    spec
    for spec in VALUES
    if spec not in (stun.MESSAGE_INTEGRITY, stun.MESSAGE_INTEGRITY_SHA256)  # these seal what is before them
]
PAIRS = st.sampled_from(ORDINARY).flatmap(lambda spec: st.tuples(st.just(spec), VALUES[spec]))
MESSAGES = st.builds(
    Message,
    st.sampled_from(list(Method)) | uint(12),
    st.sampled_from(list(MessageClass)),
    st.binary(min_size=12, max_size=12),
    st.lists(PAIRS, max_size=6).map(tuple),
)


def only(spec: AttributeSpec[Any], data: bytes) -> bytes:
    """A Binding request with one attribute whose value is ``data``."""
    return encode(Message(Method.BINDING, MessageClass.REQUEST, TID, ((unknown(spec.type), data),)))


def test_every_attribute_has_a_strategy_here() -> None:
    assert set(VALUES) | {stun.FINGERPRINT} == set(ATTRIBUTES.values())


def test_type_numbers_are_the_keys_and_names_are_unique() -> None:
    assert all(spec.type == number for number, spec in ATTRIBUTES.items())
    assert len({spec.name for spec in ATTRIBUTES.values()}) == len(ATTRIBUTES) == 45


def test_every_attribute_says_where_it_is_defined() -> None:
    assert all(re.fullmatch(r"RFC \d{4} §[\d.]+", spec.section) for spec in ATTRIBUTES.values())


def test_constants_are_named_as_the_attributes_are() -> None:
    for spec in ATTRIBUTES.values():
        assert getattr(stun, spec.name.replace("-", "_")) is spec
        assert repr(spec) == spec.name


def test_the_upper_half_of_the_numbers_is_optional() -> None:
    assert stun.USERNAME.required
    assert not stun.SOFTWARE.required


@pytest.mark.parametrize("spec", ORDINARY, ids=repr)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_value_comes_back(spec: AttributeSpec[Any], data: st.DataObject) -> None:
    value = data.draw(VALUES[spec])
    if spec is stun.SOFTWARE and isinstance(value, str):
        value = value.rstrip("\0")
    message = Message(Method.BINDING, MessageClass.REQUEST, TID, ((spec, value),))
    for _ in range(2):  # read the long way and, if short, the way of a known layout
        assert decode(encode(message)).get(spec) == value


@settings(max_examples=200, deadline=None)
@given(message=MESSAGES, fingerprint=st.booleans())
def test_messages_come_back_equal(message: Message, fingerprint: bool) -> None:
    data = encode(message, fingerprint=fingerprint)
    for _ in range(2):
        back = decode(data)
        assert back.raw == data
        assert back.attributes[: len(message.attributes)] == message.attributes
        assert (stun.FINGERPRINT in back) == fingerprint
        assert fingerprint or back == message


@pytest.mark.parametrize("spec", [s for s in ATTRIBUTES.values() if s is not stun.FINGERPRINT], ids=repr)
@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=40))
def test_any_value_bytes_are_read_or_malformed(spec: AttributeSpec[Any], data: bytes) -> None:
    try:
        value = spec.codec.decode(data, TID)
    except MalformedMessage:
        return
    # what is read can be sent, unless reading is more generous than sending
    assert spec.codec.decode(spec.codec.encode(value, TID), TID) == value


WRONG: list[tuple[AttributeSpec[Any], bytes]] = [
    (stun.MAPPED_ADDRESS, b""),
    (stun.MAPPED_ADDRESS, bytes.fromhex("0003 0001 01020304")),  # family 3
    (stun.MAPPED_ADDRESS, bytes.fromhex("0002 0001 01020304")),  # IPv6 of four bytes
    (stun.MAPPED_ADDRESS, bytes.fromhex("0001 0001") + bytes(16)),  # IPv4 of sixteen
    (stun.XOR_MAPPED_ADDRESS, bytes.fromhex("0000 0001 01020304")),
    (stun.XOR_MAPPED_ADDRESS, bytes(9)),
    (stun.XOR_PEER_ADDRESS, bytes.fromhex("0002 0001") + bytes(15)),
    (stun.USERNAME, b"x" * 764),
    (stun.USERNAME, b"\xff\xfe"),
    (stun.USERNAME, b"a\0b"),
    (stun.USERNAME, b"ab\0"),
    (stun.USERNAME, b"\xed\xa0\x80"),  # a surrogate
    (stun.REALM, b"\0"),
    (stun.REALM, b"r" * 764),
    (stun.NONCE, b"n" * 764),
    (stun.SOFTWARE, b"a\0b"),
    (stun.ERROR_CODE, b""),
    (stun.ERROR_CODE, bytes.fromhex("0000 0200")),  # class 2
    (stun.ERROR_CODE, bytes.fromhex("0000 0700")),
    (stun.ERROR_CODE, bytes.fromhex("0000 0464")),  # number 100
    (stun.ERROR_CODE, bytes.fromhex("0000 0400 ff")),
    (stun.ERROR_CODE, bytes.fromhex("0000 0400") + b"r" * 764),
    (stun.UNKNOWN_ATTRIBUTES, b"abc"),
    (stun.CHANNEL_NUMBER, b"ab"),
    (stun.LIFETIME, b"abc"),
    (stun.LIFETIME, bytes(8)),
    (stun.EVEN_PORT, b""),
    (stun.EVEN_PORT, b"ab"),
    (stun.REQUESTED_TRANSPORT, b"a"),
    (stun.DONT_FRAGMENT, b"a"),
    (stun.USE_CANDIDATE, b"\0\0\0\0"),
    (stun.MESSAGE_INTEGRITY, bytes(19)),
    (stun.MESSAGE_INTEGRITY, bytes(24)),
    (stun.USERHASH, bytes(31)),
    (stun.RESERVATION_TOKEN, bytes(9)),
    (stun.RESPONSE_PORT, b"abc"),
    (stun.PASSWORD_ALGORITHM, b"\0\1"),
    (stun.PASSWORD_ALGORITHM, bytes.fromhex("0001 0004 01")),
    (stun.PASSWORD_ALGORITHM, bytes.fromhex("0001 0000 00020000")),
    (stun.PASSWORD_ALGORITHMS, bytes.fromhex("0001 0000 0002")),
    (stun.PASSWORD_ALGORITHMS, bytes.fromhex("0001 ffff")),
    (stun.ALTERNATE_DOMAIN, b"d" * 256),
    (stun.ICMP, bytes(7)),
    (stun.ADDRESS_ERROR_CODE, b"\1"),
    (stun.ADDRESS_ERROR_CODE, bytes.fromhex("0100 0100")),
    (stun.CHANGE_REQUEST, b"\0"),
    (stun.TRANSACTION_TRANSMIT_COUNTER, bytes(5)),
    (stun.ECN_CHECK, bytes(3)),
    (stun.ICE_CONTROLLING, bytes(4)),
    (stun.PRIORITY, bytes(8)),
]


@pytest.mark.parametrize(("spec", "data"), WRONG, ids=lambda v: repr(v)[:40])
def test_hostile_values_are_malformed(spec: AttributeSpec[Any], data: bytes) -> None:
    """FAULTS 34: NUL, invalid UTF-8 and oversize never get past the codec; the error names the attribute."""
    with pytest.raises(MalformedMessage, match=re.escape(spec.name)):
        decode(only(spec, data))


@pytest.mark.parametrize("text", ["%s%x%n", "'; DROP TABLE users; --", "\u202eabc", "🦊", "", "a" * 763])
def test_odd_but_legal_usernames_are_data(text: str) -> None:
    """FAULTS 34: format strings, quotes and bidi marks are text like other text to the codec."""
    assert decode(only(stun.USERNAME, text.encode())).get(stun.USERNAME) == text


def test_software_of_old_servers_may_end_in_nul() -> None:
    assert decode(only(stun.SOFTWARE, b"Vovida.org 0.96\0")).get(stun.SOFTWARE) == "Vovida.org 0.96"


def test_a_response_port_may_count_its_padding_or_not() -> None:
    assert stun.RESPONSE_PORT.codec.decode(b"\x12\x34", TID) == 0x1234
    assert stun.RESPONSE_PORT.codec.decode(b"\x12\x34\xff\xff", TID) == 0x1234


def test_reserved_bits_are_ignored_on_receive_and_zero_on_send() -> None:
    assert stun.CHANNEL_NUMBER.codec.decode(b"\x40\x01\xff\xff", TID) == 0x4001
    assert stun.CHANNEL_NUMBER.codec.encode(0x4001, TID) == b"\x40\x01\0\0"
    assert stun.ERROR_CODE.codec.decode(b"\xff\xff\xfc\x01", TID) == stun.ErrorCode(401)
    assert stun.EVEN_PORT.codec.decode(b"\x7f", TID) is False
    assert stun.MAPPED_ADDRESS.codec.decode(b"\xff\x01\x00\x50\x01\x02\x03\x04", TID) == ("1.2.3.4", 80)


TOO_MUCH: list[tuple[AttributeSpec[Any], Any]] = [
    (stun.USERNAME, "x" * 509),
    (stun.USERNAME, "a\0"),
    (stun.USERNAME, "\ud800"),
    (stun.REALM, "r" * 128),
    (stun.NONCE, b"n" * 510),
    (stun.SOFTWARE, "s" * 128),
    (stun.ERROR_CODE, stun.ErrorCode(400, "r" * 128)),
    (stun.UNKNOWN_ATTRIBUTES, (0x10000,)),
    (stun.LIFETIME, 2**32),
    (stun.LIFETIME, -1),
    (stun.CHANNEL_NUMBER, 0x10000),
    (stun.USE_CANDIDATE, False),
    (stun.USERHASH, b"short"),
    (stun.MESSAGE_INTEGRITY, b"short"),
    (stun.MESSAGE_INTEGRITY_SHA256, bytes(33)),
    (stun.PASSWORD_ALGORITHM, stun.PasswordAlgorithm(1, bytes(0x10000))),
    (stun.PASSWORD_ALGORITHMS, (stun.PasswordAlgorithm(1, bytes(0xFFFF)),)),
    (stun.DATA, bytes(0x10000)),
]


@pytest.mark.parametrize(("spec", "value"), TOO_MUCH, ids=lambda v: repr(v)[:40])
def test_values_out_of_bounds_are_not_sent(spec: AttributeSpec[Any], value: object) -> None:
    with pytest.raises(LocalProtocolError):
        encode(Message(Method.BINDING, MessageClass.REQUEST, TID, ((spec, value),)))


def test_a_zone_stays_at_home() -> None:
    address = Address("fe80::1%eth0", 5000)
    back = decode(only(stun.XOR_MAPPED_ADDRESS, stun.XOR_MAPPED_ADDRESS.codec.encode(address, TID)))
    assert back.get(stun.XOR_MAPPED_ADDRESS) == Address("fe80::1", 5000)


@settings(max_examples=100, deadline=None)
@given(address=ADDRESSES, tid=st.binary(min_size=12, max_size=12))
def test_decoded_addresses_are_those_the_constructor_makes(address: Address, tid: bytes) -> None:
    """The codec skips Address's checks, so it must yield what they would."""
    for spec in (stun.MAPPED_ADDRESS, stun.XOR_MAPPED_ADDRESS):
        back = spec.codec.decode(spec.codec.encode(address, tid), tid)
        assert type(back) is Address
        assert back == Address(back.host, back.port) == address
