"""FAULTS A 1, 3, 4, 5, 7, 11, 13 and 17 for the policy alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import Address
from natwalk.turn import PeerPolicy
from natwalk.turn.policy import DENIED_PORTS

_STUNNER_TEXT = """
0.0.0.0 :: 127.0.0.1 127.0.0.8 127.255.255.254 ::1 10.0.0.1 10.255.255.254 172.16.0.1 172.31.255.254
192.168.0.1 192.168.255.254 169.254.0.1 169.254.254.255 224.0.0.1 239.255.255.254 100.64.0.0
100.127.255.254 192.0.0.1 192.0.0.254 192.0.2.1 192.0.2.254 198.18.0.1 198.19.255.254 198.51.100.1
198.51.100.254 203.0.113.1 203.0.113.254 240.0.0.1 255.255.255.255 169.254.169.254
"""
STUNNER = _STUNNER_TEXT.split()

_DISGUISED_TEXT = """
::ffff:127.0.0.1 ::ffff:127.0.0.2 ::ffff:0.0.0.0 ::ffff:169.254.169.254 ::127.0.0.1 ::ffff:0:127.0.0.1
64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b::e000:1 64:ff9b:1::7f00:1 2002:7f00:1:: 2001:0:4136:e378::1
2001:470::5efe:127.0.0.1 2001:470::200:5efe:10.0.0.1
"""
DISGUISED = _DISGUISED_TEXT.split()

_INTERNAL_TEXT = """
fe80::1 fe80::1%eth0 fc00::1 fd00:ec2::254 fec0::1 ff02::1 ff0e::1
"""
INTERNAL = _INTERNAL_TEXT.split()

_NEVER_TEXT = """
0.0.0.0 0.1.2.3 :: 169.254.169.254 224.0.0.1 240.0.0.1 255.255.255.255 192.88.99.1 198.18.0.1
::ffff:127.0.0.1 ::ffff:8.8.8.8 ::127.0.0.1 2002:7f00:1:: 2001:0:4136:e378::1 64:ff9b:1::1 fe80::1 fc00::1
fd00:ec2::254 fec0::1 ff0e::1 100::1
"""
NEVER = _NEVER_TEXT.split()

_GLOBAL_TEXT = """
1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 172.15.255.255
172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255 2606:4700::1111
2a00::1 64:ff9b::808:808 2001:470::5efe:8.8.8.8
"""
GLOBAL = _GLOBAL_TEXT.split()

EVERYTHING = ("0.0.0.0/0", "::/0")


@pytest.mark.parametrize("host", STUNNER + DISGUISED + INTERNAL)
def test_default_refuses_every_special_address(host: str) -> None:
    """FAULTS 1, 3, 4, 5, 7: what scanners try, and every disguise of it, is refused without configuration."""
    assert PeerPolicy().check(Address(host, 80)) is not None


@pytest.mark.parametrize("host", GLOBAL)
def test_default_allows_global_addresses(host: str) -> None:
    assert PeerPolicy().check(Address(host, 40000)) is None


@pytest.mark.parametrize("host", NEVER)
def test_nothing_allows_what_is_never_allowed(host: str) -> None:
    """FAULTS 3, 7, 13: allowing everything, or the very address, changes nothing for these."""
    assert PeerPolicy(allow=EVERYTHING).check(Address(host, 80)) is not None


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "10.0.0.5", "100.64.1.1", "192.168.1.1", "203.0.113.7", "::1", "2001:db8::1"]
)
def test_private_loopback_and_documentation_addresses_can_be_allowed(host: str) -> None:
    """A laboratory or a company needs them; the operator says so explicitly."""
    assert PeerPolicy().check(Address(host, 40000)) is not None
    assert PeerPolicy(allow=[host]).check(Address(host, 40000)) is None


def test_deny_wins_over_allow_and_allow_over_default() -> None:
    """FAULTS 13: allow 10.0.0.5 with deny 10/8 denies; deny inside allow denies; allow beats the default."""
    inside = Address("10.0.0.5", 40000)
    assert PeerPolicy(allow=["10.0.0.5"], deny=["10.0.0.0/8"]).check(inside) is not None
    policy = PeerPolicy(allow=["10.0.0.0/8"], deny=["10.0.0.5"])
    denial = policy.check(inside)
    assert denial is not None
    assert (denial.reason, denial.rule) == ("deny", "10.0.0.5")
    assert policy.check(Address("10.0.0.6", 40000)) is None


def test_deny_reaches_global_addresses_and_their_nat64_spelling() -> None:
    policy = PeerPolicy(deny=["8.8.8.0-8.8.8.255"])
    assert policy.check(Address("8.8.8.8", 40000)) is not None
    assert policy.check(Address("64:ff9b::808:808", 40000)) is not None
    assert policy.check(Address("8.8.9.0", 40000)) is None


@pytest.mark.parametrize(
    "entry",
    [
        "10.0.0.0-8",
        "10.0.0.0/33",
        "300.1.1.1",
        "10.0.0.5/8",
        "",
        "10.0.0.9-10.0.0.1",
        "10.0.0.1-::1",
        "example.com",
        "::ffff:10.0.0.0/104",
        "10.0.0.1-10.0.0.2-10.0.0.3",
    ],
)
@pytest.mark.parametrize("side", ["allow", "deny"])
def test_bad_entry_is_refused_by_name(entry: str, side: str) -> None:
    """FAULTS 11: the error names the entry, so that a server with a bad rule does not start without it."""
    with pytest.raises(ValueError) as caught:
        PeerPolicy(**{side: [entry]})
    assert repr(entry) in str(caught.value)


@pytest.mark.parametrize("port", [19, 25, 53, 123, 1900, 5060, 11211, 0])
def test_reflecting_and_mail_ports_are_refused_by_default(port: int) -> None:
    """FAULTS 17: the relay is no reflector and no spammer."""
    denial = PeerPolicy().check(Address("1.1.1.1", port))
    assert denial is not None
    assert denial.reason == "port"
    assert port in DENIED_PORTS


def test_denied_ports_are_configurable() -> None:
    policy = PeerPolicy(denied_ports=[4000])
    assert policy.check(Address("1.1.1.1", 53)) is None
    assert policy.check(Address("1.1.1.1", 4000)) is not None
    with pytest.raises(ValueError, match="65536"):
        PeerPolicy(denied_ports=[65536])


@given(value=st.integers(0, 2**32 - 1), allow=st.booleans())
def test_every_spelling_of_an_ipv4_address_is_no_freer_than_the_address(value: int, allow: bool) -> None:
    """FAULTS 4, 5 as a rule: no IPv6 spelling is allowed where the plain IPv4 address is not."""
    policy = PeerPolicy(allow=EVERYTHING if allow else ())
    quad = ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))
    plain = policy.check_host(quad)
    for spelling in (f"::ffff:{quad}", f"64:ff9b::{quad}", f"::{quad}", f"::ffff:0:{quad}"):
        if spelling != "::0.0.0.1":  # that one is ::1, the loopback address, and no spelling of 0.0.0.1
            assert plain is None or policy.check_host(spelling) is not None


def test_cache_is_bounded_and_does_not_change_answers() -> None:
    policy = PeerPolicy()
    for value in range(20_000):
        policy.check_host(f"10.{value >> 8 & 255}.{value & 255}.{value >> 16}")
    assert len(policy._cache) <= 8192
    assert policy.check_host("10.0.0.1") is not None
    assert policy.check_host("8.8.8.8") is None
