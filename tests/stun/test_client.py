"""The Binding client: one question, one event."""

from __future__ import annotations

import random
from typing import Any

import pytest

from conformance import PATH, CoreConformance, drain
from natwalk.core import Address, Core, Path, Transport
from natwalk.stun import (
    ALTERNATE_SERVER,
    MAPPED_ADDRESS,
    NONCE,
    REALM,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    Attribute,
    BindingClient,
    BindingFailed,
    BindingServer,
    MappedAddress,
    Message,
    MessageClass,
    Method,
    ShortTerm,
    check_integrity,
    decode,
    encode,
    error,
    indication,
    long_term_key,
    request,
    short_term_key,
    success,
    timeout_offset,
)
from natwalk.stun.attributes import unknown
from natwalk.stun.redirects import MAX_REDIRECTS
from natwalk.turn.client_auth import Authenticator, PasswordCredentials

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


class Signing:
    """A client with credentials, and the server's side of the talk; one question at a time."""

    def __init__(self, *, long_term: bool = False, transport: Transport = Transport.UDP) -> None:
        credentials = PasswordCredentials("user", "pass")
        self.core = BindingClient(
            PATH.remote,
            PATH.local,
            random_bytes=random.Random(1).randbytes,
            now=100.0,
            transport=transport,
            credentials=(lambda: Authenticator(credentials))
            if long_term
            else lambda: ShortTerm("user", "pass"),
        )
        self.key = long_term_key("user", "realm", "pass") if long_term else short_term_key("pass")

    def asked(self) -> tuple[Message, Path]:
        (out,) = drain(self.core)[0]
        return decode(out.data), out.path

    def answer(self, message: Message, path: Path, *, key: bytes | None = None) -> list[Any]:
        self.core.receive(encode(message, integrity_key=key), path, 100.1)
        event = self.core.poll_event()
        return [] if event is None else [event]


def test_short_term_credentials_sign_the_question_and_check_the_answer() -> None:
    """FAULTS 36: answers and errors without integrity where it is due are ignored; the client waits on."""
    talk = Signing()
    question, path = talk.asked()
    assert question.get(USERNAME) == "user"
    check_integrity(question, talk.key)
    good = success(question, (XOR_MAPPED_ADDRESS, SEEN))
    assert talk.answer(good, path) == []
    assert talk.answer(good, path, key=b"other") == []
    assert talk.answer(error(question, 401), path) == []
    assert talk.answer(error(question, 400), path, key=b"other") == []
    assert talk.core.drops.counts["a response without valid integrity"] == 4
    assert talk.answer(good, path, key=talk.key) == [MappedAddress(SEEN, PATH.remote, pytest.approx(0.1))]


def test_a_refusal_that_proves_nothing_is_told_in_the_end() -> None:
    talk = Signing()
    question, path = talk.asked()
    assert talk.answer(error(question, 401), path) == []
    for _ in range(20):
        if (due := talk.core.next_timeout()) is not None:
            talk.core.handle_timeout(due)
    assert drain(talk.core)[1] == [
        BindingFailed("the server answered 401, without proof that it is the server")
    ]


def test_long_term_credentials_answer_challenges_and_stop_at_three() -> None:
    talk = Signing(long_term=True)
    question, path = talk.asked()
    assert question.attributes == ()
    challenge = error(question, 401, "", (REALM, "realm"), (NONCE, b"nonce1"))
    assert talk.answer(challenge, path) == []
    question, path = talk.asked()
    check_integrity(question, talk.key)
    assert talk.answer(error(question, 438, "", (REALM, "realm"), (NONCE, b"nonce2")), path) == []
    question, path = talk.asked()
    assert question.get(NONCE) == b"nonce2"
    events = talk.answer(success(question, (XOR_MAPPED_ADDRESS, SEEN)), path, key=talk.key)
    assert events == [MappedAddress(SEEN, PATH.remote, 0.0)]

    talk = Signing(long_term=True)
    question, path = talk.asked()
    talk.answer(error(question, 401, "", (REALM, "realm"), (NONCE, b"n")), path)
    for count in range(10):
        transmits = drain(talk.core)[0]
        if not transmits:
            break
        talk.answer(error(decode(transmits[0].data), 438, "", (NONCE, b"n%d" % count)), path)
    assert count == 3


