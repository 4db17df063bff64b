from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import Address
from natwalk.nat import Packet
from natwalk.sim.dissect import of_packet, summary
from natwalk.stun import ERROR_CODE, USE_CANDIDATE, ErrorCode, Message, MessageClass, Method, encode

TID = bytes(range(12))


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("message_class", list(MessageClass))
def test_stun_says_method_class_and_transaction(method: Method, message_class: MessageClass) -> None:
    words = summary(encode(Message(method, message_class, TID, ()))).split()
    assert words[0] == "STUN"
    assert words[1].upper() == method.name.replace("_", "")
    assert words[2].upper() == message_class.name
    assert words[3] == "00010203"


def test_what_matters_in_a_trace_is_named() -> None:
    error = Message(Method.ALLOCATE, MessageClass.ERROR, TID, ((ERROR_CODE, ErrorCode(437, "")),))
    check = Message(Method.BINDING, MessageClass.REQUEST, TID, ((USE_CANDIDATE, True),))
    assert summary(encode(error)) == "STUN Allocate error 437 00010203"
    assert summary(encode(check)) == "STUN Binding request USE-CANDIDATE 00010203"


def test_channel_data_shows_what_is_inside() -> None:
    inner = encode(Message(Method.BINDING, MessageClass.SUCCESS, TID, ()))
    framed = b"\x40\x01" + len(inner).to_bytes(2, "big") + inner
    assert summary(framed) == "ChannelData 4001 (STUN Binding success 00010203)"


def test_other_payloads() -> None:
    assert summary(b"") == "empty"
    assert summary(b"hello") == "data"
    assert summary(b"\xc3\0\0\0\1" + bytes(40)) == "QUIC long header"


@given(st.binary(max_size=80))
def test_any_bytes_get_some_words(payload: bytes) -> None:
    assert summary(payload)
    assert summary(b"\x00\x01\x00\x08\x21\x12\xa4\x42" + payload)


def test_encrypted_bytes_between_peers_are_never_taken_for_channel_data() -> None:
    """A trace reads the same whatever the keys were."""
    looks_like_it = b"\x40\x01\x00\x02xx"
    peer, relay = Address("192.0.2.1", 5000), Address("203.0.113.10", 3478)
    assert of_packet(Packet(peer, peer, looks_like_it)) == "data"
    assert of_packet(Packet(peer, relay, looks_like_it)) == "ChannelData 4001 (data)"
    assert of_packet(Packet(relay, peer, b"\x40\x01\x00\x06" + looks_like_it)) == "ChannelData 4001 (data)"
