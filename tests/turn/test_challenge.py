"""The second generation of long-term credentials, and what a challenge costs: FAULTS 32, 33, 34, 40."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk.core import Address, IntegrityError, Path, Transport
from natwalk.stun import (
    ERROR_CODE,
    LIFETIME,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    NONCE,
    PASSWORD_ALGORITHMS,
    REALM,
    REQUESTED_TRANSPORT,
    SOFTWARE,
    USERNAME,
    XOR_PEER_ADDRESS,
    Algorithm,
    Message,
    Method,
    PasswordAlgorithm,
    SecurityFeature,
    check_integrity,
    choose_algorithm,
    decode,
    encode,
    indication,
    long_term_key,
    nonce_features,
    request,
    success,
)
from natwalk.stun.attributes import unknown
from natwalk.stun.mac import mac
from natwalk.turn import OAuthKey, TurnConfig, rest_credentials
from natwalk.turn.admission import Admission, Refused
from second_generation import OFFER, challenged, second
from turn_world import LISTENER, REALM_NAME, USERS, World, code_of, make_config, seeded

UDP = (REQUESTED_TRANSPORT, 17)
BOTH = SecurityFeature.PASSWORD_ALGORITHMS | SecurityFeature.USERNAME_ANONYMITY


def test_challenge_offers_algorithms_and_says_so_in_the_nonce() -> None:
    """RFC 8489 §9.2: both of PASSWORD-ALGORITHMS and its bit, and the bit of anonymous usernames."""
    refused = challenged(World().raw_client())
    assert refused.get(PASSWORD_ALGORITHMS) == OFFER
    assert nonce_features(refused.get(NONCE) or b"") == BOTH
    assert choose_algorithm(refused) == PasswordAlgorithm(Algorithm.SHA256)


def test_names_that_no_hash_leads_to_are_not_hidden() -> None:
    """With TURN REST secrets the bit of anonymous usernames is off: their names are not known beforehand."""
    refused = challenged(World(make_config(auth_secrets=("north",))).raw_client())
    assert nonce_features(refused.get(NONCE) or b"") == SecurityFeature.PASSWORD_ALGORITHMS


def test_one_algorithm_is_no_offer() -> None:
    refused = challenged(World(make_config(password_algorithms=(Algorithm.MD5,))).raw_client())
    assert PASSWORD_ALGORITHMS not in refused
    assert nonce_features(refused.get(NONCE) or b"") == SecurityFeature.USERNAME_ANONYMITY
    assert choose_algorithm(refused) is None


@pytest.mark.parametrize("hashed", [False, True])
@pytest.mark.parametrize("sha256", [False, True])
@pytest.mark.parametrize("algorithm", [*Algorithm, None])
def test_every_generation_of_client_is_let_in_and_answered_in_kind(
    algorithm: Algorithm | None, sha256: bool, hashed: bool
) -> None:
    """Old clients ignore the offer, new ones choose from it; USERHASH hides the name from eavesdroppers."""
    offer = None if algorithm is None else OFFER
    answer, key = second(World().raw_client(), algorithm=algorithm, offer=offer, sha256=sha256, hashed=hashed)
    assert answer is not None
    assert code_of(answer) == 0
    check_integrity(answer, key, sha256=sha256)
    assert (MESSAGE_INTEGRITY in answer) is not sha256
    assert (MESSAGE_INTEGRITY_SHA256 in answer) is sha256


@pytest.mark.parametrize("length", [16, 20, 24, 28, 32])
def test_truncated_integrity_is_taken_from_16_bytes_on(length: int) -> None:
    """RFC 8489 §14.6."""
    raw = World().raw_client()
    challenged(raw)
    attributes = (UDP, (USERNAME, "alice"), (REALM, REALM_NAME), (NONCE, raw.nonce))
    whole = encode(request(Method.ALLOCATE, bytes(12), *attributes), integrity_key=raw.key(), sha256=True)
    # the length of the header, which is covered, is that of the truncated message
    body = bytearray(whole[:-36])
    body[2:4] = (len(body) - 20 + 4 + length).to_bytes(2, "big")
    code = mac(raw.key(), bytes(body), "sha256")[:length]
    signed = bytes(body) + b"\x00\x1c" + length.to_bytes(2, "big") + code
    [answer] = raw.say(signed)
    assert code_of(decode(answer)) == 0


@pytest.mark.parametrize(
    ("algorithm", "offer"),
    [
        (Algorithm.SHA256, None),
        (None, OFFER),
        (Algorithm.MD5, OFFER[1:]),
        (Algorithm.SHA256, OFFER[::-1]),
        (Algorithm.MD5, (OFFER[1], PasswordAlgorithm(77))),
        (Algorithm.MD5, ()),
    ],
)
def test_offer_that_was_changed_on_the_way_is_noticed(
    algorithm: Algorithm | None, offer: tuple[PasswordAlgorithm, ...] | None
) -> None:
    """FAULTS 32: the client repeats what it was offered; anything else is a 400 (RFC 8489 §9.2.4)."""
    answer, _ = second(World().raw_client(), algorithm=algorithm, offer=offer)
    assert code_of(answer) == 400


def test_client_notices_a_stripped_offer_and_the_server_a_changed_nonce() -> None:
    """FAULTS 32: whatever an attacker on the path takes away, one of the two sees it."""
    world = World()
    raw = world.raw_client()
    refused = challenged(raw)
    stripped = Message(
        refused.method,
        refused.message_class,
        refused.transaction_id,
        tuple(a for a in refused.attributes if a[0] is not PASSWORD_ALGORITHMS),
    )
    with pytest.raises(IntegrityError):
        choose_algorithm(stripped)
    cleared = raw.nonce[:9] + b"QAAA" + raw.nonce[13:]
    assert nonce_features(cleared) == SecurityFeature.USERNAME_ANONYMITY
    for nonce in (cleared, raw.nonce[13:], b"obMatJos2AAAA" + raw.nonce[13:]):
        answer, _ = second(raw, algorithm=None, offer=None, nonce=nonce, sha256=False)
        assert code_of(answer) == 438
    assert world.server.stats.allocations == 0


def test_nonce_without_features_that_a_bare_request_gets_lets_nobody_in() -> None:
    """FAULTS 32: an attacker who fetches one in the client's name and slips it in gets a 438 for it."""
    raw = World().raw_client()
    bare = raw.bare(Method.ALLOCATE)
    assert bare is not None
    raw.nonce = bare.get(NONCE) or b""
    assert nonce_features(raw.nonce) is None
    answer, _ = second(raw, algorithm=None, offer=None, sha256=False)
    assert answer is not None
    assert code_of(answer) == 438
    assert answer.get(PASSWORD_ALGORITHMS) == OFFER
    raw.nonce = answer.get(NONCE) or b""
    assert code_of(second(raw)[0]) == 0


