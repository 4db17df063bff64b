"""The Binding server: small true answers, and silence to everything that is not a question."""

from __future__ import annotations

from typing import Any

import pytest

from conformance import PATH, CoreConformance, drain
from natwalk.core import Address, Core, Path
from natwalk.stun import (
    CHANGE_REQUEST,
    ERROR_CODE,
    SOFTWARE,
    UNKNOWN_ATTRIBUTES,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    Attribute,
    BindingServer,
    ChangeRequest,
    ErrorCode,
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

TID = bytes(range(12))
ASKED = request(Method.BINDING, TID)
V6 = Path(Address("2001:db8::1", 3478), Address("2001:db8::2", 50000))


def answers(message: Message | bytes, path: Path = PATH, *, software: str | None = None) -> list[Message]:
    server = BindingServer(software=software)
    server.receive(message if isinstance(message, bytes) else encode(message), path, 0.0)
    transmits, events = drain(server)
    assert events == []
    assert all(out.path == path for out in transmits)
    assert len(transmits) + server.drops.total == 1
    return [decode(out.data) for out in transmits]


class TestBindingServerConformance(CoreConformance):
    def make(self, now: float) -> Core[Any]:
        server = BindingServer()
        server.receive(encode(ASKED), PATH, now)
        return server


@pytest.mark.parametrize(("path", "size"), [(PATH, 32), (V6, 44)])
def test_the_answer_is_the_address_and_nothing_else(path: Path, size: int) -> None:
    """FAULTS 39: at most 32 bytes for IPv4 and 44 for IPv6 to a request of 20."""
    (answer,) = answers(ASKED, path)
    assert len(answer.raw) == size
    assert answer.message_class is MessageClass.SUCCESS
    assert answer.transaction_id == TID
    assert answer.attributes == ((XOR_MAPPED_ADDRESS, path.remote),)


def test_software_is_told_only_when_asked_for() -> None:
    (answer,) = answers(ASKED, software="natwalk")
    assert answer.get(SOFTWARE) == "natwalk"


def test_unknown_required_attributes_are_refused_and_at_most_128_listed() -> None:
    """FAULTS 30: 200 of them, of which some twice."""
    types = [*range(0x4000, 0x4000 + 200), 0x4000, 0x4001]
    (answer,) = answers(request(Method.BINDING, TID, *((unknown(t), b"") for t in types)))
    assert answer.get(ERROR_CODE) == ErrorCode(420)
    assert answer.get(UNKNOWN_ATTRIBUTES) == tuple(types[:128])


@pytest.mark.parametrize("count", [1, 2, 10, 128, 300])
def test_a_refusal_is_hardly_longer_than_its_request(count: int) -> None:
    """FAULTS 39: 420 is no amplifier either."""
    asked = request(Method.BINDING, TID, *((unknown(0x4000 + n), b"") for n in range(count)))
    (answer,) = answers(asked)
    assert len(answer.raw) <= 1.5 * len(encode(asked))


def test_optional_and_credential_attributes_do_no_harm() -> None:
    extra: tuple[Attribute, ...] = ((USERNAME, "a:b"), (unknown(0x9999), b"?"), (SOFTWARE, "x"))
    asked = request(Method.BINDING, TID, *extra)
    (answer,) = answers(encode(asked, integrity_key=b"key", fingerprint=True))
    assert answer.attributes == ((XOR_MAPPED_ADDRESS, PATH.remote),)


def test_what_this_server_cannot_do_is_refused() -> None:
    """RFC 5780 §6.1: a server with one address answers CHANGE-REQUEST with 420."""
    (answer,) = answers(request(Method.BINDING, TID, (CHANGE_REQUEST, ChangeRequest(change_ip=True))))
    assert answer.get(UNKNOWN_ATTRIBUTES) == (CHANGE_REQUEST.type,)


@pytest.mark.parametrize(
    "message",
    [
        indication(Method.BINDING, TID),
        indication(Method.BINDING, TID, (unknown(0x4000), b"")),
        success(ASKED, (XOR_MAPPED_ADDRESS, PATH.remote)),
        error(ASKED, 420),
        request(Method.ALLOCATE, TID),
        request(0x0AB, TID),
        encode(ASKED)[:-1],
        encode(ASKED) + bytes(4),
        encode(request(Method.BINDING, TID, (unknown(USERNAME.type), b"\xff"))),
        bytes(65507),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_nothing_but_a_binding_request_is_answered(message: Message | bytes) -> None:
    """FAULTS 23, 24, 45: no answer to indications, responses and garbage, so two servers cannot loop."""
    assert answers(message) == []


def test_port_zero_is_not_answered() -> None:
    assert answers(ASKED, PATH._replace(remote=PATH.remote.with_port(0))) == []


def test_a_link_local_client_is_answered_without_its_zone() -> None:
    path = Path(Address("fe80::1%eth0", 3478), Address("fe80::2%eth0", 5000))
    (answer,) = answers(ASKED, path)
    assert answer.get(XOR_MAPPED_ADDRESS) == Address("fe80::2", 5000)


def test_answers_are_bounded_when_nobody_sends_them() -> None:
    server = BindingServer()
    for _ in range(5000):
        server.receive(encode(ASKED), PATH, 0.0)
    assert len(drain(server)[0]) == 4096
    assert server.drops.counts["too many answers queued"] == 5000 - 4096


def test_a_thousand_answers_carry_nothing_of_each_other() -> None:
    """FAULTS 27: the marker of one client's requests is in no other client's answer."""
    server = BindingServer(software="odd")
    marker = request(Method.BINDING, TID, (unknown(0x8999), b"\xa5" * 301))
    for _ in range(1000):
        server.receive(encode(marker), V6, 0.0)
        server.receive(encode(ASKED), PATH, 0.0)
        for out in drain(server)[0]:
            assert b"\xa5\xa5" not in out.data
            assert out.data[-1] == 0  # the padding of SOFTWARE
