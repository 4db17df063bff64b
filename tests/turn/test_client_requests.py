"""FAULTS B 36, C 48 for the client's side of credentials."""

from __future__ import annotations

from typing import Any

import pytest

from natwalk.core import Address, Drops, Path
from natwalk.stun import (
    LIFETIME,
    MESSAGE_INTEGRITY,
    NONCE,
    REALM,
    USERNAME,
    Message,
    Method,
    check_integrity,
    decode,
    encode,
    error,
    long_term_key,
    success,
)
from natwalk.turn import PasswordCredentials
from natwalk.turn.client_auth import Authenticator
from natwalk.turn.client_requests import MAX_AUTH_RETRIES, Answer, Request, Requester
from turn_world import LISTENER, seeded

PATH = Path(Address("198.51.100.7", 40000), LISTENER)
KEY = long_term_key("alice", "here", "pw")
REFRESH = Request(Method.REFRESH, ((LIFETIME, 600),))


class Script:
    """A Requester and a hand that answers what it sends."""

    def __init__(self) -> None:
        self.drops = Drops()
        self.requester = Requester(
            PATH,
            Authenticator(PasswordCredentials("alice", "pw")),
            random_bytes=seeded(),
            drops=self.drops,
        )
        self.requester.send(REFRESH, 0.0)

    def sent(self) -> list[Message]:
        found = []
        while (out := self.requester.poll_transmit()) is not None:
            assert out.path == PATH
            found.append(decode(out.data))
        return found

    def answer(self, message: Message, *, key: bytes | None = None, path: Path = PATH) -> Answer | None:
        return self.requester.receive(decode(encode(message, integrity_key=key)), path, 0.1)

    def challenged(self) -> Message:
        """The first signed request."""
        [bare] = self.sent()
        assert self.answer(error(bare, 401, "", (REALM, "here"), (NONCE, b"n0"))) is None
        [signed] = self.sent()
        return signed


def test_first_request_is_bare_and_the_challenge_is_answered_signed() -> None:
    script = Script()
    signed = script.challenged()
    check_integrity(signed, KEY)
    assert (signed.get(USERNAME), signed.get(REALM), signed.get(NONCE)) == ("alice", "here", b"n0")
    answer = script.answer(success(signed, (LIFETIME, 600)), key=KEY)
    assert answer is not None
    assert answer.message is not None


def test_later_requests_are_signed_from_the_start() -> None:
    script = Script()
    script.challenged()
    script.requester.send(REFRESH, 1.0)
    [signed] = script.sent()
    check_integrity(signed, KEY)


def test_stale_nonces_are_followed_a_bounded_number_of_times() -> None:
    """FAULTS 48: each 438 is answered with its nonce; then the request fails; nothing spins."""
    script = Script()
    signed = script.challenged()
    for n in range(1, MAX_AUTH_RETRIES):
        assert script.answer(error(signed, 438, "", (REALM, "here"), (NONCE, b"n%d" % n))) is None
        [signed] = script.sent()
        assert signed.get(NONCE) == b"n%d" % n
    answer = script.answer(error(signed, 438, "Stale", (REALM, "here"), (NONCE, b"last")))
    assert answer is not None
    assert (answer.code, answer.reason) == (438, "Stale")
    assert script.sent() == []
    assert script.requester.next_timeout() is None


def test_wrong_password_is_not_tried_twice() -> None:
    script = Script()
    signed = script.challenged()
    answer = script.answer(error(signed, 401, "", (REALM, "here"), (NONCE, b"n1")))
    assert answer is not None
    assert answer.code == 401
    assert script.sent() == []


@pytest.mark.parametrize(
    "attributes", [(), ((REALM, "here"),), ((NONCE, b"n"),), ((REALM, "he\u0640re"), (NONCE, b"n"))]
)
def test_challenge_that_cannot_be_answered_is_a_failure(attributes: tuple[Any, ...]) -> None:
    script = Script()
    [bare] = script.sent()
    answer = script.answer(error(bare, 401, "no", *attributes))
    assert answer is not None
    assert answer.code == 401


def test_stale_nonce_before_any_challenge_is_a_failure() -> None:
    script = Script()
    [bare] = script.sent()
    answer = script.answer(error(bare, 438, "", (REALM, "here"), (NONCE, b"n")))
    assert answer is not None
    assert answer.code == 438


