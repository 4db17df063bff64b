"""Filters of addresses."""

from __future__ import annotations

from typing import Any

import pytest

from natwalk.core import Address
from natwalk.ice.address_filter import ANY_ADDRESS, AddressFilter, is_public

ONLY_V6 = AddressFilter(versions=frozenset({6}))
OFFICE = AddressFilter(allow=("10.0.0.0/8", "fd00::/8"), deny=("10.9.0.0/16",))
PORTS = AddressFilter(ports=(40_000, 40_010))


@pytest.mark.parametrize(
    ("chosen", "address", "reason"),
    [
        (ANY_ADDRESS, "192.0.2.1:1", None),
        (ONLY_V6, "192.0.2.1:5000", "its IP version is filtered"),
        (ONLY_V6, "[::ffff:192.0.2.1]:5000", "its IP version is filtered"),
        (ONLY_V6, "[2001:db8::1]:5000", None),
        (OFFICE, "10.1.2.3:5000", None),
        (OFFICE, "10.9.2.3:5000", "its network is filtered"),
        (OFFICE, "[64:ff9b::10.9.2.3]:5000", "its network is filtered"),
        (OFFICE, "192.0.2.1:5000", "its network is filtered"),
        (OFFICE, "[fd00::1]:5000", None),
        (PORTS, "192.0.2.1:39999", "its port is filtered"),
        (PORTS, "192.0.2.1:40010", None),
        (PORTS, "192.0.2.1:40011", "its port is filtered"),
    ],
)
def test_what_passes(chosen: AddressFilter, address: str, reason: str | None) -> None:
    assert chosen.refusal(Address.parse(address)) == reason


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"versions": frozenset()}, "IP versions"),
        ({"versions": frozenset({5})}, "5"),
        ({"ports": (0, 5)}, "ports 0 to 5"),
        ({"ports": (9, 5)}, "ports 9 to 5"),
        ({"allow": ("10.0.0.0/33",)}, "10.0.0.0/33"),
        ({"deny": ("10.0.0.1/8",)}, "host bits"),
    ],
)
def test_what_is_no_filter_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        AddressFilter(**changes)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("192.0.2.1", True),
        ("2001:db8::1", True),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("fd00::1", False),
        ("127.0.0.1", False),
        ("64:ff9b::a00:1", False),
    ],
)
def test_which_addresses_tell_nothing_of_a_private_network(address: str, public: bool) -> None:
    assert is_public(Address(address, 5)) is public
