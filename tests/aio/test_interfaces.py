"""Which addresses of this machine are offered."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address
from types import SimpleNamespace

import pytest

from natwalk.aio import interfaces
from natwalk.aio.interfaces import local_addresses


def machine(
    monkeypatch: pytest.MonkeyPatch, addresses: dict[str, list[str]], default: str | None = None
) -> None:
    """A machine whose interfaces, all up, have these addresses, and a default route from ``default``."""
    adapters = [
        SimpleNamespace(
            name=name,
            ips=[SimpleNamespace(ip=text if "." in text else (text, 0, 0)) for text in texts],
        )
        for name, texts in addresses.items()
    ]
    monkeypatch.setattr(interfaces.ifaddr, "get_adapters", lambda: adapters)
    monkeypatch.setattr(interfaces, "_is_up", lambda name: not name.startswith("down"))
    monkeypatch.setattr(interfaces, "_default_sources", lambda: [ip_address(default)] if default else [])


def test_loopback_is_offered_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, {"lo": ["127.0.0.1", "::1"], "eth0": ["10.0.0.5"]})
    assert [str(ip) for ip in local_addresses()] == ["10.0.0.5"]
    assert [str(ip) for ip in local_addresses(loopback=True)] == ["10.0.0.5", "127.0.0.1", "::1"]


def test_only_the_interfaces_asked_for_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(
        monkeypatch, {"lo": ["127.0.0.1"], "eth0": ["10.0.0.5"], "tun0": ["10.9.0.1"]}, default="10.9.0.1"
    )
    assert [str(ip) for ip in local_addresses(interfaces=["eth0"])] == ["10.0.0.5"]
    assert local_addresses(interfaces=["eth7"]) == []


def test_a_machine_without_a_network_has_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, {"lo": ["127.0.0.1"]})
    assert local_addresses() == [IPv4Address("127.0.0.1")]


def test_link_local_addresses_and_interfaces_that_are_down_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine(monkeypatch, {"eth0": ["fe80::1%2", "169.254.3.4", "2001:db8::5"], "down0": ["10.9.9.9"]})
    assert [str(ip) for ip in local_addresses()] == ["2001:db8::5"]


def test_the_default_route_comes_first_and_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, {"docker0": ["172.17.0.1"], "eth0": ["10.0.0.5"], "alias": ["10.0.0.5"]}, "10.0.0.5")
    assert [str(ip) for ip in local_addresses()] == ["10.0.0.5", "172.17.0.1"]


def test_this_machine_has_an_address() -> None:
    """Whatever runs the tests has loopback at least, and it is up."""
    assert local_addresses()
    assert IPv4Address("127.0.0.1") in local_addresses(loopback=True)
    assert interfaces._is_up("lo")
    assert interfaces._is_up("no-such-interface")
