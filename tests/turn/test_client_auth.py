"""The client's credentials: second generation, bid-down, tokens. FAULTS 32, 36, 48."""

from __future__ import annotations

from typing import Any

import pytest

from client_script import ALICE, KEY, KEY256, RELAYED, Script
from natwalk.stun import (
    ACCESS_TOKEN,
    LIFETIME,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    NONCE,
    PASSWORD_ALGORITHM,
    PASSWORD_ALGORITHMS,
    REALM,
    REQUESTED_TRANSPORT,
    USERHASH,
    USERNAME,
    XOR_RELAYED_ADDRESS,
    Algorithm,
    Message,
    Method,
    PasswordAlgorithm,
    SecurityFeature,
    check_integrity,
    encode,
    error,
    nonce_prefix,
    success,
    userhash,
)
from natwalk.turn import Allocated, AllocationFailed, OAuthCredentials, PasswordCredentials
from turn_world import World, make_config

SHA256, MD5 = PasswordAlgorithm(Algorithm.SHA256), PasswordAlgorithm(Algorithm.MD5)
BOTH = SecurityFeature.PASSWORD_ALGORITHMS | SecurityFeature.USERNAME_ANONYMITY
NONCE_2 = nonce_prefix(SecurityFeature.PASSWORD_ALGORITHMS) + b"x"
NONCE_ANONYMOUS = nonce_prefix(BOTH) + b"x"
OFFER = (PASSWORD_ALGORITHMS, (SHA256, MD5))


def granted(script: Script, request: Any) -> bytes:
    return encode(
        success(request, (XOR_RELAYED_ADDRESS, RELAYED), (LIFETIME, 600)),
        integrity_key=script.key,
        sha256=script.sha256,
    )


def test_second_generation_servers_get_sha256_and_their_offer_back() -> None:
    script = Script(key=KEY256)
    signed = script.signed_allocate(NONCE_2, OFFER)
    assert signed.get(PASSWORD_ALGORITHMS) == (SHA256, MD5)
    assert signed.get(PASSWORD_ALGORITHM) == SHA256
    assert signed.get(USERNAME) == "alice"
    assert MESSAGE_INTEGRITY not in signed
    check_integrity(signed, KEY256, sha256=True)


def test_md5_from_an_offer_is_still_signed_with_the_better_attribute() -> None:
    script = Script()
    signed = script.signed_allocate(NONCE_2, (PASSWORD_ALGORITHMS, (PasswordAlgorithm(77), MD5)))
    assert signed.get(PASSWORD_ALGORITHM) == MD5
    check_integrity(signed, KEY, sha256=True)


def test_username_is_hidden_when_the_server_can_do_without() -> None:
    script = Script(key=KEY256)
    signed = script.signed_allocate(NONCE_ANONYMOUS, OFFER)
    assert USERNAME not in signed
    assert signed.get(USERHASH) == userhash("alice", "here")


@pytest.mark.parametrize("algorithms", [(Algorithm.SHA256,), (Algorithm.SHA256, Algorithm.MD5)])
def test_our_own_server_is_of_the_second_generation(algorithms: tuple[Algorithm, ...]) -> None:
    world = World(make_config(password_algorithms=algorithms))
    client = world.allocated()
    signature = client._requester.authenticator.signature()
    assert signature is not None
    assert signature.sha256
    world.run(4000.0)
    assert [type(event) for event in world.events[client.local]] == [Allocated]


@pytest.mark.parametrize(
    ("nonce", "attributes"),
    [
        (NONCE_2, ()),
        (b"plain", (OFFER,)),
        (nonce_prefix(SecurityFeature.USERNAME_ANONYMITY) + b"x", (OFFER,)),
        (NONCE_2, ((PASSWORD_ALGORITHMS, (PasswordAlgorithm(77),)),)),
        (b"obMatJos2***!rest", (OFFER,)),
    ],
    ids=["offer removed", "nonce replaced", "bit cleared", "nothing known offered", "unreadable bits"],
)
def test_challenge_with_features_taken_out_stops_it(nonce: bytes, attributes: tuple[Any, ...]) -> None:
    """FAULTS 32: what NONCE and PASSWORD-ALGORITHMS say must agree; nothing signed is sent if not."""
    script = Script()
    script.client.allocate(0.0)
    script.challenge(nonce, *attributes)
    assert script.sent() == []
    [failed] = script.said()
    assert isinstance(failed, AllocationFailed)
    assert failed.code == 401
    assert "server" in failed.reason or "NONCE" in failed.reason
    assert script.client.next_timeout() is None


@pytest.mark.parametrize("later", [b"plain", nonce_prefix(SecurityFeature.USERNAME_ANONYMITY) + b"y"])
def test_features_are_not_taken_back_later(later: bytes) -> None:
    """FAULTS 32: a 438 that makes a first-generation server of one of the second is not followed."""
    script = Script(key=KEY256)
    signed = script.signed_allocate(NONCE_ANONYMOUS, OFFER)
    script.tell(error(signed, 438, "", (REALM, "here"), (NONCE, later)), signed=False)
    assert script.sent() == []
    [failed] = script.said()
    assert (failed.code, "takes back" in failed.reason) == (438, True)


