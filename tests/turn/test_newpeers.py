"""FAULTS 18: a relay is no port scanner."""

from __future__ import annotations

from natwalk.core import Address
from natwalk.turn import TurnLimits
from natwalk.turn.newpeers import PEERS, USERS, NewPeers


def peer(n: int) -> Address:
    return Address(f"93.184.{n >> 8}.{n & 255}", 1024 + n % 5000)


def test_two_thousand_peers_in_ten_seconds_are_throttled_and_counted() -> None:
    """FAULTS 18: the user is a suspect; 200 at once and 20 a second is all it gets."""
    watch = NewPeers(TurnLimits())
    granted = sum(watch.allow("scanner", peer(n), 100 + n / 200) for n in range(2000))
    assert 380 <= granted <= 401
    assert watch.throttled == 2000 - granted
    assert watch.suspects == 1


def test_ordinary_ice_is_left_alone() -> None:
    """FAULTS 18: a hundred pairs at once, again and again to the same peers."""
    watch = NewPeers(TurnLimits())
    for _ in range(50):
        assert all(watch.allow("alice", peer(n), 100.0) for n in range(100))
    assert watch.throttled == watch.suspects == 0


def test_users_do_not_pay_for_each_other() -> None:
    watch = NewPeers(TurnLimits(new_peers_burst=10, new_peers_rate=1))
    for n in range(100):
        watch.allow("scanner", peer(n), 100.0)
    assert watch.allow("alice", peer(1), 100.0)
    assert not watch.allow("scanner", peer(200), 100.5)
    assert watch.allow("scanner", peer(5), 100.5)
    assert watch.allow("scanner", peer(200), 102.0)


def test_other_clients_of_the_server_are_no_scan() -> None:
    """A load test where clients talk to each other's relays, all as one user."""
    relays = {peer(n) for n in range(0, 1000, 2)}
    watch = NewPeers(TurnLimits(new_peers_burst=10, new_peers_rate=1), relays)
    assert all(watch.allow("alice", relay, 100.0) for relay in relays)
    assert sum(watch.allow("alice", peer(n), 100.0) for n in range(1, 1000, 2)) == 10


def test_memory_is_bounded() -> None:
    watch = NewPeers(TurnLimits(new_peers_burst=1e6))
    for n in range(USERS + 50):
        watch.allow(f"user{n}", peer(1), 100.0)
    for n in range(PEERS + 50):
        watch.allow("alice", peer(n), 100.0)
    assert len(watch) == USERS
    assert len(watch._users["alice"].known) == PEERS
