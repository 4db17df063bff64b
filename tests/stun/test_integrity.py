"""RFC vectors, every flip of them, and what MESSAGE-INTEGRITY proves."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

import pytest

from natwalk.core import Address, IntegrityError, MalformedMessage, NatError
from natwalk.stun import (
    ICE_CONTROLLED,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    NONCE,
    PASSWORD_ALGORITHM,
    PRIORITY,
    REALM,
    SOFTWARE,
    USERHASH,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    Algorithm,
    Message,
    MessageClass,
    Method,
    PasswordAlgorithm,
    check_integrity,
    decode,
    encode,
    request,
    userhash,
)

TID = bytes(range(12))
KEY = b"a key"
Vector = Any  # conftest's, which importlib mode does not let a test import


def test_vectors_verify(vector: Vector) -> None:
    """FAULTS 20: RFC 5769 §2.1 to §2.4 and RFC 8489 appendix B.1."""
    check_integrity(decode(vector.data), vector.key)


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_no_flip_of_a_vector_verifies(vector: Vector, mask: int) -> None:
    """FAULTS 20: every byte counts, padding and the FINGERPRINT included."""
    decode(vector.data)  # so that the flips meet a known layout
    for position in range(len(vector.data)):
        broken = bytearray(vector.data)
        broken[position] ^= mask
        with pytest.raises((MalformedMessage, IntegrityError)):
            check_integrity(decode(broken), vector.key)


def test_no_single_bit_flip_of_a_vector_verifies(vector: Vector) -> None:
    for bit in range(8 * len(vector.data)):
        broken = bytearray(vector.data)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises((MalformedMessage, IntegrityError)):
            check_integrity(decode(broken), vector.key)


def test_no_prefix_of_a_vector_is_a_message(vector: Vector) -> None:
    for length in range(len(vector.data)):
        with pytest.raises(MalformedMessage):
            decode(vector.data[:length])


def test_rfc_5769_request_says_what_the_rfc_says(get_vector: Callable[[str], Vector]) -> None:
    message = decode(get_vector("rfc5769-2.1-request").data)
    assert (message.method, message.message_class) == (Method.BINDING, MessageClass.REQUEST)
    assert message.transaction_id.hex() == "b7e7a701bc34d686fa87dfae"
    assert message.get(SOFTWARE) == "STUN test client"
    assert message.get(PRIORITY) == 0x6E0001FF
    assert message.get(ICE_CONTROLLED) == 0x932FF9B151263B36
    assert message.get(USERNAME) == "evtj:h6vY"


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("rfc5769-2.2-response-ipv4", Address("192.0.2.1", 32853)),
        ("rfc5769-2.3-response-ipv6", Address("2001:db8:1234:5678:11:2233:4455:6677", 32853)),
    ],
)
def test_rfc_5769_responses_say_what_the_rfc_says(
    get_vector: Callable[[str], Vector], name: str, address: Address
) -> None:
    message = decode(get_vector(name).data)
    assert message.message_class is MessageClass.SUCCESS
    assert message.get(SOFTWARE) == "test vector"
    assert message.get(XOR_MAPPED_ADDRESS) == address


def test_rfc_5769_long_term_request_is_what_we_send(get_vector: Callable[[str], Vector]) -> None:
    vector = get_vector("rfc5769-2.4-request-long-term")
    message = decode(vector.data)
    pairs = (
        (USERNAME, "\u30de\u30c8\u30ea\u30c3\u30af\u30b9"),
        (NONCE, b"f//499k954d6OL34oL9FSTvy64sA"),
        (REALM, "example.org"),
    )
    assert message.attributes[:3] == pairs
    ours = request(Method.BINDING, message.transaction_id, *pairs)
    assert encode(ours, integrity_key=vector.key) == vector.data


def test_rfc_8489_request_is_what_we_send(get_vector: Callable[[str], Vector]) -> None:
    vector = get_vector("rfc8489-b.1-request-sha256")
    ours = request(
        Method.BINDING,
        decode(vector.data).transaction_id,
        (USERHASH, userhash("\u30de\u30c8\u30ea\u30c3\u30af\u30b9", "example.org")),
        (NONCE, b"obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA"),
        (REALM, "example.org"),
        (PASSWORD_ALGORITHM, PasswordAlgorithm(Algorithm.SHA256)),
    )
    assert encode(ours, integrity_key=vector.key, sha256=True) == vector.data


@pytest.mark.parametrize("sha256", [False, True])
@pytest.mark.parametrize("fingerprint", [False, True])
def test_what_we_protect_verifies_with_the_key_alone(sha256: bool, fingerprint: bool) -> None:
    message = request(Method.ALLOCATE, TID, (USERNAME, "u"))
    data = encode(message, integrity_key=KEY, sha256=sha256, fingerprint=fingerprint)
    back = decode(data)
    check_integrity(back, KEY)
    check_integrity(back, KEY, sha256=sha256)
    for wrong in (b"", b"A key", KEY + b"\0x", KEY * 30):
        with pytest.raises(IntegrityError, match="verify"):
            check_integrity(back, wrong)
    with pytest.raises(IntegrityError, match="has no"):
        check_integrity(back, KEY, sha256=not sha256)


def test_a_message_without_integrity_does_not_verify() -> None:
    with pytest.raises(IntegrityError, match="has no"):
        check_integrity(decode(encode(request(Method.BINDING, TID))), KEY)
    with pytest.raises(IntegrityError, match="has no"):
        check_integrity(request(Method.BINDING, TID, (MESSAGE_INTEGRITY, bytes(20))), KEY)


def protected_by_both(key: bytes = KEY) -> bytes:
    first = decode(encode(request(Method.BINDING, TID, (USERNAME, "u")), integrity_key=key))
    return encode(
        Message(first.method, first.message_class, TID, first.attributes), integrity_key=key, sha256=True
    )


def test_sha256_decides_when_both_are_there() -> None:
    data = protected_by_both()
    message = decode(data)
    assert MESSAGE_INTEGRITY in message
    assert MESSAGE_INTEGRITY_SHA256 in message
    check_integrity(message, KEY)
    check_integrity(message, KEY, sha256=False)
    broken = bytearray(data)
    broken[-1] ^= 1
    with pytest.raises(IntegrityError):
        check_integrity(decode(broken), KEY)
    check_integrity(decode(broken), KEY, sha256=False)


@pytest.mark.parametrize("length", range(41))
def test_sha256_may_be_cut_to_sixteen_bytes_in_steps_of_four(length: int) -> None:
    """FAULTS 31: other lengths are malformed (RFC 8489 §14.6)."""
    body_length = 4 + length + (-length % 4)
    start = b"\0\1" + body_length.to_bytes(2, "big") + bytes.fromhex("2112a442") + TID
    code = hmac.digest(KEY, start, "sha256").ljust(40, b"\0")[:length]
    data = start + b"\x00\x1c" + length.to_bytes(2, "big") + code + bytes(-length % 4)
    if length not in (16, 20, 24, 28, 32):
        with pytest.raises(MalformedMessage):
            decode(data)
        return
    check_integrity(decode(data), KEY)
    data = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(IntegrityError):
        check_integrity(decode(data), KEY)


def test_codes_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 31: wherever the first wrong byte is, the same function sees both codes whole."""
    seen = []

    def spy(a: bytes, b: bytes) -> bool:
        seen.append((len(a), len(b)))
        return hmac.compare_digest(a, b)

    monkeypatch.setattr("natwalk.stun.integrity.compare_digest", spy)
    good = encode(request(Method.BINDING, TID), integrity_key=KEY)
    for position in (-20, -1):
        broken = bytearray(good)
        broken[position] ^= 1
        with pytest.raises(IntegrityError):
            check_integrity(decode(broken), KEY)
    check_integrity(decode(good), KEY)
    assert seen == [(20, 20)] * 3


def test_errors_never_show_the_key() -> None:
    data = encode(request(Method.BINDING, TID), integrity_key=b"hunter2")
    with pytest.raises(NatError) as caught:
        check_integrity(decode(data), b"hunter3")
    assert "hunter" not in str(caught.value)
