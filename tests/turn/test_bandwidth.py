"""FAULTS 62, 19: byte rates and amounts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk.turn import TurnLimits
from natwalk.turn.bandwidth import CAPACITY, LARGEST_FRAME, Meter

HOUR = 3600.0


def test_no_limit_no_meter() -> None:
    """The data plane of a server without limits pays nothing."""
    assert Meter.wanted(TurnLimits()) is None
    assert Meter.wanted(TurnLimits(bandwidth=1)) is not None
    assert Meter.wanted(TurnLimits(bytes_per_user_per_day=1)) is not None


def offered(meter: Meter, sizes: dict[str, tuple[float, int]], seconds: float) -> dict[str, tuple[int, int]]:
    """Users that send ``size`` bytes ``rate`` times a second: bytes that passed and that did not."""
    rng = random.Random(7)
    due = [(rng.random() / rate, name, rate, size) for name, (rate, size) in sizes.items()]
    passed = dict.fromkeys(sizes, 0)
    lost = dict.fromkeys(sizes, 0)
    times = [
        (first + n / rate, name, size) for first, name, rate, size in due for n in range(int(seconds * rate))
    ]
    for now, name, size in sorted(times):
        if meter.allow(name, size, 100.0 + now):
            passed[name] += size
        else:
            lost[name] += size
    return {name: (passed[name], lost[name]) for name in sizes}


def test_offender_is_shaped_and_nobody_else_notices() -> None:
    """FAULTS 62: one user at ten times its rate gets its rate, within a tenth; others lose nothing."""
    meter = Meter(TurnLimits(bandwidth_per_user=100_000))
    others: dict[str, tuple[float, int]] = {f"user{n}": (20.0, 1200) for n in range(100)}
    result = offered(meter, {"offender": (1000.0, 1000), **others}, 10.0)
    passed, lost = result.pop("offender")
    assert 0.9 <= (passed - LARGEST_FRAME) / 1_000_000 <= 1.1
    assert lost > 8_000_000
    assert all(lost == 0 for _, lost in result.values())
    assert meter.limited == 1
    assert meter.bytes_throttled == lost


def test_total_is_shared_so_that_one_cannot_take_it_all() -> None:
    """FAULTS 62 with only the server's rate: those within their share lose less than one in a thousand."""
    meter = Meter(TurnLimits(bandwidth=1_000_000))
    others: dict[str, tuple[float, int]] = {f"user{n}": (5.0, 1000) for n in range(100)}
    result = offered(meter, {"offender": (10_000.0, 1000), **others}, 5.0)
    passed, _ = result.pop("offender")
    quiet = sum(p for p, _ in result.values())
    assert sum(lost for _, lost in result.values()) < quiet / 1000
    assert 0.9 <= (passed + quiet - 250_000) / 5_000_000 <= 1.1


def test_lone_user_may_use_everything() -> None:
    meter = Meter(TurnLimits(bandwidth=1_000_000))
    passed, _ = offered(meter, {"alice": (2000.0, 1000)}, 5.0)["alice"]
    assert 0.9 <= (passed - 250_000) / 5_000_000 <= 1.1


@settings(max_examples=50, deadline=None)
@given(rate=st.integers(1, 10_000_000), size=st.integers(1, LARGEST_FRAME))
def test_one_frame_of_any_size_passes_whatever_the_rate(rate: int, size: int) -> None:
    """FAULTS 62: the burst is at least one frame, or a large frame would wait for ever."""
    for limits in (TurnLimits(bandwidth_per_user=rate), TurnLimits(bandwidth=rate)):
        assert Meter(limits).allow("alice", size, 5.0)