@pytest.mark.parametrize("attributes", [(), ((NONCE, b"n"),), ((REALM, "realm"),)])
def test_a_challenge_without_realm_or_nonce_fails(attributes: tuple[Attribute, ...]) -> None:
    talk = Signing(long_term=True)
    question, path = talk.asked()
    events = talk.answer(error(question, 401, "", *attributes), path)
    assert events == [BindingFailed("the server's challenge cannot be answered")]


def alternate(number: int) -> Address:
    return Address(f"198.51.100.{number}", 3478)


def test_a_redirect_is_followed_when_it_is_signed_and_not_for_ever() -> None:
    """FAULTS 35: unsigned ones are ignored, at most three are followed, nobody is asked twice."""
    plain = make_client()
    question = asked(plain)
    plain.receive(encode(error(question, 300, "", (ALTERNATE_SERVER, alternate(1)))), PATH, 100.1)
    assert drain(plain) == ([], [])
    assert plain.next_timeout() is not None

    talk = Signing()
    question, path = talk.asked()
    assert talk.answer(error(question, 300, "", (ALTERNATE_SERVER, alternate(1))), path) == []
    for hop in range(1, MAX_REDIRECTS + 2):
        redirect = error(question, 300, "", (ALTERNATE_SERVER, alternate(hop)))
        events = talk.answer(redirect, path, key=talk.key)
        if events:
            break
        question, path = talk.asked()
        assert path.remote == alternate(hop)
    assert hop == MAX_REDIRECTS + 1
    assert events == [BindingFailed(f"the server sends on to {alternate(hop)}, after too many others")]

    talk = Signing()
    question, path = talk.asked()
    talk.answer(error(question, 300, "", (ALTERNATE_SERVER, alternate(1))), path, key=talk.key)
    question, path = talk.asked()
    events = talk.answer(success(question, (XOR_MAPPED_ADDRESS, SEEN)), path, key=talk.key)
    assert events == [MappedAddress(SEEN, alternate(1), 0.0)]


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (Address("127.0.0.1", 3478), "does not reach as far"),
        (Address("169.254.169.254", 80), "does not reach as far"),
        (Address("10.0.0.1", 3478), "does not reach as far"),
        (Address("224.0.0.1", 3478), "does not reach as far"),
        (Address("2001:db8::1", 3478), "same socket"),
        (Address("::ffff:127.0.0.1", 3478), "same socket"),
        (Address("198.51.100.9", 0), "same socket"),
        (PATH.remote, "asked already"),
    ],
)
def test_a_redirect_to_where_a_server_has_no_say_is_refused(target: Address, why: str) -> None:
    """FAULTS 35: to 127.0.0.1, to the metadata service, in a circle."""
    talk = Signing()
    question, path = talk.asked()
    (event,) = talk.answer(error(question, 300, "", (ALTERNATE_SERVER, target)), path, key=talk.key)
    assert isinstance(event, BindingFailed)
    assert why in event.reason
    assert event.alternate is None
    talk = Signing()
    question, path = talk.asked()
    (event,) = talk.answer(error(question, 300), path, key=talk.key)
    assert event == BindingFailed("the server sends elsewhere and does not say where")


def test_over_a_stream_it_asks_once_and_leaves_redirects_to_whoever_connects() -> None:
    """RFC 8489 §6.2.2: no retransmissions, the same 39.5 seconds."""
    talk = Signing(transport=Transport.TCP)
    question, path = talk.asked()
    assert path == PATH._replace(transport=Transport.TCP)
    (event,) = talk.answer(error(question, 300, "", (ALTERNATE_SERVER, alternate(1))), path, key=talk.key)
    assert event == BindingFailed(f"the server sends on to {alternate(1)}", alternate(1))

    talk = Signing(transport=Transport.TLS)
    talk.asked()
    due = talk.core.next_timeout()
    assert due == 100.0 + timeout_offset()
    talk.core.handle_timeout(due)
    assert drain(talk.core) == ([], [BindingFailed("the server did not answer")])
