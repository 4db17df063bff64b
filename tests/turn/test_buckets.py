from __future__ import annotations

import pytest

from natwalk.core import Address
from natwalk.turn.buckets import Backoff, SourceLimit, TokenBuckets, source_of


def test_bucket_gives_its_burst_and_then_its_rate() -> None:
    buckets: TokenBuckets[str] = TokenBuckets(10.0, 20.0)
    assert sum(buckets.take("a", 0.0) for _ in range(100)) == 20
    assert sum(buckets.take("a", 0.01 * n) for n in range(1, 301)) == pytest.approx(30, abs=1)
    assert buckets.take("b", 3.0)


def test_table_is_bounded_and_forgets_the_least_recently_used() -> None:
    buckets: TokenBuckets[int] = TokenBuckets(1.0, 1.0, capacity=10)
    for key in range(1000):
        buckets.take(key, 0.0)
    assert len(buckets) == 10
    assert not buckets.take(999, 0.0)


def test_addresses_of_one_64_share_a_source_and_ports_do_not_matter() -> None:
    """FAULTS 41, 42."""
    assert source_of(Address("198.51.100.7", 1)) == source_of(Address("198.51.100.7", 2))
    assert source_of(Address("198.51.100.7", 1)) != source_of(Address("198.51.100.8", 1))
    assert source_of(Address("2001:db8:1:2::1", 1)) == source_of(Address("2001:db8:1:2:ffff::9", 1))
    one, other = source_of(Address("2001:db8:1:2::1", 1)), source_of(Address("2001:db8:1:3::1", 1))
    assert one.narrow != other.narrow
    assert one.wide == other.wide


def test_ipv4_and_ipv6_sources_never_collide() -> None:
    assert source_of(Address("0.0.0.1", 1)).narrow != source_of(Address("0:0:0:1::", 1)).narrow


def test_whole_64_gets_what_one_address_gets_and_a_48_eight_times_that() -> None:
    """FAULTS 42: 65,536 addresses of one /64, then of one /48, in fixed memory."""
    limit = SourceLimit(10.0, 20.0, capacity=100)
    granted = sum(limit.take(source_of(Address(f"2001:db8::{n:x}", 1)), 0.0) for n in range(65536))
    assert granted == 20
    limit = SourceLimit(10.0, 20.0, capacity=100)
    granted = sum(limit.take(source_of(Address(f"2001:db8:1:{n:x}::1", 1)), 0.0) for n in range(65536))
    assert granted == 160
    assert len(limit) <= 200


def test_backoff_doubles_up_to_its_longest_and_is_forgiven_by_success() -> None:
    backoff: Backoff[str] = Backoff(free=2, longest=8.0)
    now = 0.0
    waits = []
    for _ in range(8):
        backoff.fail("a", now)
        step = 0
        while backoff.blocked("a", now + step):
            step += 1
        waits.append(step)
        now += step
    assert waits == [0, 0, 1, 2, 4, 8, 8, 8]
    backoff.succeed("a")
    assert not backoff.blocked("a", now)
    assert len(backoff) == 0


def test_backoff_forgets_after_a_long_quiet_time_and_is_bounded() -> None:
    backoff: Backoff[int] = Backoff(free=1, longest=8.0, capacity=10)
    backoff.fail(0, 0.0)
    backoff.fail(0, 1000.0)
    assert not backoff.blocked(0, 1000.0)
    for key in range(100):
        backoff.fail(key, 1000.0)
    assert len(backoff) == 10


@pytest.mark.parametrize(("rate", "burst", "capacity"), [(0, 1, 1), (1, 0.5, 1), (1, 1, 0)])
def test_senseless_limits_are_refused(rate: float, burst: float, capacity: int) -> None:
    with pytest.raises(ValueError):
        TokenBuckets(rate, burst, capacity=capacity)


def test_a_64_over_its_rate_does_not_use_up_its_48() -> None:
    """FAULTS 42: one noisy host does not silence its neighbours."""
    limit = SourceLimit(10.0, 20.0)
    noisy = source_of(Address("2001:db8:7:1::1", 1))
    assert sum(limit.take(noisy, 100.0) for _ in range(10_000)) == 20
    assert limit.take(source_of(Address("2001:db8:7:2::1", 1)), 100.0)
