"""FAULTS 33, 34, 39, 40, 41, 42, 47, 49, 51, 67 and 173 against the server core."""

from __future__ import annotations

import os

import pytest

from natwalk.core import Address, Path, Transport
from natwalk.stun import (
    LIFETIME,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    NONCE,
    PASSWORD_ALGORITHM,
    REALM,
    REQUESTED_TRANSPORT,
    SOFTWARE,
    USERNAME,
    ErrorCode,
    Message,
    Method,
    PasswordAlgorithm,
    check_integrity,
    decode,
    encode,
    long_term_key,
    request,
)
from natwalk.stun.attributes import ERROR_CODE
from natwalk.turn import OAuthKey, TurnLimits, rest_credentials
from natwalk.turn import admission as admission_module
from natwalk.turn.admission import Admission, Refused
from turn_world import LISTENER, REALM_NAME, USERS, World, code_of, make_config, seeded

UDP = (REQUESTED_TRANSPORT, 17)
WALL = 1_700_000_000.0


def test_first_request_is_challenged_without_leaving_state() -> None:
    world = World()
    raw = world.raw_client()
    refused = raw.bare(Method.ALLOCATE, UDP)
    assert refused is not None
    assert refused.get(ERROR_CODE) == ErrorCode(401)
    assert refused.get(REALM) == REALM_NAME
    assert refused.get(NONCE)
    assert SOFTWARE not in refused
    assert world.server.stats.allocations == 0
    assert world.server_events == []
    assert world.server.next_timeout() is None


def test_refusals_do_not_amplify() -> None:
    """FAULTS 40: 72 bytes for a bare 20-byte Allocate; a 438 no more than its cause."""
    world = World(make_config(software="natwalk"))
    raw = world.raw_client()
    bare = encode(request(Method.ALLOCATE, bytes(12)))
    assert len(bare) == 20
    [refusal] = raw.say(bare)
    assert len(refusal) <= 3.6 * len(bare)
    garbage = encode(
        request(Method.ALLOCATE, bytes(12), (USERNAME, "a"), (REALM, "natwalk"), (NONCE, b"stale")),
        integrity_key=b"wrong",
    )
    assert len(garbage) >= 76
    [stale] = raw.say(garbage)
    assert code_of(decode(stale)) == 438
    assert len(stale) <= len(garbage)


def test_binding_on_the_turn_port_is_answered_minimally() -> None:
    """FAULTS 39: at most 32 bytes for IPv4, 44 for IPv6, no SOFTWARE."""
    world = World()
    for host, size in (("198.51.100.9", 32), ("2001:db8::9", 44)):
        raw = world.raw_client(host=host)
        [answer] = raw.say(encode(request(Method.BINDING, bytes(12))))
        assert len(answer) == size


def test_401s_are_limited_by_source_whatever_the_port() -> None:
    """FAULTS 41: 100 requests a second with rotating ports get 10 a second and a burst; others are served."""
    world = World()
    answers = 0
    bare = encode(request(Method.ALLOCATE, bytes(12)))
    for n in range(500):
        world.now += 0.01
        answers += len(world.raw_client(10_000 + n).say(bare))
    assert 50 <= answers <= 5 * 10 + 20 + 1
    assert world.server.drops.counts["too many refusals to this source"] == 500 - answers
    assert world.raw_client(host="198.51.100.200").bare(Method.ALLOCATE, UDP) is not None


def test_401s_to_one_64_share_a_limit() -> None:
    """FAULTS 42."""
    world = World()
    bare = encode(request(Method.ALLOCATE, bytes(12)))
    answers = 0
    for n in range(1000):
        path = Path(LISTENER, Address(f"2001:db8:7::{n:x}", 1000))
        world.server.receive(bare, path, world.now)
        while world.server.poll_transmit() is not None:
            answers += 1
    assert answers == 20


def test_signed_request_is_granted_and_answered_in_kind() -> None:
    """The response is signed with the kind of integrity the request had (RFC 8489 §9.2.4)."""
    for sha256 in (False, True):
        answer = World().raw_client().allocate(sha256=sha256)
        assert code_of(answer) == 0
        assert (MESSAGE_INTEGRITY_SHA256 in answer) is sha256
        assert (MESSAGE_INTEGRITY in answer) is not sha256


