"""Messages as values."""

from __future__ import annotations

import dataclasses

import pytest

from natwalk.core import LocalProtocolError
from natwalk.stun import (
    ERROR_CODE,
    PRIORITY,
    SOFTWARE,
    USERNAME,
    XOR_PEER_ADDRESS,
    Message,
    MessageClass,
    Method,
    decode,
    encode,
    error,
    indication,
    request,
    success,
)
from natwalk.stun.attributes import unknown
from natwalk.stun.message import message_type, split_type

TID = bytes(range(12))


def test_builders_answer_the_request_they_are_given() -> None:
    asked = request(Method.ALLOCATE, TID, (USERNAME, "u"))
    assert (asked.method, asked.message_class) == (Method.ALLOCATE, MessageClass.REQUEST)
    yes, no = success(asked, (PRIORITY, 1)), error(asked, 437, "Mismatch", (SOFTWARE, "x"))
    assert (yes.method, yes.message_class, yes.transaction_id) == (Method.ALLOCATE, MessageClass.SUCCESS, TID)
    assert [spec for spec, _ in no.attributes] == [ERROR_CODE, SOFTWARE]
    assert no.get(ERROR_CODE) is not None
    assert yes.is_response
    assert no.is_response
    assert not asked.is_response
    assert not indication(Method.SEND, TID).is_response


def test_the_first_of_equal_attributes_counts() -> None:
    message = request(Method.BINDING, TID, (USERNAME, "first"), (USERNAME, "second"))
    assert message.get(USERNAME) == "first"
    assert message.all(USERNAME) == ["first", "second"]
    assert USERNAME in message
    assert PRIORITY not in message
    assert message.get(PRIORITY) is None
    assert message.all(XOR_PEER_ADDRESS) == []


def test_unknown_required_lists_each_type_once_in_order() -> None:
    seen = [0x7001, 0x9000, 0x7000, 0x7001]
    message = request(Method.BINDING, TID, (USERNAME, "u"), *((unknown(t), b"") for t in seen))
    assert message.unknown_required == (0x7001, 0x7000)


@pytest.mark.parametrize("length", [0, 11, 13, 16])
def test_a_transaction_id_has_twelve_bytes(length: int) -> None:
    with pytest.raises(LocalProtocolError):
        request(Method.BINDING, bytes(length))


@pytest.mark.parametrize("method", [-1, 0x1000])
def test_a_method_has_twelve_bits(method: int) -> None:
    with pytest.raises(LocalProtocolError):
        request(method, TID)


def test_messages_are_frozen_also_when_decoded() -> None:
    built = request(Method.BINDING, TID)
    for message in (built, decode(encode(built)), decode(encode(built))):
        assert type(message) is Message
        assert hash(message) == hash(built)
        with pytest.raises(dataclasses.FrozenInstanceError):
            message.method = Method.SEND  # type: ignore[misc]


def test_what_was_decoded_does_not_count_in_comparisons() -> None:
    built = request(Method.BINDING, TID)
    assert decode(encode(built)) == built
    assert decode(encode(built)).raw != built.raw


def test_the_type_field_is_a_bijection_of_fourteen_bits() -> None:
    """RFC 8489 §5: the class bits are bits 4 and 8 of the type."""
    assert message_type(Method.BINDING, MessageClass.SUCCESS) == 0x0101
    assert message_type(Method.BINDING, MessageClass.ERROR) == 0x0111
    assert message_type(Method.SEND, MessageClass.INDICATION) == 0x0016
    assert message_type(0xFFF, MessageClass.ERROR) == 0x3FFF
    assert [message_type(*split_type(bits)) for bits in range(0x4000)] == list(range(0x4000))