def test_sha256_alone_can_be_demanded() -> None:
    world = World(make_config(password_algorithms=(Algorithm.SHA256,)))
    only = OFFER[:1]
    old = world.raw_client()
    assert code_of(second(old, algorithm=None, offer=None, sha256=False)[0]) == 401
    assert code_of(second(world.raw_client(50001), offer=only)[0]) == 0


def test_rest_users_may_use_sha256_but_cannot_be_found_by_hash() -> None:
    wall = 1_700_000_000.0
    world = World(make_config(users={}, auth_secrets=("new", "old")))
    world.server.set_wall_offset(wall - world.now)
    username, password = rest_credentials("old", wall, 600, "carol")
    raw = world.raw_client()
    refused = challenged(raw)
    assert nonce_features(refused.get(NONCE) or b"") == SecurityFeature.PASSWORD_ALGORITHMS
    assert code_of(second(raw, user=username, password=password, hashed=True)[0]) == 401
    assert code_of(second(raw, user=username, password=password)[0]) == 0


def test_userhash_is_no_oracle() -> None:
    """FAULTS 33: a hash of nobody and one of somebody with a wrong password get the same answer, bar bytes
    that are random, and are slowed down alike."""
    shapes = []
    for user in ("alice", "nobody"):
        for hashed in (False, True):
            world = World()
            raw = world.raw_client()
            codes = []
            for _ in range(10):
                answer, _ = second(raw, user=user, hashed=hashed, password="guess")
                codes.append((code_of(answer), 0 if answer is None else len(answer.raw)))
            shapes.append((codes, world.server.drops.counts))
    assert all(shape == shapes[0] for shape in shapes)