def test_missing_credentials_are_a_bad_request() -> None:
    world = World()
    raw = world.raw_client()
    raw.challenge()
    full = ((USERNAME, "alice"), (REALM, REALM_NAME), (NONCE, raw.nonce))
    for missing in range(3):
        attributes = full[:missing] + full[missing + 1 :]
        [answer] = raw.say(
            encode(request(Method.ALLOCATE, bytes(12), UDP, *attributes), integrity_key=raw.key())
        )
        assert code_of(decode(answer)) == 400
    chosen = (*full, (PASSWORD_ALGORITHM, PasswordAlgorithm(2)))
    [answer] = raw.say(encode(request(Method.ALLOCATE, bytes(12), UDP, *chosen), integrity_key=raw.key()))
    assert code_of(decode(answer)) == 400


def test_stale_and_foreign_nonces_get_438_with_a_new_one() -> None:
    world = World()
    raw = world.raw_client()
    raw.challenge()
    old = raw.nonce
    world.run(601.0)
    answer = raw.allocate()
    assert code_of(answer) == 438
    fresh = answer.get(NONCE)
    assert fresh is not None
    assert fresh != old
    thief = world.raw_client(50001)
    thief.nonce = fresh
    assert code_of(thief.allocate()) == 438
    raw.nonce = fresh
    assert code_of(raw.allocate()) == 0


def test_wrong_password_wrong_user_and_wrong_realm_look_the_same() -> None:
    """FAULTS 33: no oracle tells existing users from missing ones."""
    world = World()
    answers = []
    for user, realm in (("alice", REALM_NAME), ("nobody", REALM_NAME), ("alice", "elsewhere")):
        raw = world.raw_client()
        raw.challenge()
        credentials = ((USERNAME, user), (REALM, realm), (NONCE, raw.nonce))
        message = request(Method.ALLOCATE, bytes(12), UDP, *credentials)
        [answer] = raw.say(encode(message, integrity_key=raw.key("guess")))
        answers.append((code_of(decode(answer)), len(answer)))
    assert answers == [(401, 92)] * 3


def test_guessing_is_slowed_down_per_user_and_source() -> None:
    """FAULTS 49: 1000 guesses in 100 s; a few are looked at, and the owner elsewhere is not locked out."""
    world = World()
    raw = world.raw_client()
    looked_at = 0
    for _ in range(1000):
        world.now += 0.1
        answer = raw.signed(Method.ALLOCATE, UDP, password="guess")
        looked_at += code_of(answer) == 401
    assert looked_at <= 5 + 5 + 100 / 16
    assert world.server.drops.counts["too many wrong passwords for this user from this source"] > 900
    assert code_of(raw.signed(Method.ALLOCATE, UDP)) == -1
    assert code_of(world.raw_client(host="198.51.100.200").allocate()) == 0


def test_guessing_many_users_is_slowed_down_per_source() -> None:
    """FAULTS 49: one password tried on everybody."""
    world = World()
    raw = world.raw_client()
    for n in range(200):
        world.now += 0.2
        raw.signed(Method.ALLOCATE, UDP, username=f"user{n}", password="guess")
    assert world.server.drops.counts["too many wrong passwords from this source"] > 100


def test_right_password_clears_the_slate() -> None:
    world = World()
    raw = world.raw_client()
    for _ in range(10):
        for _ in range(4):
            world.now += 1.0
            assert code_of(raw.signed(Method.ALLOCATE, UDP, password="guess")) == 401
        world.now += 1.0
        assert code_of(raw.signed(Method.REFRESH)) == 437


def test_rest_credentials_of_any_secret_are_good_until_they_expire() -> None:
    world = World(make_config(users={}, auth_secrets=("new", "old")))
    world.server.set_wall_offset(WALL - world.now)
    for n, (secret, expected) in enumerate((("new", 0), ("old", 0), ("other", 401))):
        username, password = rest_credentials(secret, WALL, 600, f"user{n}")
        raw = world.raw_client(50000 + n)
        raw.challenge()
        assert code_of(raw.allocate(username=username, password=password)) == expected
    world.run(601.0)
    username, password = rest_credentials("new", WALL, 600, "late")
    assert code_of(world.raw_client(50010).allocate(username=username, password=password)) == 401


def test_rest_credentials_need_the_wall_clock() -> None:
    """Before the driver said what time it is, an expiry means nothing."""
    world = World(make_config(users={}, auth_secrets=("new",)))
    username, password = rest_credentials("new", WALL, 600)
    assert code_of(world.raw_client().allocate(username=username, password=password)) == 401


