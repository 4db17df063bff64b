from __future__ import annotations

import pytest

from natwalk.core import Address
from natwalk.turn import PeerPolicy
from natwalk.turn.guard import MAX_ENDPOINTS, PeerGuard

RELAY = "93.184.216.34"
OPEN = Address(RELAY, 50000)
LISTENER = Address(RELAY, 3478)


def make(policy: PeerPolicy | None = None, *hosts: str) -> PeerGuard:
    guard = PeerGuard(policy or PeerPolicy(), hosts or (RELAY,), (49152, 65535), {OPEN})
    guard.add_endpoint(LISTENER)
    return guard


def test_own_listener_is_refused_in_every_spelling() -> None:
    """FAULTS 8: the server does not relay to itself, under no name."""
    guard = make()
    for host in (RELAY, "64:ff9b::5db8:d822", "::ffff:93.184.216.34"):
        assert guard.check(Address(host, 3478)) is not None
        assert guard.check_permission(Address(host, 3478)) is not None


def test_open_relay_ports_are_peers_and_closed_ones_are_not() -> None:
    """Two peers behind hard NATs meet on one server, relay to relay; other ports of its host stay shut."""
    guard = make()
    assert guard.check_permission(Address(RELAY, 0)) is None
    assert guard.check(OPEN) is None
    for port in (50001, 22, 8478, 49152):
        assert guard.check(Address(RELAY, port)) is not None


def test_permission_for_a_listener_by_its_port_is_refused_though_the_port_means_nothing() -> None:
    """Deviates from RFC 8656 §10.2 on purpose; the same host with any other port is permitted."""
    guard = make()
    assert guard.check_permission(LISTENER) is not None
    assert guard.check_permission(LISTENER.with_port(1)) is None


def test_relay_address_that_is_private_still_reaches_its_own_relays() -> None:
    open_relay = Address("10.0.0.2", 50000)
    guard = PeerGuard(PeerPolicy(), ["10.0.0.2"], (49152, 65535), {open_relay})
    assert guard.check(open_relay) is None
    assert guard.check_permission(open_relay) is None
    assert guard.check(Address("10.0.0.2", 50001)) is not None
    assert guard.check(Address("10.0.0.3", 50000)) is not None


def test_explicit_deny_beats_open_relays() -> None:
    guard = make(PeerPolicy(deny=[RELAY]))
    assert guard.check(OPEN) is not None
    assert guard.check_permission(OPEN) is not None


def test_allow_entry_opens_own_host_but_for_listeners_and_closed_relay_ports() -> None:
    """A laboratory on one machine: everything on 127.0.0.1 is a peer except the server itself."""
    guard = PeerGuard(PeerPolicy(allow=["127.0.0.0/8"]), ["127.0.0.1"], (61001, 65535), set())
    guard.add_endpoint(Address("127.0.0.1", 3478))
    assert guard.check(Address("127.0.0.1", 40000)) is None
    assert guard.check(Address("127.0.0.1", 3478)) is not None
    assert guard.check(Address("127.0.0.1", 62000)) is not None


def test_endpoint_added_later_counts_at_once() -> None:
    """FAULTS 8: recomputed when an address appears."""
    guard = make()
    later = Address("93.184.216.99", 8478)
    assert guard.check(later) is None
    guard.add_endpoint(later)
    assert guard.check(later) is not None
    assert guard.check(later.with_port(9999)) is not None
    assert guard.check_permission(later.with_port(9999)) is not None
    assert guard.is_own("93.184.216.99")


def test_current_endpoints_are_replaced_and_added_ones_stay() -> None:
    """FAULTS 8: an address that went may be somebody else's now; a listener is ours as long as we run."""
    guard = make()
    first, second = Address("93.184.216.98", 9641), Address("93.184.216.99", 9641)
    assert guard.set_endpoints([first])
    assert not guard.set_endpoints([first])
    assert guard.check(first) is not None
    assert guard.set_endpoints([second])
    assert guard.check(first) is None
    assert guard.check(second) is not None
    assert guard.check(LISTENER) is not None
    assert guard.set_endpoints([])
    assert guard.check(second) is None
    assert not guard.add_endpoint(LISTENER)
    with pytest.raises(ValueError):
        guard.set_endpoints(Address("93.184.216.99", port) for port in range(1, MAX_ENDPOINTS + 1))
    assert guard.check(second) is None


def test_wildcard_listener_is_refused_on_every_own_host() -> None:
    guard = PeerGuard(PeerPolicy(allow=["127.0.0.0/8"]), ["127.0.0.1"], (61001, 65535), set())
    guard.add_endpoint(Address("0.0.0.0", 3478))
    assert guard.check(Address("127.0.0.1", 3478)) is not None
    assert guard.check(Address("127.0.0.1", 3479)) is None


def test_a_machine_of_many_addresses_is_refused_at_all_of_them() -> None:
    """FAULTS 8: services times addresses are more than are kept one by one."""
    guard = PeerGuard(PeerPolicy(), [RELAY], (49152, 65535), set())
    hosts = [f"8.8.{n // 250}.{n % 250 + 1}" for n in range(300)]
    guard.set_endpoints(Address(host, port) for host in hosts for port in (80, 443, 3478, 5349, 8478))
    for host in (hosts[0], hosts[-1]):
        assert guard.check(Address(host, 8478)) is not None
        assert guard.check(Address(host, 22)) is not None
        assert guard.check_permission(Address(host, 443)) is not None
    assert guard.check(Address("8.9.9.9", 8478)) is None


def test_endpoints_are_bounded() -> None:
    guard = PeerGuard(PeerPolicy(), [RELAY], (49152, 65535), set())
    for port in range(1, MAX_ENDPOINTS + 1):
        guard.add_endpoint(Address(RELAY, port))
    with pytest.raises(ValueError):
        guard.add_endpoint(Address(RELAY, 60000))
