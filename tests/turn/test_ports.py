from __future__ import annotations

import random
from collections import Counter

import pytest

from natwalk.turn.ports import choose_port, uniform


def test_ports_are_uniform() -> None:
    """FAULTS 47: chi-squared of 64,000 draws over 64 ports, far below any sensible threshold."""
    source = random.Random(7).randbytes
    draws = Counter(choose_port(range(50000, 50064), (), source) for _ in range(64_000))
    assert set(draws) == set(range(50000, 50064))
    chi_squared = sum((seen - 1000) ** 2 / 1000 for seen in draws.values())
    assert chi_squared < 110  # 63 degrees of freedom: p is about 0.0002


def test_last_free_port_is_found() -> None:
    ports = range(50000, 51000)
    used = set(ports) - {50777}
    assert choose_port(ports, used, random.Random(1).randbytes) == 50777
    assert choose_port(ports, set(ports), random.Random(1).randbytes) is None


def test_even_ports_on_request() -> None:
    source = random.Random(1).randbytes
    chosen = {choose_port(range(50000, 50010), (), source, even=True) for _ in range(200)}
    assert chosen == {50000, 50002, 50004, 50006, 50008}
    assert choose_port(range(50001, 50002), (), source, even=True) is None


def test_source_that_is_stuck_does_not_hang() -> None:
    assert 0 <= uniform(40_000, lambda n: b"\xff" * n) < 40_000


@pytest.mark.parametrize("limit", [0, 65537])
def test_limit_must_fit_two_bytes(limit: int) -> None:
    with pytest.raises(ValueError):
        uniform(limit, random.Random(1).randbytes)
