from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.rendezvous.limits import RendezvousLimits, SourceRates, TokenBucket, source_of


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_a_source_is_an_ipv4_address_or_an_ipv6_64(address: str, source: str) -> None:
    assert source_of(ip_address(address)) == source


def test_a_bucket_says_when_there_is_a_token() -> None:
    bucket = TokenBucket(0.5, 2, 100.0)
    assert [bucket.take(100.0), bucket.take(100.0)] == [0.0, 0.0]
    assert bucket.take(100.0) == 2.0
    assert bucket.take(101.0) == 1.0
    assert bucket.take(102.0) == 0.0
    assert bucket.take(50.0) > 0  # a clock that goes back gives nothing


@given(st.lists(st.floats(0, 5), max_size=80))
def test_no_pattern_of_requests_gets_more_than_the_rate_and_the_burst(gaps: list[float]) -> None:
    bucket = TokenBucket(1.0, 3, 0.0)
    now, granted = 0.0, 0
    for gap in gaps:
        now += gap
        granted += bucket.take(now) == 0.0
    assert granted <= 3 + now + 1e-6


def test_sources_and_kinds_are_counted_apart_in_a_table_of_fixed_size() -> None:
    rates = SourceRates({"x": 1, "y": 1}, rows=3)
    assert rates.take("a", "x", 0.0) == 0.0
    assert rates.take("a", "x", 0.0) > 0
    assert rates.take("a", "y", 0.0) == 0.0
    assert rates.take("b", "x", 0.0) == 0.0
    for n in range(1000):
        rates.take(f"attacker {n}", "x", 0.0)
    assert len(rates) == 3


def test_limits_are_positive() -> None:
    with pytest.raises(ValueError, match="mailboxes must be more than 0, not 0"):
        RendezvousLimits(mailboxes=0)