def test_allocation_outlives_the_credential_it_was_made_with() -> None:
    """The expiry says when a session may start; a long transfer refreshes with the same credential."""
    world = World(make_config(users={}, auth_secrets=("new",)))
    world.server.set_wall_offset(WALL - world.now)
    username, password = rest_credentials("new", WALL, 300, "alice")
    raw = world.raw_client()
    assert code_of(raw.allocate(username=username, password=password)) == 0
    world.run(400.0)
    assert code_of(raw.refresh(600, username=username, password=password)) == 0
    other = world.raw_client(50001)
    assert code_of(other.allocate(username=username, password=password)) == 401


def test_static_user_with_a_rest_like_name_is_static() -> None:
    world = World(make_config(users={"150": "pw"}, auth_secrets=("new",)))
    assert code_of(world.raw_client().allocate(username="150", password="pw")) == 0


def test_nonce_secret_is_injected_or_random() -> None:
    """Two servers with one secret accept each other's nonces; two without do not."""
    for secret, expected in ((b"x" * 32, 0), (b"", 438)):
        first = World(make_config(nonce_secret=secret)).raw_client()
        first.challenge()
        second = World(make_config(nonce_secret=secret), seed=2).raw_client()
        second.nonce = first.nonce
        assert code_of(second.allocate()) == expected


def test_memory_before_authentication_is_bounded() -> None:
    """FAULTS 42: counters of strangers have a capacity, and nothing else is kept of them."""
    world = World(make_config(limits=TurnLimits(tracked_sources=64)))
    for n in range(2000):
        path = Path(LISTENER, Address(f"198.{18 + n // 65536}.{n >> 8 & 255}.{n & 255}", 1000))
        world.server.receive(encode(request(Method.ALLOCATE, os.urandom(12))), path, world.now)
        while world.server.poll_transmit() is not None:
            pass
    assert len(world.server._admission._refusals) <= 128
    assert world.server.stats.allocations == 0


def test_flood_from_behind_the_same_nat_does_not_cost_a_client_its_allocation() -> None:
    """Refusals and back-off are by source, but the holder of an allocation is counted apart."""
    world = World()
    owner, attacker = world.raw_client(50000), world.raw_client(50001)
    assert code_of(owner.allocate((LIFETIME, 3600))) == 0
    world.run(601.0)
    attacker.challenge()
    for _ in range(100):
        attacker.signed(Method.ALLOCATE, UDP, password="guess")
    stale = owner.signed(Method.REFRESH)
    assert code_of(stale) == 438
    assert stale is not None
    owner.nonce = stale.get(NONCE) or b""
    assert code_of(owner.signed(Method.REFRESH)) == 0


def test_refusals_to_the_holder_of_an_allocation_are_limited_too() -> None:
    """A spoofed copy of its address is no reflector either."""
    world = World()
    raw = world.raw_client()
    raw.allocate()
    answers = sum(raw.bare(Method.REFRESH) is not None for _ in range(100))
    assert answers == 8


def test_rest_user_that_no_opaque_string_is_gets_400() -> None:
    """FAULTS 34: a name that cannot be prepared, signed with anything."""
    world = World(make_config(users={}, auth_secrets=("s",)))
    world.server.set_wall_offset(0.0)
    raw = world.raw_client()
    raw.challenge()
    credentials = ((USERNAME, "99999:al\u0640ice"), (REALM, REALM_NAME), (NONCE, raw.nonce))
    message = request(Method.ALLOCATE, bytes(12), UDP, *credentials)
    [answer] = raw.say(encode(message, integrity_key=b"anything"))
    assert code_of(decode(answer)) == 400


def test_memory_is_the_same_for_every_address_of_a_64() -> None:
    """FAULTS 42: 65,536 addresses of one /64 are one source."""
    admission = Admission(make_config(), random_bytes=seeded())
    bare = decode(encode(request(Method.ALLOCATE, bytes(12), UDP)))
    refused = 0
    for n in range(65_536):
        path = Path(LISTENER, Address(f"2001:db8:7::{n:x}", 1000))
        refused += isinstance(admission.admit(bare, path, 1000.0), Refused)
    assert refused == 20
    assert len(admission._refusals) == 2
    assert admission.unanswered == 65_536 - 20