@pytest.mark.parametrize("text", ["a\u202ename", "\u200bx", "al\u0640ice", "x" * 513, "tab\tbed"])
def test_names_that_nobody_can_have_are_bad_requests(text: str) -> None:
    """FAULTS 34: bidi marks, invisible characters, controls, too long: 400 before anything is looked up."""
    raw = World().raw_client()
    challenged(raw)
    # by hand, as our own codec does not write names of more than 508 bytes
    name = text.encode()
    plain = encode(request(Method.ALLOCATE, bytes(12), UDP, (REALM, REALM_NAME), (NONCE, raw.nonce)))
    attribute = b"\x00\x06" + len(name).to_bytes(2, "big") + name + bytes(-len(name) % 4)
    whole = plain[:2] + (len(plain) - 20 + len(attribute) + 24).to_bytes(2, "big") + plain[4:] + attribute
    [answer] = raw.say(whole + b"\x00\x08\x00\x14" + bytes(20))
    assert code_of(decode(answer)) == 400


@pytest.mark.parametrize("name", [b"a\0b", b"alice\0", b"\xff\xfe", b"Ren\xe9", b"\xed\xa0\x80", b"x" * 764])
def test_names_that_are_no_text_are_bad_requests(name: bytes) -> None:
    """FAULTS 34: NUL, Latin-1 and other bytes that are no UTF-8, a surrogate, too long."""
    raw = World().raw_client()
    challenged(raw)
    given = ((unknown(USERNAME.type), name), (REALM, REALM_NAME), (NONCE, raw.nonce))
    [answer] = raw.say(encode(request(Method.ALLOCATE, bytes(12), UDP, *given), integrity_key=bytes(16)))
    assert code_of(decode(answer)) == 400
    assert len(answer) == 28


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        (Method.ALLOCATE, (unknown(REQUESTED_TRANSPORT.type), b"\x11")),
        (Method.ALLOCATE, (unknown(LIFETIME.type), b"")),
        (Method.REFRESH, (unknown(LIFETIME.type), bytes(8))),
        (Method.CREATE_PERMISSION, (unknown(XOR_PEER_ADDRESS.type), bytes(8))),
        (Method.CHANNEL_BIND, (unknown(XOR_PEER_ADDRESS.type), b"\0\3\0\1\1\1\1\1")),
        (Method.CONNECT, (unknown(XOR_PEER_ADDRESS.type), b"")),
    ],
)
def test_whoever_is_known_hears_what_is_malformed(method: Method, wrong: Any) -> None:
    """RFC 8656 §7.2: 400 for a malformed REQUESTED-TRANSPORT, after the credentials, signed like others."""
    raw = World().raw_client()
    answer = raw.signed(method, wrong)
    assert code_of(answer) == 400
    assert answer is not None
    assert answer.get(ERROR_CODE).reason.endswith("is malformed")  # type: ignore[union-attr]
    check_integrity(answer, raw.key())
    stranger = raw.bare(method, wrong)
    assert code_of(stranger) == 401
    assert code_of(raw.signed(method, wrong, password="guess")) == 401


def test_only_requests_of_a_turn_server_are_answered_when_malformed() -> None:
    """FAULTS 45: no indication, no response, no Binding; nor what a checksum says is damaged."""
    world = World()
    raw = world.raw_client()
    bad = (unknown(USERNAME.type), b"\0")
    for message in (
        indication(Method.SEND, bytes(12), bad),
        success(request(Method.ALLOCATE, bytes(12)), bad),
        request(Method.BINDING, bytes(12), bad),
        request(0x123, bytes(12), bad),
    ):
        assert raw.say(encode(message)) == []
    damaged = bytearray(encode(request(Method.ALLOCATE, bytes(12), bad), fingerprint=True))
    damaged[-1] ^= 1
    assert raw.say(bytes(damaged)) == []


@pytest.mark.parametrize("text", ["%s%x%n", "'; DROP TABLE users; --", "{0.__class__}", "x" * 508])
def test_names_that_mean_something_elsewhere_are_just_unknown(text: str) -> None:
    """FAULTS 34: no format string, no query; the name is a key of a dictionary."""
    answer, _ = second(World().raw_client(), user=text)
    assert code_of(answer) == 401


def test_names_are_prepared_before_they_are_compared() -> None:
    """RFC 8489 §14.3: OpaqueString; a composed and a decomposed é are one name."""
    world = World(make_config(users={"Ren\u00e9": "pass\u00a0word"}))
    answer, _ = second(world.raw_client(), user="Rene\u0301", password="pass word")
    assert code_of(answer) == 0


