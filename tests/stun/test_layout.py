"""The fast path of decode says what the long way says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk.core import Address, MalformedMessage
from natwalk.stun import (
    DATA,
    ICE_CONTROLLED,
    ICE_CONTROLLING,
    PRIORITY,
    SOFTWARE,
    USE_CANDIDATE,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    Message,
    MessageClass,
    Method,
    check_integrity,
    decode,
    encode,
    indication,
    request,
)
from natwalk.stun.attributes import unknown
from natwalk.stun.codec import _decode
from natwalk.stun.layout import MAX_PER_SIZE, MAX_SIZE, REPLACE_EVERY, recall

KEY = b"key"


def check(tid: bytes, name: str = "abcd:efgh", priority: int = 1, role: Any = ICE_CONTROLLING) -> bytes:
    pairs = ((USERNAME, name), (PRIORITY, priority), (USE_CANDIDATE, True), (role, 2**63))
    return encode(request(Method.BINDING, tid, *pairs), integrity_key=KEY, fingerprint=True)


def test_a_layout_is_learned_from_the_first_message_of_its_kind(fresh_layouts: dict[int, Any]) -> None:
    first, second = check(b"a" * 12), check(b"b" * 12, "wxyz:1234", 99)
    assert recall(first) is None
    decode(first)
    found = recall(second)
    assert found == _decode(second)
    assert found is not None
    assert found.raw == second
    assert found.integrity_offsets == _decode(second).integrity_offsets
    check_integrity(found, KEY)


def test_other_classes_and_methods_share_a_layout(fresh_layouts: dict[int, Any]) -> None:
    pairs = ((SOFTWARE, "abc"), (XOR_MAPPED_ADDRESS, Address("192.0.2.7", 7)))
    decode(encode(Message(Method.BINDING, MessageClass.SUCCESS, bytes(12), pairs)))
    other = encode(Message(Method.REFRESH, MessageClass.ERROR, b"x" * 12, pairs))
    assert recall(other) == _decode(other)


def test_a_wrong_value_in_a_known_layout_is_malformed(fresh_layouts: dict[int, Any]) -> None:
    good = encode(request(Method.BINDING, bytes(12), (USERNAME, "abcd"), (DATA, b"abcd")))
    decode(good)
    bad = good.replace(b"\0\6\0\4abcd", b"\0\6\0\4ab\0d")
    assert recall(bad) is None
    with pytest.raises(MalformedMessage, match="USERNAME"):
        decode(bad)
    decode(good)


def test_a_wrong_fingerprint_in_a_known_layout_is_malformed(fresh_layouts: dict[int, Any]) -> None:
    good = check(bytes(12))
    decode(good)
    bad = good[:-1] + bytes([good[-1] ^ 1])
    assert recall(bad) is None
    with pytest.raises(MalformedMessage, match="FINGERPRINT"):
        decode(bad)


@pytest.mark.parametrize("bits", [0x4001, 0x8001, 0xC001])
def test_the_first_two_bits_are_checked_in_a_known_layout_too(bits: int) -> None:
    good = encode(request(Method.BINDING, bytes(12), (USERNAME, "abcd")))
    decode(good)
    with pytest.raises(MalformedMessage):
        decode(bits.to_bytes(2, "big") + good[2:])


@pytest.mark.parametrize("position", range(2, 8))
def test_length_and_cookie_are_checked_in_a_known_layout_too(position: int) -> None:
    good = bytearray(encode(request(Method.BINDING, bytes(12), (USERNAME, "abcd"))))
    decode(good)
    good[position] ^= 4
    with pytest.raises(MalformedMessage):
        decode(good)


def test_padding_of_a_known_layout_is_any(fresh_layouts: dict[int, Any]) -> None:
    good = encode(request(Method.BINDING, bytes(12), (USERNAME, "abc")))
    decode(good)
    assert recall(good[:-1] + b"\xff") == _decode(good[:-1] + b"\xff")


def test_memory_is_bounded(fresh_layouts: dict[int, Any]) -> None:
    for kind in range(0x9000, 0x9000 + 50):
        for length in range(0, MAX_SIZE + 40, 4):
            decode(encode(request(Method.BINDING, bytes(12), (unknown(kind), bytes(length)))))
    assert max(fresh_layouts) <= MAX_SIZE
    assert max(map(len, fresh_layouts.values())) == MAX_PER_SIZE
    assert sum(map(len, fresh_layouts.values())) <= MAX_PER_SIZE * (MAX_SIZE // 4)


def test_a_new_pattern_finds_its_place_among_old_ones(fresh_layouts: dict[int, Any]) -> None:
    old = [
        encode(request(Method.BINDING, bytes(12), (unknown(0x9000 + n), b"1234")))
        for n in range(MAX_PER_SIZE)
    ]
    for data in old:
        decode(data)
    new = encode(request(Method.BINDING, bytes(12), (unknown(0xA000), b"1234")))
    for _ in range(REPLACE_EVERY):
        assert decode(new) == _decode(new)
    assert recall(new) is not None
    assert recall(old[-1]) is not None
    assert recall(old[0]) is None


def test_both_roles_of_ice_are_remembered_at_once(fresh_layouts: dict[int, Any]) -> None:
    ours, theirs = check(bytes(12)), check(bytes(12), role=ICE_CONTROLLED)
    assert len(ours) == len(theirs)
    decode(ours)
    decode(theirs)
    assert recall(ours) is not None
    assert recall(theirs) is not None


def test_what_has_no_named_method_or_ignored_parts_is_not_remembered(fresh_layouts: dict[int, Any]) -> None:
    decode(encode(request(0x0F0, bytes(12), (USERNAME, "a"))))
    sealed = bytearray(encode(request(Method.BINDING, bytes(12)), integrity_key=KEY))
    sealed += bytes.fromhex("80220004") + b"more"
    sealed[3] += 8
    assert len(decode(sealed).attributes) == 1
    decode(encode(indication(Method.SEND, bytes(12), (DATA, bytes(MAX_SIZE)))))
    assert fresh_layouts == {}


@settings(max_examples=300, deadline=None)
@given(
    flips=st.lists(st.tuples(st.integers(0, 200), st.integers(1, 255)), max_size=4),
    with_mark=st.booleans(),
)
def test_after_any_damage_both_ways_agree(flips: list[tuple[int, int]], with_mark: bool) -> None:
    pairs = ((USERNAME, "ab:c"), (PRIORITY, 5), (XOR_MAPPED_ADDRESS, Address("2001:db8::5", 5)))
    good = encode(request(Method.BINDING, bytes(12), *pairs), integrity_key=KEY, fingerprint=with_mark)
    decode(good)
    data = bytearray(good)
    for position, mask in flips:
        data[position % len(data)] ^= mask
    raw = bytes(data)
    try:
        expected = _decode(raw)
    except MalformedMessage:
        assert recall(raw) is None
        return
    assert recall(raw) in (None, expected)
    assert decode(raw) == expected
