"""Clients of RFC 3489: a right answer in their own format, as small as the others'."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance import PATH, drain
from natwalk.core import Address, MalformedMessage, Path
from natwalk.stun import Behaviour, BindingServer
from natwalk.stun.classic import ID_LENGTH, decode_classic

TID = bytes(range(100, 116))


def classic(*attributes: tuple[int, bytes], tid: bytes = TID) -> bytes:
    body = b"".join(kind.to_bytes(2) + len(v).to_bytes(2) + v for kind, v in attributes)
    return b"\x00\x01" + len(body).to_bytes(2) + tid + body


def answers(asked: bytes, server: BindingServer | None = None, path: Path = PATH) -> list[tuple[bytes, Path]]:
    server = server or BindingServer()
    server.receive(asked, path, 0.0)
    return [(out.data, out.path) for out in drain(server)[0]]


def test_the_answer_is_mapped_address_and_nothing_else() -> None:
    """FAULTS 39: 32 bytes, like the answer to anybody else; the whole 128 bits of the ID come back."""
    ((data, path),) = answers(classic())
    assert path == PATH
    port, ip = PATH.remote.port.to_bytes(2), PATH.remote.ip.packed
    assert data == b"\x01\x01\x00\x0c" + TID + b"\x00\x01\x00\x08\x00\x01" + port + ip


def test_credentials_and_optional_attributes_do_no_harm() -> None:
    ((data, _),) = answers(classic((0x0006, b"user"), (0x9999, b"four"), (0x0008, bytes(20))))
    assert len(data) == 32


@pytest.mark.parametrize(
    ("kind", "value"), [(0x0002, b"\x00\x01\x00\x35\xc0\x00\x02\x01"), (0x7FFF, b""), (0x0003, bytes(4))]
)
def test_an_answer_sent_elsewhere_and_what_is_unknown_are_refused(kind: int, value: bytes) -> None:
    """RESPONSE-ADDRESS would make the server shoot at others; an odd list repeats one type."""
    ((data, path),) = answers(classic((kind, value)))
    assert path == PATH
    assert data[:2] == b"\x01\x11"
    assert data[20:28] == b"\x00\x09\x00\x04\x00\x00\x04\x14"
    assert data[28:] == b"\x00\x0a\x00\x04" + kind.to_bytes(2) * 2


def test_a_flood_of_unknown_attributes_is_refused_with_at_most_128() -> None:
    asked = classic(*((n, b"") for n in range(0x100, 0x300)))
    ((data, _),) = answers(asked)
    assert len(data) == 20 + 8 + 4 + 2 * 128 < len(asked)


@pytest.mark.parametrize(
    ("flags", "origin"),
    [(0, "192.0.2.1:3478"), (2, "192.0.2.1:3479"), (4, "192.0.2.2:3478"), (6, "192.0.2.2:3479")],
)
def test_with_behaviour_discovery_it_is_answered_from_where_it_asks(flags: int, origin: str) -> None:
    """RFC 3489 §8.1: SOURCE-ADDRESS is where it comes from, CHANGED-ADDRESS is the opposite corner."""
    server = BindingServer(behaviour=Behaviour(Address("192.0.2.1", 3478), Address("192.0.2.2", 3479)))
    path = Path(Address("192.0.2.1", 3478), PATH.remote)
    ((data, sent),) = answers(classic((0x0003, bytes((0, 0, 0, flags)))), server, path)
    assert sent == Path(Address.parse(origin), PATH.remote)
    source, changed = Address.parse(origin), Address("192.0.2.2", 3479)
    assert data[32:] == b"".join(
        kind + b"\x00\x08\x00\x01" + a.port.to_bytes(2) + a.ip.packed
        for kind, a in ((b"\x00\x04", source), (b"\x00\x05", changed))
    )


@pytest.mark.parametrize(
    "data",
    [
        classic()[:-1],
        classic() + bytes(4),
        classic((6, b"abcd"))[:-4],
        classic((3, b"")),
        classic((6, b"abcd"))[:2] + b"\x00\x08" + TID + b"\x00\x06\x00\xff" + b"abcd",
    ],
)
def test_garbage_is_dropped(data: bytes) -> None:
    """FAULTS 23: a length that is not the datagram's, an attribute that runs past the end."""
    assert answers(data) == []


def test_it_can_be_turned_off() -> None:
    assert answers(classic(), BindingServer(classic=False)) == []


def test_what_has_the_magic_cookie_is_not_classic() -> None:
    assert decode_classic(classic(tid=b"\x21\x12\xa4\x42" + bytes(12))) is None
    assert decode_classic(b"\x01\x01" + classic()[2:]) is None
    assert decode_classic(b"") is None


@given(st.binary(max_size=120).map(lambda tail: b"\x00\x01" + tail))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    """FAULTS 23: nothing but MalformedMessage is raised."""
    try:
        asked = decode_classic(data)
    except MalformedMessage:
        return
    assert asked is None or len(asked.transaction_id) == ID_LENGTH
