from __future__ import annotations

from natwalk.core import Address
from natwalk.nat import IpProtocol
from natwalk.nat.poison import Poison

UDP = IpProtocol.UDP

EXTERNAL = Address("198.51.100.1", 5000)
REMOTE = Address("203.0.113.10", 1)


def test_it_holds_for_its_time_and_for_its_pair() -> None:
    poison = Poison(30.0)
    poison.add(UDP, EXTERNAL, REMOTE, 0.0)
    assert poison.holds(UDP, EXTERNAL, REMOTE, 29.999)
    assert not poison.holds(UDP, EXTERNAL, REMOTE, 30.0)
    assert not poison.holds(UDP, EXTERNAL, REMOTE.with_port(2), 1.0)
    assert not poison.holds(IpProtocol.TCP, EXTERNAL, REMOTE, 1.0)


def test_a_repeated_probe_renews_it() -> None:
    poison = Poison(30.0)
    poison.add(UDP, EXTERNAL, REMOTE, 0.0)
    poison.add(UDP, EXTERNAL, REMOTE, 20.0)
    assert poison.holds(UDP, EXTERNAL, REMOTE, 49.0)
    assert len(poison) == 1


def test_it_is_bounded_and_prunes_what_is_over() -> None:
    poison = Poison(30.0)
    for port in range(1, Poison.LIMIT + 10):
        poison.add(UDP, EXTERNAL, REMOTE.with_port(port), 0.0)
    assert len(poison) == Poison.LIMIT
    assert not poison.holds(UDP, EXTERNAL, REMOTE.with_port(1), 0.0)
    poison.add(UDP, EXTERNAL, REMOTE, 30.0)
    assert len(poison) == 1