@settings(max_examples=50, deadline=None)
@given(
    rate=st.integers(1000, 1_000_000),
    chunks=st.lists(st.tuples(st.floats(0, 2), st.integers(1, LARGEST_FRAME)), min_size=1, max_size=60),
)
def test_never_more_than_rate_and_burst(rate: int, chunks: list[tuple[float, int]]) -> None:
    meter = Meter(TurnLimits(bandwidth_per_user=rate))
    now = start = 50.0
    passed = 0
    for pause, size in chunks:
        now += pause
        passed += size * meter.allow("alice", size, now)
        assert passed <= max(LARGEST_FRAME, rate * 0.25) + (now - start) * rate + 1


def test_stream_waits_instead_of_losing() -> None:
    """A TCP relay is slowed to its user's rate by pauses: DERP's back-pressure, not drops."""
    meter = Meter(TurnLimits(bandwidth_per_user=100_000))
    now, moved = 10.0, 0
    while now < 20.0:
        moved += LARGEST_FRAME
        now += meter.debit("alice", LARGEST_FRAME, now) + 0.001
    assert 0.9 <= (moved - LARGEST_FRAME) / 1_000_000 <= 1.15


def test_streams_share_the_total() -> None:
    meter = Meter(TurnLimits(bandwidth=1_000_000))
    moved = {"a": 0, "b": 0}
    ready = dict.fromkeys(moved, 10.0)
    while (now := min(ready.values())) < 20.0:
        name = min(ready, key=lambda n: ready[n])
        moved[name] += 32_768
        ready[name] = now + meter.debit(name, 32_768, now) + 0.001
    assert 0.85 <= sum(moved.values()) / 10_000_000 <= 1.2
    assert 0.8 <= moved["a"] / moved["b"] <= 1.25


def test_amount_of_a_day_is_for_any_24_hours() -> None:
    """FAULTS 19: a relay to one host that runs for days is bounded by what its user may move."""
    meter = Meter(TurnLimits(bytes_per_user_per_day=1_000_000))
    now = 0.5 * HOUR
    assert meter.allow("alice", 60_000, now)
    for _ in range(15):
        assert meter.allow("alice", 60_000, now + HOUR)
    assert not meter.allow("alice", 60_000, now + HOUR)
    assert meter.allow("bob", 60_000, now + HOUR)
    assert not meter.exhausted("alice", now + HOUR)
    assert meter.allow("alice", 40_000, now + 2 * HOUR)
    assert meter.exhausted("alice", now + 3 * HOUR)
    assert not meter.allow("alice", 1, now + 24 * HOUR)
    assert meter.allow("alice", 60_000, now + 25 * HOUR)
    assert not meter.allow("alice", 1, now + 25 * HOUR)
    assert meter.debit("alice", 1, now + 25 * HOUR) > 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 10 * HOUR), st.integers(1, 400)), max_size=100))
def test_no_window_of_24_hours_holds_more(steps: list[tuple[float, int]]) -> None:
    meter = Meter(TurnLimits(bytes_per_user_per_day=1000))
    now, passed = 0.0, []
    for pause, size in steps:
        now += pause
        if meter.allow("alice", size, now):
            passed.append((now, size))
        assert sum(size for at, size in passed if at > now - 24 * HOUR) <= 1000


def test_change_of_limits_does_not_give_the_day_back() -> None:
    old = Meter(TurnLimits(bytes_per_user_per_day=1000))
    assert old.allow("alice", 900, 5.0)
    new = Meter(TurnLimits(bytes_per_user_per_day=1000, bandwidth=50))
    new.inherit(old)
    assert not new.allow("alice", 200, 6.0)
    assert new.allow("alice", 100, 6.0)


def test_users_are_bounded() -> None:
    meter = Meter(TurnLimits(bandwidth=1))
    for n in range(CAPACITY + 10):
        meter.allow(f"user{n}", 1, 1.0)
    assert len(meter) == CAPACITY
    assert len(meter._active) <= CAPACITY


@pytest.mark.parametrize("name", ["bandwidth", "bandwidth_per_user", "bytes_per_user_per_day"])
def test_limits_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        TurnLimits(**{name: 0})  # type: ignore[arg-type]