REALMS = ["n", "natwalk", "turn.example.org", "turn.eu-west.example.org", "x" * 40, "\u00e9" * 63]


@settings(max_examples=200, deadline=None)
@given(
    realm=st.sampled_from(REALMS),
    software=st.text("abc", max_size=60),
    lifetime=st.none() | st.integers(0, 1 << 31),
    transport=st.booleans(),
    credentials=st.booleans(),
    nonce=st.binary(max_size=60),
    user=st.text("abcdef", max_size=30),
    oauth=st.booleans(),
)
def test_no_answer_to_a_stranger_is_worth_forging_a_request_for(
    realm: str,
    software: str,
    lifetime: int | None,
    transport: bool,
    credentials: bool,
    nonce: bytes,
    user: str,
    oauth: bool,
) -> None:
    """FAULTS 40: a 401 is at most 3.6 times its request and a 438 at most as long, whatever the request."""
    keys = (OAuthKey("north", bytes(32)),) if oauth else ()
    world = World(make_config(realm=realm, oauth_keys=keys, software="natwalk"))
    raw = world.raw_client()
    attributes: list[Any] = [UDP] if transport else []
    if lifetime is not None:
        attributes.append((LIFETIME, lifetime))
    if software:
        attributes.append((SOFTWARE, software))
    key = None
    if credentials:
        attributes += [(USERNAME, user), (REALM, realm), (NONCE, nonce)]
        key = b"wrong"
    data = encode(request(Method.ALLOCATE, bytes(12), *attributes), integrity_key=key)
    [answer] = raw.say(data)
    code = code_of(decode(answer))
    assert code == (438 if credentials else 401)
    assert 10 * len(answer) <= {401: 36, 438: 10}[code] * len(data)


@pytest.mark.parametrize("realm", REALMS[:3])
def test_smallest_real_allocate_gets_the_whole_challenge(realm: str) -> None:
    """28 bytes, as browsers send it; realms of up to 16 bytes leave room for everything."""
    world = World(make_config(realm=realm))
    refused = challenged(world.raw_client())
    assert refused.get(REALM) == realm
    assert refused.get(PASSWORD_ALGORITHMS) == OFFER
    assert len(refused.raw) <= 100


def test_long_realm_costs_the_offer_but_not_the_service() -> None:
    """Between 17 and 40 bytes the smallest request gets a challenge without an offer, and may use it."""
    realm = "turn.eu-west.example.org"
    raw = World(make_config(realm=realm)).raw_client()
    refused = challenged(raw)
    assert refused.get(REALM) == realm
    assert choose_algorithm(refused) is None
    key = long_term_key("alice", realm, USERS["alice"])
    attributes = (UDP, (USERNAME, "alice"), (REALM, realm), (NONCE, raw.nonce))
    [answer] = raw.say(encode(request(Method.ALLOCATE, bytes(12), *attributes), integrity_key=key))
    assert code_of(decode(answer)) == 0


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.TLS, Transport.DTLS])
def test_proven_source_gets_everything_whatever_it_sent(transport: Transport) -> None:
    admission = Admission(make_config(realm="x" * 100), random_bytes=seeded())
    path = Path(LISTENER, Address("198.51.100.9", 50000), transport)
    refused = admission.admit(decode(encode(request(Method.ALLOCATE, bytes(12)))), path, 1000.0)
    assert isinstance(refused, Refused)
    assert (PASSWORD_ALGORITHMS, OFFER) in refused.attributes


def test_offer_of_another_configuration_is_stale_not_wrong() -> None:
    """A client in the middle of it all when the configuration changes is told to start again."""
    secret = b"s" * 32
    first = World(make_config(nonce_secret=secret)).raw_client()
    challenged(first)
    changed = World(make_config(nonce_secret=secret, password_algorithms=(Algorithm.MD5, Algorithm.SHA256)))
    raw = changed.raw_client()
    raw.nonce = first.nonce
    assert code_of(second(raw)[0]) == 438


def test_users_that_cannot_be_sent_are_refused_in_the_configuration() -> None:
    for users in ({"a\u200bb": "password"}, {"bob": "pass\u202eword"}):
        with pytest.raises(ValueError, match="cannot be sent") as caught:
            TurnConfig(users=users)
        assert "word" not in str(caught.value).replace("password of", "")
