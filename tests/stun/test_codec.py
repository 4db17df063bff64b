"""Datagrams to messages and back: everything that is not a well-formed message is MalformedMessage."""

from __future__ import annotations

from zlib import crc32

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from natwalk.core import Address, IntegrityError, LocalProtocolError, MalformedMessage
from natwalk.stun import (
    DATA,
    FINGERPRINT,
    LIFETIME,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    PADDING,
    PRIORITY,
    SOFTWARE,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    Message,
    MessageClass,
    Method,
    check_integrity,
    decode,
    decode_readable,
    encode,
    indication,
    is_stun,
    request,
)
from natwalk.stun.attributes import unknown

TID = bytes(range(12))
KEY = b"swordfish"
PLAIN = encode(request(Method.BINDING, TID))


def header(bits: int = 1, length: int = 0, cookie: int = 0x2112A442) -> bytes:
    return bits.to_bytes(2, "big") + length.to_bytes(2, "big") + cookie.to_bytes(4, "big") + TID


def tlv(kind: int, value: bytes, pad: bytes = b"\0") -> bytes:
    return kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + pad * (-len(value) % 4)


def datagram(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return header(length=len(body)) + body


def with_fingerprint(data: bytes) -> bytes:
    body = data[20:]
    start = header(length=len(body) + 8) + body
    return start + tlv(0x8028, (crc32(start) ^ 0x5354554E).to_bytes(4, "big"))


HEADER_EDGES = {
    "empty": b"",
    "nineteen bytes": PLAIN[:19],
    "length 1": header(length=1) + b"\0",
    "length 2": header(length=2) + b"\0\0",
    "length 3": header(length=3) + b"\0\0\0",
    "length too small": header(length=0) + bytes(4),
    "length too large": header(length=8) + bytes(4),
    "65507 bytes of zeros": bytes(65507),
    "first bit": b"\x80" + PLAIN[1:],
    "second bit": b"\x40" + PLAIN[1:],
    "both bits": b"\xc0" + PLAIN[1:],
    "cookie": header(cookie=0x2112A443),
    "no cookie": header(cookie=0),
    "half an attribute": header(length=4) + tlv(0x8022, b"abcd")[:4],
    "attribute of the largest length": header(length=8) + b"\x80\x22\xff\xff" + bytes(4),
    "value runs into the end": header(length=8) + b"\x80\x22\x00\x05" + b"abcd",
    "padding missing": header(length=12) + b"\x80\x22\x00\x09" + b"abcdefgh",
}


@pytest.mark.parametrize("data", HEADER_EDGES.values(), ids=HEADER_EDGES)
def test_header_edges_are_malformed(data: bytes) -> None:
    """FAULTS 23: lengths, first bits, cookie and truncation."""
    with pytest.raises(MalformedMessage):
        decode(data)


def test_the_highest_class_and_method_are_read() -> None:
    """FAULTS 23: method 0xFFF is no method known here; that is for the user of the codec to refuse."""
    message = decode(header(bits=0x3FFF))
    assert (message.method, message.message_class) == (0xFFF, MessageClass.ERROR)
    assert not isinstance(message.method, Method)


def test_the_largest_message_is_read_and_a_larger_one_not_written() -> None:
    """FAULTS 24: a datagram of 65,507 bytes is the most UDP can carry."""
    data = bytes(65507 - 3 - 20 - 4)
    assert decode(encode(indication(Method.SEND, TID, (DATA, data)))).get(DATA) == data
    with pytest.raises(LocalProtocolError):
        encode(indication(Method.SEND, TID, (DATA, bytes(0xFFFF)), (DATA, b"")))


def test_data_that_claims_more_than_is_there_is_malformed() -> None:
    """FAULTS 26: DATA of length 35510 with four bytes present."""
    body = tlv(XOR_PEER_ADDRESS.type, bytes.fromhex("0001 0050 01020304")) + b"\x00\x13" + b"\x8a\xb6abcd"
    with pytest.raises(MalformedMessage, match="0x0013"):
        decode(header(bits=0x0016, length=len(body)) + body)


@pytest.mark.parametrize("length", range(9))
def test_padding_is_zero_on_send_and_any_on_receive(length: int) -> None:
    """FAULTS 27: no byte of anything else leaks into padding."""
    value = b"\xa5" * length
    sent = encode(indication(Method.SEND, TID, (DATA, value)))
    assert sent[24 + length :] == bytes(-length % 4)
    for pad in (b"\0", b"\xa5", b"\xff"):
        assert decode(datagram(tlv(DATA.type, value, pad))).get(DATA) == value


def test_the_first_of_duplicates_counts_and_all_are_kept() -> None:
    """FAULTS 28: two USERNAME, two LIFETIME, two XOR-PEER-ADDRESS."""
    first, second = Address("192.0.2.1", 1), Address("192.0.2.2", 2)
    pairs = ((USERNAME, "a"), (LIFETIME, 1), (XOR_PEER_ADDRESS, first))
    message = request(Method.BINDING, TID, *pairs, (USERNAME, "b"), (LIFETIME, 2), (XOR_PEER_ADDRESS, second))
    for _ in range(2):
        back = decode(encode(message))
        assert back.get(USERNAME) == "a"
        assert back.get(LIFETIME) == 1
        assert back.get(XOR_PEER_ADDRESS) == first
        assert back.all(XOR_PEER_ADDRESS) == [first, second]
        assert len(back.attributes) == 6


def test_the_first_of_two_message_integrities_counts() -> None:
    """FAULTS 28: a second MESSAGE-INTEGRITY, right or wrong, changes nothing."""
    good = encode(request(Method.BINDING, TID, (USERNAME, "a")), integrity_key=KEY)
    mac = good[-20:]
    doubled = decode(datagram(good[20:], tlv(0x0008, bytes(20))))
    assert doubled.all(MESSAGE_INTEGRITY) == [mac]
    check_integrity(doubled, KEY)


@pytest.mark.parametrize("fingerprint", [False, True])
def test_attributes_after_integrity_do_not_count(fingerprint: bool) -> None:
    """RFC 8489 §14.5: only MESSAGE-INTEGRITY-SHA256 and FINGERPRINT may follow MESSAGE-INTEGRITY."""
    good = encode(request(Method.BINDING, TID, (LIFETIME, 600)), integrity_key=KEY)
    extra = tlv(LIFETIME.type, bytes(4)) + tlv(0x7FFF, b"required?") + tlv(USERNAME.type, b"\xff")
    data = datagram(good[20:], extra)
    message = decode(with_fingerprint(data) if fingerprint else data)
    kept = [LIFETIME, MESSAGE_INTEGRITY] + [FINGERPRINT] * fingerprint
    assert [spec for spec, _ in message.attributes] == kept
    assert message.unknown_required == ()
    check_integrity(message, KEY)


def test_sha256_may_follow_sha1_and_not_the_other_way_round() -> None:
    sha1, sha256 = tlv(0x0008, bytes(20)), tlv(0x001C, bytes(32))
    both = decode(datagram(sha1, tlv(USERNAME.type, b"x"), sha256, tlv(USERNAME.type, b"y")))
    assert [spec for spec, _ in both.attributes] == [MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256]
    assert both.integrity_offsets == (20, 52)
    reverse = decode(datagram(sha256, sha1, sha256))
    assert [spec for spec, _ in reverse.attributes] == [MESSAGE_INTEGRITY_SHA256]
    assert reverse.integrity_offsets == (0, 20)


@pytest.mark.parametrize("key", [None, KEY])
def test_a_wrong_fingerprint_is_malformed(key: bytes | None) -> None:
    """Any bit, also of the FINGERPRINT's own type where integrity says that it must be one."""
    good = encode(request(Method.BINDING, TID, (SOFTWARE, "x")), integrity_key=key, fingerprint=True)
    assert FINGERPRINT in decode(good)
    own_type = range(8 * (len(good) - 8), 8 * (len(good) - 6))
    for _ in range(2):
        for bit in range(8 * len(good)):
            if key is None and bit in own_type:
                continue  # without integrity that is a message with another attribute, and legal
            broken = bytearray(good)
            broken[bit // 8] ^= 1 << bit % 8
            with pytest.raises(MalformedMessage):
                decode(broken)


@pytest.mark.parametrize("length", [0, 3, 5, 8])
def test_a_fingerprint_has_four_bytes(length: int) -> None:
    with pytest.raises(MalformedMessage, match="FINGERPRINT"):
        decode(datagram(tlv(0x8028, bytes(length))))


def test_nothing_may_follow_a_fingerprint() -> None:
    good = with_fingerprint(PLAIN)
    with pytest.raises(MalformedMessage, match="FINGERPRINT"):
        decode(datagram(good[20:], tlv(0x8022, b"more")))


@pytest.mark.parametrize("lengths", [(1, 3, 2), (5, 7), (9,)])
def test_any_buffer_at_any_offset_reads_the_same(lengths: tuple[int, ...]) -> None:
    """FAULTS 29: bytearrays and memoryview slices at odd offsets."""
    message = request(Method.BINDING, TID, *((SOFTWARE, "s" * n) for n in lengths), (PRIORITY, 7))
    data = encode(message, integrity_key=KEY, fingerprint=True)
    expected = decode(data)
    for offset in range(4):
        buffer = bytearray(b"\xee" * offset + data + b"\xee" * 3)
        view = memoryview(buffer)[offset : offset + len(data)]
        for piece in (bytes(view), bytearray(view), view):
            assert is_stun(piece)
            back = decode(piece)
            assert back == expected
            assert type(back.raw) is bytes
            check_integrity(back, KEY)
    buffer = bytearray(data)
    kept = decode(buffer)
    buffer[:] = bytes(len(buffer))
    assert kept == expected  # the message owns its bytes


@settings(max_examples=400, deadline=None)
@given(data=st.binary(max_size=120))
@example(data=PLAIN)
def test_any_bytes_are_a_message_or_malformed(data: bytes) -> None:
    try:
        message = decode(data)
    except MalformedMessage:
        return
    assert is_stun(data)
    assert message.raw == data


@settings(max_examples=400, deadline=None)
@given(
    bits=st.integers(0, 0x3FFF),
    parts=st.lists(
        st.tuples(
            st.integers(0, 0x30) | st.integers(0x8000, 0x8030) | st.integers(0, 0xFFFF),
            st.binary(max_size=24),
        ),
        max_size=6,
    ),
)
def test_any_well_framed_body_is_a_message_or_malformed(bits: int, parts: list[tuple[int, bytes]]) -> None:
    body = b"".join(tlv(kind, value, b"\x5a") for kind, value in parts)
    data = header(bits, len(body)) + body
    outcomes = []
    for _ in range(2):  # a layout learned the first time must not change the second
        try:
            outcomes.append(decode(data))
        except MalformedMessage as problem:
            outcomes.append(str(problem))
    assert outcomes[0] == outcomes[1]


def test_every_prefix_and_every_extension_is_malformed() -> None:
    pairs = ((USERNAME, "a:bc"), (PRIORITY, 1), (XOR_MAPPED_ADDRESS, Address("2001:db8::1", 9)))
    for message in (request(Method.BINDING, TID, *pairs), request(Method.BINDING, TID)):
        data = encode(message, integrity_key=KEY, fingerprint=True)
        decode(data)
        for length in range(len(data)):
            with pytest.raises(MalformedMessage):
                decode(data[:length])
            assert not is_stun(data[:length])
        for more in (b"\0", bytes(4), data):
            with pytest.raises(MalformedMessage):
                decode(data + more)


def test_unknown_attributes_are_kept_with_their_bytes() -> None:
    """FAULTS 30: optional ones do no harm; 200 required ones are all listed."""
    types = range(0x4000, 0x4000 + 200)
    message = decode(datagram(tlv(0x9999, b"abc"), *(tlv(t, b"\1\2") for t in types)))
    assert message.unknown_required == tuple(types)
    assert message.get(unknown(0x9999)) == b"abc"
    assert message.get(unknown(0x4001)) == b"\1\2"
    assert decode(encode(message)) == message


def test_is_stun_tells_stun_from_what_shares_its_port() -> None:
    others = [
        b"",
        b"\x16\xfe\xfd" + bytes(20),  # DTLS
        b"\x80\x60" + bytes(30),  # RTP
        b"\x40\x00\x00\x10" + bytes(16),  # ChannelData
        b"\xc3\x00\x00\x00\x01" + bytes(30),  # QUIC long header
        b"\x40" + bytes(40),  # QUIC short header
    ]
    assert is_stun(PLAIN)
    assert not any(is_stun(data) for data in others)
    assert not any(is_stun(data) for data in HEADER_EDGES.values() if len(data) < 20)


def test_integrity_and_fingerprint_are_added_once() -> None:
    data = encode(request(Method.BINDING, TID, (PADDING, b"xyz")), integrity_key=KEY, fingerprint=True)
    received = decode(data)
    with pytest.raises(LocalProtocolError):
        encode(received, integrity_key=KEY)
    with pytest.raises(LocalProtocolError):
        encode(received, fingerprint=True)
    assert encode(received) == data


def test_errors_of_encode_name_the_attribute() -> None:
    with pytest.raises(LocalProtocolError, match="LIFETIME"):
        encode(Message(Method.BINDING, MessageClass.REQUEST, TID, ((LIFETIME, -1),)))


def test_a_message_can_be_read_without_what_is_malformed_in_it() -> None:
    """Names what was left out; a message that is damaged, or none, stays malformed."""
    good, bad = (SOFTWARE, "x"), (unknown(USERNAME.type), b"a\0b")
    data = encode(request(Method.ALLOCATE, bytes(12), bad, good, (unknown(LIFETIME.type), b"")))
    with pytest.raises(MalformedMessage):
        decode(data)
    message, malformed = decode_readable(data)
    assert malformed == ("USERNAME", "LIFETIME")
    assert message.attributes == (good,)
    assert message.raw == data
    whole = encode(request(Method.ALLOCATE, bytes(12), good))
    assert decode_readable(whole) == (decode(whole), ())
    for broken in (data[:-4], data[:16], data + bytes(4)):
        with pytest.raises(MalformedMessage):
            decode_readable(broken)
    with_fingerprint = encode(request(Method.ALLOCATE, bytes(12), bad), fingerprint=True)
    assert decode_readable(with_fingerprint)[1] == ("USERNAME",)
    with pytest.raises(MalformedMessage):
        decode_readable(with_fingerprint[:-1] + bytes([with_fingerprint[-1] ^ 1]))


def test_integrity_covers_what_is_malformed() -> None:
    data = encode(request(Method.REFRESH, bytes(12), (unknown(LIFETIME.type), b"x")), integrity_key=b"key")
    message, malformed = decode_readable(data)
    assert malformed == ("LIFETIME",)
    check_integrity(message, b"key")
    with pytest.raises(IntegrityError):
        check_integrity(message, b"other")
