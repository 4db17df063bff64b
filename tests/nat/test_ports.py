from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nat.support import HOST, OTHER_HOST, PUBLIC, REMOTE, make, out
from natwalk.core import Address
from natwalk.nat import Allocation, Mapping, NatConfig
from natwalk.nat.ports import PortAllocator

EXCLUSIVE = [Allocation.PRESERVE, Allocation.SEQUENTIAL, Allocation.RANDOM]


def allocator(seed: int = 1, **fields: object) -> PortAllocator:
    config = NatConfig(**fields)  # type: ignore[arg-type]
    return PortAllocator(PUBLIC, config, Random(seed).randbytes)


def free(_: Address) -> bool:
    return False


def take(ports: PortAllocator, internal: int) -> int | None:
    address = ports.allocate(HOST.with_port(internal), free)
    return None if address is None else address.port


def test_preserve_gives_the_internal_port_until_somebody_has_it() -> None:
    nat = make(allocation=Allocation.PRESERVE)
    assert out(nat, HOST, REMOTE) == Address(PUBLIC, 5000)
    other = out(nat, OTHER_HOST, REMOTE)
    assert other.host == PUBLIC
    assert other.port != 5000


def test_preserve_stays_inside_the_range() -> None:
    assert take(allocator(ports=(40000, 40010)), 5000) in range(40000, 40011)


@pytest.mark.parametrize("step", [1, -1, 2, 7])
def test_sequential_goes_by_its_step(step: int) -> None:
    nat = make(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, allocation=Allocation.SEQUENTIAL, step=step)
    got = [out(nat, HOST, Address("203.0.113.10", port)).port for port in range(1, 20)]
    size = 65535 - 1024 + 1
    assert {(b - a - step) % size for a, b in pairwise(got)} == {0}


def test_sequential_skips_what_is_taken() -> None:
    ports = allocator(allocation=Allocation.SEQUENTIAL, ports=(100, 103))
    first = [take(ports, 1) for _ in range(3)]
    ports.release(first[1] or 0)
    fourth = take(ports, 1)
    assert fourth not in first
    assert take(ports, 1) == first[1]


def test_a_refused_address_is_passed_over() -> None:
    ports = allocator()
    address = ports.allocate(HOST, lambda a: a.port == 5000)
    assert address is not None
    assert address.port != 5000


@given(
    allocation=st.sampled_from(EXCLUSIVE),
    step=st.integers(-5, 5).filter(bool),
    first=st.integers(1, 60000),
    size=st.integers(1, 40),
    internal=st.integers(0, 65535),
    seed=st.integers(0, 1000),
)
def test_every_port_of_the_range_is_given_exactly_once_and_then_none(
    allocation: Allocation, step: int, first: int, size: int, internal: int, seed: int
) -> None:
    ports = allocator(seed, allocation=allocation, step=step, ports=(first, first + size - 1))
    got = [take(ports, internal) for _ in range(size)]
    assert sorted(p for p in got if p is not None) == list(range(first, first + size))
    assert take(ports, internal) is None
    ports.release(first)
    assert take(ports, internal) == first


@given(
    allocation=st.sampled_from(EXCLUSIVE),
    internal=st.lists(st.integers(0, 65535), min_size=1, max_size=30),
    seed=st.integers(0, 1000),
)
def test_parity_is_kept(allocation: Allocation, internal: list[int], seed: int) -> None:
    ports = allocator(seed, allocation=allocation, keep_parity=True)
    for port in internal:
        external = take(ports, port)
        assert external is not None
        assert external % 2 == port % 2


def test_parity_can_run_out_on_one_side_only() -> None:
    ports = allocator(keep_parity=True, ports=(10, 13))
    assert {take(ports, 2), take(ports, 4)} == {10, 12}
    assert take(ports, 6) is None
    assert take(ports, 7) in (11, 13)


def test_random_ports_spread_over_the_range() -> None:
    ports = allocator(allocation=Allocation.RANDOM)
    got = [take(ports, 5000) or 0 for _ in range(2000)]
    quarter = (65535 - 1024) // 4
    for n in range(4):
        assert 400 < sum(1024 + n * quarter <= port < 1024 + (n + 1) * quarter for port in got) < 600
