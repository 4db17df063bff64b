from __future__ import annotations

from ipaddress import IPv6Address

import pytest
from ifaddr import IP, Adapter

from natwalk.server import addresses


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two IPv4 interfaces, one IPv6, loopback, and a route over the second."""
    mine = ["10.0.0.2", "203.0.113.5", "2001:db8::5", "127.0.0.1", "::1"]
    monkeypatch.setattr(addresses, "interface_addresses", lambda: mine)
    monkeypatch.setattr(
        addresses, "default_route_address", lambda version: "203.0.113.5" if version == 4 else None
    )


@pytest.mark.usefixtures("machine")
class TestChoosing:
    def test_wildcards_become_every_address_of_their_version(self) -> None:
        assert addresses.expand(["0.0.0.0"]) == ["10.0.0.2", "203.0.113.5", "127.0.0.1"]
        assert addresses.expand(["::", "10.0.0.2", "198.51.100.1"]) == [
            "2001:db8::5",
            "::1",
            "10.0.0.2",
            "198.51.100.1",
        ]

    def test_relays_use_the_address_towards_the_internet(self) -> None:
        assert addresses.default_relay_addresses(addresses.expand(["0.0.0.0", "::"])) == [
            "203.0.113.5",
            "2001:db8::5",
        ]
        assert addresses.default_relay_addresses(["10.0.0.2"]) == ["10.0.0.2"]
        assert addresses.default_relay_addresses(["0.0.0.0"]) == ["203.0.113.5"]
        assert addresses.default_relay_addresses(["::"]) == []

    def test_loopback_is_a_relay_address_only_when_there_is_nothing_else(self) -> None:
        assert addresses.default_relay_addresses(["127.0.0.1"]) == ["127.0.0.1"]
        assert addresses.default_relay_addresses(["10.0.0.2", "::1"]) == ["10.0.0.2"]


def test_a_wildcard_stays_when_the_machine_has_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "interface_addresses", list)
    assert addresses.expand(["0.0.0.0"]) == ["0.0.0.0"]


def test_this_machine_has_loopback_last_and_no_link_local_address() -> None:
    mine = addresses.interface_addresses()
    assert "127.0.0.1" in mine
    assert not any(host.startswith(("fe80", "169.254")) for host in mine)
    assert all(host.startswith(("127.", "::1")) for host in mine[mine.index("127.0.0.1") :])
    for version in (4, 6):
        routed = addresses.default_route_address(version)
        assert routed is None or routed in mine
    assert addresses.default_listen()[0] == "0.0.0.0"


def test_an_address_that_cannot_be_bound_yet_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    tentative = IPv6Address("2001:db8::5")
    monkeypatch.setattr(
        addresses.ifaddr,
        "get_adapters",
        lambda: [
            Adapter("eth0", "eth0", [IP((str(tentative), 0, 0), 64, "eth0"), IP("127.0.0.1", 8, "eth0")])
        ],
    )
    assert addresses.interface_addresses() == ["127.0.0.1"]


def test_a_machine_without_ipv6_listens_on_ipv4_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_bindable", lambda ip: ip.version == 4)
    assert addresses.default_listen() == ["0.0.0.0"]