def test_server_notices_a_first_challenge_from_which_everything_was_removed() -> None:
    """FAULTS 32: answered with MD5, as it must be; the server takes no such nonce, so SHA-256 it is."""
    world = World()
    raw = world.raw_client(40000, host="198.51.100.7")
    challenge = raw.bare(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17), (LIFETIME, 600))
    assert challenge is not None
    del world.raw[raw.address]
    client = world.client()
    client.allocate(world.now)
    client.poll_transmit()
    nonce = challenge.get(NONCE)
    assert nonce is not None
    weakened = error(challenge, 401, "", (REALM, "natwalk"), (NONCE, b"obMatJos2AAAA" + nonce[13:]))
    [pending] = client._requester._transactions._pending.values()
    bare = Message(weakened.method, weakened.message_class, pending.transaction_id, weakened.attributes)
    client.receive(encode(bare), client.path, world.now)
    world.run(60.0)
    signature = client._requester.authenticator.signature()
    assert signature is not None
    assert signature.sha256
    assert [type(event) for event in world.events[client.local]] == [Allocated]


def test_weaker_integrity_in_the_response_is_not_believed() -> None:
    """FAULTS 36: MESSAGE-INTEGRITY where MESSAGE-INTEGRITY-SHA256 is due is none."""
    script = Script(key=KEY256)
    signed = script.signed_allocate(NONCE_2, OFFER)
    script.client.receive(granted(script, signed), script.path, 0.1)
    assert script.said() == []
    assert script.client.drops.last == "a response without valid integrity"
    script.sha256 = True
    script.client.receive(granted(script, signed), script.path, 0.2)
    script.client.receive(granted(script, signed), script.path, 0.3)
    assert [type(event) for event in script.said()] == [Allocated]
    assert script.client.drops.last == "a response to no request of ours"


def test_each_stale_nonce_is_answered_with_the_new_one_and_then_no_more() -> None:
    """FAULTS 48: five times, without a pause and without spinning; then the request fails."""
    script = Script(key=KEY256)
    script.signed_allocate(NONCE_2, OFFER)
    script.client.close(0.0)
    script.client.poll_event()
    script = Script(key=KEY256)
    signed = script.signed_allocate(NONCE_2, OFFER)
    for n in range(4):
        nonce = NONCE_2 + b"%d" % n
        script.tell(error(signed, 438, "", (REALM, "here"), (NONCE, nonce), OFFER), signed=False)
        [signed] = script.sent()
        assert signed.get(NONCE) == nonce
    script.tell(error(signed, 438, "Stale", (REALM, "here"), (NONCE, NONCE_2), OFFER), signed=False)
    assert [(e.code, e.reason) for e in script.said()] == [(438, "Stale")]
    assert script.client.next_timeout() is None


def test_token_goes_along_and_its_key_signs() -> None:
    """RFC 7635 §6.2: USERNAME names the key, ACCESS-TOKEN is opaque, the MAC key is no password's."""
    script = Script(credentials=OAuthCredentials("k1", b"token", b"m" * 32), key=b"m" * 32)
    signed = script.signed_allocate()
    assert (signed.get(USERNAME), signed.get(ACCESS_TOKEN)) == ("k1", b"token")
    check_integrity(signed, b"m" * 32)


def test_refused_token_is_tried_once_in_the_way_of_coturn() -> None:
    """RFC 7635 §6.2 signs with the whole MAC key, coturn with 16 bytes of it."""
    script = Script(credentials=OAuthCredentials("k1", b"token", b"m" * 20), key=b"m" * 20)
    signed = script.signed_allocate()
    refusal = ((REALM, "here"), (NONCE, b"n2"))
    script.tell(error(signed, 401, "", *refusal), signed=False)
    [again] = script.sent()
    check_integrity(again, b"m" * 16)
    assert again.get(NONCE) == b"n2"
    script.tell(error(again, 401, "Unauthorized", *refusal), signed=False)
    assert script.sent() == []
    assert [event.code for event in script.said()] == [401]


def test_token_at_a_server_of_the_second_generation() -> None:
    """No password, so no password algorithm; and the name of the key is not hidden."""
    script = Script(credentials=OAuthCredentials("k1", b"token", b"m" * 32), key=b"m" * 32)
    signed = script.signed_allocate(NONCE_ANONYMOUS, OFFER)
    assert PASSWORD_ALGORITHM not in signed
    assert MESSAGE_INTEGRITY_SHA256 not in signed
    assert signed.get(USERNAME) == "k1"


@pytest.mark.parametrize("parts", [("", b"t", b"k"), ("k", b"", b"k"), ("k", b"t", b"")])
def test_incomplete_tokens_are_refused(parts: tuple[str, bytes, bytes]) -> None:
    with pytest.raises(ValueError):
        OAuthCredentials(*parts)


def test_credentials_do_not_show() -> None:
    shown = repr(PasswordCredentials("alice", "hidden")) + repr(OAuthCredentials("k", b"hidden", b"hidden"))
    assert "hidden" not in shown
    assert ALICE.username == "alice"
    assert Method.ALLOCATE
