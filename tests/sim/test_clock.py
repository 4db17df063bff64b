from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.sim import START, Alarm, Clock, SimulationError


def run(clock: Clock, until: float | None = None, max_events: int = 1000) -> bool:
    return clock.run(until, None, max_events)


@given(st.lists(st.integers(0, 5), max_size=30))
def test_calls_happen_in_order_of_time_and_ties_in_order_of_asking(delays: list[int]) -> None:
    clock, happened = Clock(), []
    for number, delay in enumerate(delays):
        clock.call_at(START + delay, lambda n, d: happened.append((clock.now, d, n)), number, delay)
    run(clock)
    assert happened == sorted((START + d, d, n) for n, d in enumerate(delays))


def test_time_starts_away_from_zero_and_stops_at_until() -> None:
    clock, happened = Clock(), []
    clock.call_at(START + 5, happened.append, "late")
    assert clock.now == START > 0
    assert not run(clock, until=START + 4)
    assert clock.now == START + 4
    assert not happened
    run(clock, until=START + 5)
    assert happened == ["late"]


def test_the_past_is_now() -> None:
    clock, times = Clock(), []
    clock.call_at(1.0, lambda: times.append(clock.now))
    run(clock)
    assert times == [START]


def test_stop_ends_a_run_at_once() -> None:
    clock, happened = Clock(), []
    for n in range(5):
        clock.call_at(START + n, happened.append, n)
    assert clock.run(None, lambda: len(happened) == 2, 100)
    assert happened == [0, 1]
    assert clock.now == START + 1


def test_a_loop_is_an_error_not_a_hang() -> None:
    clock = Clock()

    def again() -> None:
        clock.call_at(clock.now, again)

    again()
    with pytest.raises(SimulationError, match="still busy after 1000 events"):
        run(clock)


class TestAlarm:
    def test_rings_once_when_set(self) -> None:
        clock, rings = Clock(), []
        Alarm(clock, lambda: rings.append(clock.now)).set(START + 2)
        run(clock)
        assert rings == [START + 2]

    @pytest.mark.parametrize("changes", [[5.0, 3.0], [3.0, 5.0, 3.0], [9.0, 1.0, 3.0], [1.0, None, 3.0]])
    def test_the_last_setting_counts(self, changes: list[float | None]) -> None:
        clock, rings = Clock(), []
        alarm = Alarm(clock, lambda: rings.append(clock.now))
        for due in changes:
            alarm.set(None if due is None else START + due)
        run(clock)
        assert rings == [START + 3]

    def test_disarmed_it_stays_silent(self) -> None:
        clock, rings = Clock(), []
        alarm = Alarm(clock, lambda: rings.append(clock.now))
        alarm.set(START + 1)
        alarm.set(None)
        run(clock)
        assert rings == []

    def test_moving_it_later_a_thousand_times_leaves_one_call(self) -> None:
        clock = Clock()
        alarm = Alarm(clock, lambda: None)
        for n in range(1000):
            alarm.set(START + 1 + n)
        assert len(clock) == 1


def test_stop_may_come_true_with_the_last_event_allowed() -> None:
    clock, happened = Clock(), []
    clock.call_at(START, happened.append, 1)
    assert clock.run(None, lambda: bool(happened), 1)