def test_many_64s_of_one_48_share_a_wider_limit() -> None:
    """FAULTS 42."""
    admission = Admission(make_config(), random_bytes=seeded())
    bare = decode(encode(request(Method.ALLOCATE, bytes(12), UDP)))
    refused = 0
    for n in range(1000):
        path = Path(LISTENER, Address(f"2001:db8:7:{n:x}::1", 1000))
        refused += isinstance(admission.admit(bare, path, 1000.0), Refused)
    assert refused == 160


def test_guessing_goes_on_no_faster_over_another_transport() -> None:
    """FAULTS 49: over UDP, then TCP, then TLS: one source, one count; the owner elsewhere gets in."""
    world = World()
    looked_at = 0
    for n, transport in enumerate((Transport.UDP, Transport.TCP, Transport.TLS)):
        raw = world.raw_client(50000 + n, transport=transport)
        for _ in range(100):
            world.now += 0.1
            looked_at += code_of(raw.signed(Method.ALLOCATE, UDP, password="guess")) == 401
    assert looked_at <= 5 + 5 + 30 / 16
    assert code_of(world.raw_client(host="198.51.100.200").allocate()) == 0


def test_guessing_from_many_64s_is_slowed_down_per_48() -> None:
    """FAULTS 49: whoever has a /48 has 65,536 sources."""
    world = World(make_config(limits=TurnLimits(failures_per_source=2)))
    looked_at = 0
    for n in range(100):
        world.now += 0.01
        raw = world.raw_client(host=f"2001:db8:7:{n:x}::1")
        looked_at += code_of(raw.signed(Method.ALLOCATE, UDP, password="guess")) == 401
    assert looked_at == 2 * 8 + 1
    assert code_of(world.raw_client(host="2001:db8:8::1").allocate()) == 0


def test_realm_of_the_request_decides_nothing() -> None:
    """FAULTS 51: a laxer realm that is named in a request opens nothing, signed for or not."""
    world = World()
    raw = world.raw_client()
    raw.challenge()
    for realm in ("lax", "", REALM_NAME.upper(), REALM_NAME + " "):
        credentials = ((USERNAME, "alice"), (REALM, realm), (NONCE, raw.nonce))
        key = long_term_key("alice", realm or "x", USERS["alice"])
        message = request(Method.ALLOCATE, bytes(12), UDP, *credentials)
        [answer] = raw.say(encode(message, integrity_key=key))
        assert code_of(decode(answer)) == 401
        assert decode(answer).get(REALM) == REALM_NAME
    # nor is the right key good under another realm
    credentials = ((USERNAME, "alice"), (REALM, "lax"), (NONCE, raw.nonce))
    message = request(Method.ALLOCATE, bytes(12), UDP, *credentials)
    [answer] = raw.say(encode(message, integrity_key=raw.key()))
    assert code_of(decode(answer)) == 401


@pytest.mark.parametrize("user", ["alice", "nobody", "x" * 300])
def test_missing_user_costs_the_work_of_a_present_one(user: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 33: the time within noise, counted in checks of a MAC, which is nearly all of it."""
    checks: list[bytes] = []

    def counting(message: Message, key: bytes) -> None:
        checks.append(key)
        check_integrity(message, key)

    monkeypatch.setattr(admission_module, "check_integrity", counting)
    raw = World().raw_client()
    raw.signed(Method.ALLOCATE, UDP, username=user, password="guess")
    assert len(checks) == 1
    assert len(checks[0]) == 16


def test_nothing_secret_is_shown() -> None:
    """FAULTS 67, 173: passwords, secrets, keys and nonces' secret are in no repr and no exception."""
    canary = "canary-canary-canary"
    config = make_config(
        users={"alice": canary},
        auth_secrets=(canary,),
        nonce_secret=canary.encode(),
        oauth_keys=(OAuthKey("north", canary.encode()[:16]),),
    )
    admission = Admission(config, random_bytes=seeded())
    world = World(config)
    raw = world.raw_client()
    assert code_of(raw.allocate(password=canary)) == 0
    [allocation] = world.server._table
    md5 = long_term_key("alice", REALM_NAME, canary)
    parts = (config, admission, allocation.granted, allocation, world.server.stats, *vars(admission).values())
    shown = "".join(repr(part) for part in parts)
    for secret in (canary, repr(md5), md5.hex(), repr(canary.encode()[:16])):
        assert secret.strip("b'") not in shown
    for broken in ({"users": {"alice": canary + "\u200b"}}, {"nonce_secret": canary.encode()[:9]}):
        with pytest.raises(ValueError) as caught:
            make_config(**broken)
        assert "canary" not in str(caught.value)
