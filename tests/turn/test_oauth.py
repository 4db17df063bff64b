"""Third-party authorization (RFC 7635): the token and the server's side; FAULTS 37."""

from __future__ import annotations

import json
import shutil
import subprocess
from base64 import b64decode, b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import IntegrityError
from natwalk.stun import (
    ACCESS_TOKEN,
    LIFETIME,
    NONCE,
    PASSWORD_ALGORITHMS,
    REALM,
    REQUESTED_TRANSPORT,
    THIRD_PARTY_AUTHORIZATION,
    USERNAME,
    XOR_PEER_ADDRESS,
    Message,
    Method,
    check_integrity,
    decode,
    encode,
    request,
)
from natwalk.turn import AllocationEnded, EndReason, OAuthCredentials, OAuthKey, oauth_token
from natwalk.turn.oauth import TOKEN_MAX, open_token
from turn_world import PEER, REALM_NAME, Raw, World, code_of, make_config

NAME = "turn.example.org"
NORTH = OAuthKey("north", b"01234567890123456789012345678901")
UNION = OAuthKey("union", b"1234567890123456")
MAC_KEY = b"mac key of twenty by"
WALL = 1_700_000_000.0
UDP = (REQUESTED_TRANSPORT, 17)


def token(key: OAuthKey = NORTH, mac_key: bytes = MAC_KEY, **options: Any) -> bytes:
    settings: dict[str, Any] = {"issued": WALL, "lifetime": 3600, "nonce": b"n" * 12} | options
    return oauth_token(key, settings.pop("name", NAME), mac_key, **settings)


def make_world(**overrides: Any) -> World:
    settings = {"oauth_keys": (NORTH, UNION), "third_party_authorization": NAME} | overrides
    world = World(make_config(**settings))
    world.server.set_wall_offset(WALL - world.now)
    return world


def with_token(
    raw: Raw,
    method: Method,
    *attributes: Any,
    access: bytes | None,
    kid: str = "north",
    mac_key: bytes = MAC_KEY,
) -> Message | None:
    if not raw.nonce:
        raw.challenge()
    credentials: list[Any] = [(USERNAME, kid), (REALM, REALM_NAME), (NONCE, raw.nonce)]
    if access is not None:
        credentials.append((ACCESS_TOKEN, access))
    message = request(method, raw.world.random.randbytes(12), *attributes, *credentials)
    answers = raw.say(encode(message, integrity_key=mac_key))
    if not answers:
        return None
    answer = decode(answers[0])
    if code_of(answer) != 401:
        check_integrity(answer, mac_key)
    return answer


@given(
    key=st.sampled_from([NORTH, UNION]),
    name=st.text(max_size=40),
    mac_key=st.binary(min_size=16, max_size=64),
    issued=st.integers(0, 1 << 40),
    sixteenths=st.integers(0, 15),
    lifetime=st.integers(0, (1 << 32) - 1),
    nonce=st.binary(min_size=12, max_size=12),
)
def test_token_opens_with_what_it_was_made_with(
    key: OAuthKey, name: str, mac_key: bytes, issued: int, sixteenths: int, lifetime: int, nonce: bytes
) -> None:
    when = issued + sixteenths / 16
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    made = oauth_token(key, name, mac_key, issued=when, lifetime=lifetime, nonce=nonce)
    opened = open_token(made, key, name)
    assert (opened.mac_key, opened.issued, opened.lifetime) == (mac_key, when, lifetime)
    assert len(made) <= TOKEN_MAX


@given(st.data())
def test_no_flipped_bit_opens(data: st.DataObject) -> None:
    made = bytearray(token())
    bit = data.draw(st.integers(0, 8 * len(made) - 1))
    made[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IntegrityError):
        open_token(bytes(made), NORTH, NAME)


@given(st.binary(max_size=600))
def test_any_bytes_open_or_raise_integrity_error(data: bytes) -> None:
    """FAULTS 37: truncated, overlong, lengths that lie: no other exception."""
    with pytest.raises(IntegrityError):
        open_token(data, NORTH, NAME)


