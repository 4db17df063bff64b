"""The Binding client: one question, one event."""

from __future__ import annotations

import random
from typing import Any

import pytest

from conformance import PATH, CoreConformance, drain
from natwalk.core import Address, Core, Path
from natwalk.stun import (
    MAPPED_ADDRESS,
    XOR_MAPPED_ADDRESS,
    Attribute,
    BindingClient,
    BindingFailed,
    BindingServer,
    MappedAddress,
    Message,
    MessageClass,
    Method,
    decode,
    encode,
    error,
    indication,
    request,
    success,
    timeout_offset,
)
from natwalk.stun.attributes import unknown

SEEN = Address("203.0.113.5", 61000)


def make_client(now: float = 100.0) -> BindingClient:
    return BindingClient(PATH.remote, PATH.local, random_bytes=random.Random(1).randbytes, now=now)


def asked(client: BindingClient) -> Message:
    transmits, _ = drain(client)
    (out,) = transmits
    assert out.path == PATH
    return decode(out.data)


class TestBindingClientConformance(CoreConformance):
    def make(self, now: float) -> Core[Any]:
        return make_client(now)


def test_the_question_is_twenty_bytes() -> None:
    message = asked(make_client())
    assert (message.method, message.message_class) == (Method.BINDING, MessageClass.REQUEST)
    assert len(message.raw) == 20


@pytest.mark.parametrize("attribute", [(XOR_MAPPED_ADDRESS, SEEN), (MAPPED_ADDRESS, SEEN)])
def test_an_answer_is_the_address_and_the_time_it_took(attribute: Attribute) -> None:
    client = make_client()
    answer = encode(success(asked(client), attribute))
    client.receive(answer, PATH, 100.25)
    assert drain(client)[1] == [MappedAddress(SEEN, PATH.remote, 0.25)]
    assert client.next_timeout() is None
    client.receive(answer, PATH, 100.3)
    assert drain(client) == ([], [])
    assert client.drops.last == "not the awaited response"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ((), "no address"),
        (((unknown(0x7777), b""), (XOR_MAPPED_ADDRESS, SEEN)), "extension"),
    ],
)
def test_an_answer_of_no_use_is_a_failure(attributes: tuple[Attribute, ...], reason: str) -> None:
    client = make_client()
    client.receive(encode(success(asked(client), *attributes)), PATH, 100.1)
    (event,) = drain(client)[1]
    assert isinstance(event, BindingFailed)
    assert reason in event.reason


def test_an_error_is_a_failure_that_names_the_code() -> None:
    client = make_client()
    client.receive(encode(error(asked(client), 420)), PATH, 100.1)
    assert drain(client)[1] == [BindingFailed("the server answered 420")]
    client = make_client()
    client.receive(encode(Message(Method.BINDING, MessageClass.ERROR, asked(client).transaction_id)), PATH, 1)
    assert drain(client)[1] == [BindingFailed("the server refused")]


def test_spoofed_and_stray_messages_are_ignored() -> None:
    """FAULTS 36: wrong source, wrong ID, wrong method, no response at all; the transaction goes on."""
    client = make_client()
    question = asked(client)
    good = encode(success(question, (XOR_MAPPED_ADDRESS, SEEN)))
    client.receive(good, Path(PATH.local, Address("198.51.100.66", 3478)), 100.1)
    client.receive(good, Path(PATH.local.with_port(1), PATH.remote), 100.1)
    client.receive(encode(success(request(Method.BINDING, bytes(12)))), PATH, 100.1)
    client.receive(encode(success(request(Method.REFRESH, question.transaction_id))), PATH, 100.1)
    client.receive(encode(indication(Method.BINDING, question.transaction_id)), PATH, 100.1)
    client.receive(good[:-1], PATH, 100.1)
    assert drain(client) == ([], [])
    assert client.drops.total == 6
    client.receive(good, PATH, 100.2)
    assert len(drain(client)[1]) == 1


def test_silence_is_a_failure_after_the_rfc_s_schedule() -> None:
    client = make_client()
    sent = len(drain(client)[0])
    for _ in range(20):
        due = client.next_timeout()
        if due is None:
            break
        now = due
        client.handle_timeout(now)
        transmits, events = drain(client)
        sent += len(transmits)
    assert sent == 7
    assert now == 100.0 + timeout_offset()
    assert events == [BindingFailed("the server did not answer")]


@pytest.mark.parametrize("local", ["192.0.2.10", "2001:db8::10"])
def test_client_and_server_understand_each_other(local: str) -> None:
    remote = Address("198.51.100.1" if "." in local else "2001:db8::1", 3478)
    mine = Address(local, 4000)
    client = BindingClient(remote, mine, random_bytes=random.Random(2).randbytes, now=0.0)
    server = BindingServer()
    for out in drain(client)[0]:
        server.receive(out.data, Path(out.path.remote, out.path.local), 0.0)
    for out in drain(server)[0]:
        client.receive(out.data, Path(out.path.remote, out.path.local), 0.1)
    assert drain(client)[1] == [MappedAddress(mine, remote, 0.1)]