def test_realm_is_pinned_by_the_first_challenge() -> None:
    """FAULTS 51 seen from the client: a later realm does not change what is signed."""
    script = Script()
    signed = script.challenged()
    script.answer(error(signed, 438, "", (REALM, "elsewhere"), (NONCE, b"n1")))
    [signed] = script.sent()
    assert signed.get(REALM) == "here"
    check_integrity(signed, KEY)


def test_two_challenges_to_two_bare_requests_make_one_key() -> None:
    script = Script()
    script.requester.send(REFRESH, 0.0)
    first, second = script.sent()
    script.answer(error(first, 401, "", (REALM, "here"), (NONCE, b"a")))
    script.answer(error(second, 401, "", (REALM, "elsewhere"), (NONCE, b"b")))
    for signed in script.sent():
        check_integrity(signed, KEY)


def test_responses_that_prove_nothing_are_ignored() -> None:
    """FAULTS 36: wrong source, no integrity, wrong key, another method; then the true one still counts."""
    script = Script()
    signed = script.challenged()
    good = success(signed, (LIFETIME, 600))
    elsewhere = Path(PATH.local, LISTENER.with_port(9))
    assert script.answer(good, key=KEY, path=elsewhere) is None
    assert script.answer(good) is None
    assert script.answer(good, key=b"wrong") is None
    assert script.answer(error(signed, 437)) is None
    assert script.answer(error(signed, 437), key=b"wrong") is None
    assert script.answer(error(signed, 438, "", (NONCE, b"x")), key=b"wrong") is None
    other = Message(Method.ALLOCATE, good.message_class, good.transaction_id, good.attributes)
    assert script.answer(other, key=KEY) is None
    assert script.drops.total == 7
    assert script.answer(good, key=KEY) is not None
    assert script.answer(good, key=KEY) is None


def test_unsigned_success_to_a_bare_request_is_ignored() -> None:
    """A server that never asks for the password is not the one we were given a password for."""
    script = Script()
    [bare] = script.sent()
    assert script.answer(success(bare, (LIFETIME, 600))) is None
    assert script.drops.last == "a response without valid integrity"


def test_error_without_a_code_is_ignored() -> None:
    script = Script()
    signed = script.challenged()
    message = Message(signed.method, error(signed, 400).message_class, signed.transaction_id)
    assert script.answer(message, key=KEY) is None


def test_unsigned_400_is_believed_because_servers_cannot_sign_it() -> None:
    """RFC 8489 §9.2.4: 400, 401 and 438 come without integrity."""
    script = Script()
    answer = script.answer(error(script.challenged(), 400, "Bad"))
    assert answer is not None
    assert answer.code == 400


def test_reason_phrases_are_made_printable_and_short() -> None:
    """What a server writes may reach a terminal."""
    script = Script()
    hostile = error(script.challenged(), 400, "a\x1b[31m\u202eb" + "x" * 400)
    answer = script.requester.receive(hostile, PATH, 0.1)
    assert answer is not None
    assert answer.reason.isprintable()
    assert answer.reason.startswith("a?[31m?b")
    assert len(answer.reason) == 128


def test_silence_is_reported_as_such() -> None:
    script = Script()
    answers: list[Answer] = []
    for _ in range(20):
        if (due := script.requester.next_timeout()) is None:
            break
        answers += script.requester.handle_timeout(due)
    assert [(a.request, a.code, a.timed_out) for a in answers] == [(answers[0].request, None, True)]
    assert due is None
    assert script.sent() == []


def test_forget_drops_what_is_in_flight() -> None:
    script = Script()
    script.requester.forget()
    assert script.sent() == []
    assert script.requester.next_timeout() is None


@pytest.mark.parametrize(
    ("username", "password"), [("", "pw"), ("alice", ""), ("al\x00ice", "pw"), ("alice", "\u0640")]
)
def test_unusable_credentials_are_refused_at_once(username: str, password: str) -> None:
    """FAULTS 34: not later, in the middle of an exchange."""
    with pytest.raises(ValueError):
        PasswordCredentials(username, password)


def test_signed_requests_carry_integrity() -> None:
    assert MESSAGE_INTEGRITY in Script().challenged()