HOSTILE = {
    "nonce_len 257": b"\x01\x01" + bytes(400),
    "nonce_len 0": b"\x00\x00" + bytes(60),
    "empty": b"",
    "one byte": b"\x00",
    "truncated": token()[:-1],
    "longer": token() + b"\0",
    "too long": b"\x00\x0c" + bytes(2000),
    "of another server": token(name="elsewhere.example.org"),
    "of another key": token(UNION),
    "expired": token(issued=WALL - 3600),
    "from the future": token(issued=WALL + 61),
    "no lifetime": token(lifetime=0),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_hostile_token_is_a_401(hostile: bytes) -> None:
    """FAULTS 37 (CVE-2026-43994): 401, no exception, no state."""
    world = make_world()
    assert code_of(with_token(world.raw_client(), Method.ALLOCATE, UDP, access=hostile)) == 401
    assert world.server.stats.allocations == 0


@pytest.mark.parametrize("size", [0, 15, 65, 400])
def test_key_inside_a_genuine_token_is_bounded(size: int) -> None:
    """FAULTS 37: key_length > 64, sealed by someone who has the key; ours does not make such."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    with pytest.raises(ValueError, match="mac_key"):
        token(mac_key=bytes(size))
    plain = size.to_bytes(2, "big") + bytes(size) + bytes(12)
    sealed = AESGCM(NORTH.key).encrypt(b"n" * 12, plain, NAME.encode())
    with pytest.raises(IntegrityError, match="lengths"):
        open_token(b"\x00\x0c" + b"n" * 12 + sealed, NORTH, NAME)


def test_challenge_names_the_server_to_ask_for() -> None:
    """RFC 7635 §6.1; without keys nothing to ask for, without users no password to choose for."""
    for settings, third_party, algorithms in (
        ({}, NAME, True),
        ({"oauth_keys": ()}, None, True),
        ({"users": {}}, NAME, False),
    ):
        world = make_world(**settings)
        refused = world.raw_client().bare(Method.ALLOCATE, UDP, (LIFETIME, 600))
        assert refused is not None
        assert refused.get(THIRD_PARTY_AUTHORIZATION) == third_party
        assert (PASSWORD_ALGORITHMS in refused) is algorithms


def test_name_of_the_server_is_its_realm_unless_told() -> None:
    world = make_world(third_party_authorization="")
    answer = with_token(world.raw_client(), Method.ALLOCATE, UDP, access=token(name=REALM_NAME))
    assert code_of(answer) == 0


def test_token_gets_an_allocation_no_longer_than_itself() -> None:
    """The allocation ends with the token unless a new one comes; without a token its key signs on."""
    world = make_world()
    raw = world.raw_client()
    answer = with_token(raw, Method.ALLOCATE, UDP, (LIFETIME, 3600), access=token(lifetime=900))
    assert answer is not None
    assert answer.get(LIFETIME) == 900
    peer = (XOR_PEER_ADDRESS, PEER)
    assert code_of(with_token(raw, Method.CREATE_PERMISSION, peer, access=None)) == 0
    world.run(400.0)
    refreshed = with_token(raw, Method.REFRESH, (LIFETIME, 3600), access=None)
    assert refreshed is not None
    assert refreshed.get(LIFETIME) == 500
    world.run(501.0)
    assert world.server.stats.allocations == 0


def test_new_token_goes_on_where_the_old_one_ended() -> None:
    """Of another key, too, as keys are rotated; quotas and the record still know the allocation as one."""
    world = make_world()
    raw = world.raw_client()
    assert code_of(with_token(raw, Method.ALLOCATE, UDP, access=token(lifetime=600))) == 0
    world.run(300.0)
    later = token(UNION, b"another key of 20 by", issued=WALL + 300)
    answer = with_token(
        raw, Method.REFRESH, (LIFETIME, 1800), access=later, kid="union", mac_key=b"another key of 20 by"
    )
    assert answer is not None
    assert answer.get(LIFETIME) == 1800
    raw.nonce = b""
    for _ in range(2):
        world.run(290.0)
        raw.nonce = b""
        stale = with_token(raw, Method.REFRESH, access=None, kid="union", mac_key=b"another key of 20 by")
        assert code_of(stale) == 0
    assert len(world.server._table.accounts) == 1
    assert code_of(with_token(raw, Method.REFRESH, access=token(lifetime=600))) == 401


def test_password_users_and_tokens_do_not_get_at_each_other() -> None:
    world = make_world(users={"north": "a password"})
    raw = world.raw_client()
    assert code_of(with_token(raw, Method.ALLOCATE, UDP, access=token())) == 0
    assert code_of(raw.signed(Method.REFRESH, username="north", password="a password")) in {401, 441}
    other = world.raw_client(50001)
    assert code_of(other.allocate(username="north", password="a password")) == 0
    assert code_of(with_token(other, Method.REFRESH, access=token())) == 441


def test_every_token_has_a_quota_of_its_own() -> None:
    """A key is shared by all the users of its issuer; what a user may have is for the issuer to say."""
    world = make_world()
    codes = []
    for n in range(14):
        access = token() if n < 13 else token(nonce=b"m" * 12)
        codes.append(code_of(with_token(world.raw_client(50000 + n), Method.ALLOCATE, UDP, access=access)))
    assert codes == [0] * 12 + [486, 0]


@pytest.mark.parametrize(
    ("not_before", "not_after", "expected"),
    [(0, float("inf"), 0), (WALL + 1, float("inf"), 401), (0, WALL, 401), (WALL - 1, WALL + 1, 0)],
)
def test_keys_have_their_time(not_before: float, not_after: float, expected: int) -> None:
    key = OAuthKey("north", NORTH.key, not_before, not_after)
    world = make_world(oauth_keys=(key,))
    assert code_of(with_token(world.raw_client(), Method.ALLOCATE, UDP, access=token())) == expected


def test_two_keys_of_one_name_overlap_while_they_are_rotated() -> None:
    world = make_world(oauth_keys=(OAuthKey("north", bytes(16)), NORTH))
    assert code_of(with_token(world.raw_client(), Method.ALLOCATE, UDP, access=token())) == 0


def test_clock_is_needed() -> None:
    world = World(make_config(oauth_keys=(NORTH,), third_party_authorization=NAME))
    assert code_of(with_token(world.raw_client(), Method.ALLOCATE, UDP, access=token())) == 401


def test_first_16_bytes_of_a_longer_key_sign_too() -> None:
    """Deviates from RFC 7635 §6.2 for coturn, client and server: ends when this test can go."""
    world = make_world()
    answer = with_token(world.raw_client(), Method.ALLOCATE, UDP, access=token(), mac_key=MAC_KEY[:16])
    assert code_of(answer) == 0


def test_key_that_is_taken_away_ends_what_was_had_with_it() -> None:
    world = make_world()
    raw = world.raw_client()
    with_token(raw, Method.ALLOCATE, UDP, access=token())
    kept = world.raw_client(50001)
    with_token(kept, Method.ALLOCATE, UDP, access=token(UNION), kid="union")
    config = make_config(oauth_keys=(UNION, OAuthKey("north", bytes(32))), third_party_authorization=NAME)
    world.server.reconfigure(config, world.now)
    world.run()
    ended = [e for e in world.server_events if isinstance(e, AllocationEnded)]
    assert [(e.username, e.reason) for e in ended] == [("north", EndReason.DISCONNECTED)]
    assert world.server.disconnect("union", world.now) == 1


def test_guessing_at_tokens_is_slowed_down_but_not_for_the_key() -> None:
    """FAULTS 49: whoever shares a NAT with the guesser has the same kid; only the source waits."""
    world = make_world()
    guesser, honest = world.raw_client(50000), world.raw_client(50001)
    honest.challenge()
    for n in range(30):
        world.now += 1.0
        with_token(guesser, Method.ALLOCATE, UDP, access=bytes([n]) * 60)
    assert code_of(with_token(honest, Method.ALLOCATE, UDP, access=token())) == 0


def test_our_client_with_our_server() -> None:
    world = make_world()
    client = world.client(credentials=OAuthCredentials("north", token(), MAC_KEY))
    client.allocate(world.now)
    world.run()
    assert client.relayed is not None
    world.run(1200.0)
    assert world.server.stats.allocations == 1


def test_nothing_secret_is_shown() -> None:
    """FAULTS 173."""
    key = OAuthKey("north", b"canary-canary-ca")
    made = token(key, b"canary-canary-ca")
    shown = [repr(key), repr(open_token(made, key, NAME))]
    for wrong in (made[:-1], b"\x00\x0c" + b"canary" * 20):
        with pytest.raises(IntegrityError) as caught:
            open_token(wrong, key, NAME)
        shown.append(repr(caught.value))
    assert not any("canary" in text for text in shown)


@pytest.mark.skipif(shutil.which("turnutils_oauth") is None, reason="coturn's turnutils are not installed")
@pytest.mark.parametrize(("key", "algorithm"), [(NORTH, "A256GCM"), (UNION, "A128GCM")])
def test_coturn_makes_the_same_token(key: OAuthKey, algorithm: str) -> None:
    """turnutils_oauth, given the same parts, gives the same bytes."""
    mac_key, nonce = b"ZksjpweoixXmvn67534m", b"h4j3k2l2n4b5"
    made = subprocess.run(
        [
            *("turnutils_oauth", "-e", "-i", NAME, "-j", key.kid, "-k", b64encode(key.key).decode()),
            *("-l", str(int(WALL) - 10), "-m", "86400", "-n", algorithm, "-o", b64encode(nonce).decode()),
            *("-p", b64encode(mac_key).decode(), "-q", str(int(WALL) << 16), "-r", "3600"),
        ],
        capture_output=True,
        check=True,
        timeout=20,
    )
    theirs = b64decode(json.loads(made.stdout)["access_token"])
    assert theirs == token(key, mac_key, nonce=nonce)
