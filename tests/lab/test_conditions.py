"""What a cable does to frames, on a clock of our own."""

from __future__ import annotations

from random import Random

import pytest

from natwalk.lab.conditions import IN_FLIGHT, QUEUE, Conditions, Shaper


def shaper(**conditions) -> Shaper:
    return Shaper(Conditions(**conditions), Random(7).random)


def test_a_frame_arrives_after_the_delay_and_not_before() -> None:
    way = shaper(delay=0.05)
    way.send(b"x", 1.0)
    assert way.next_arrival() == pytest.approx(1.05)
    assert way.arrived(1.049) == []
    assert way.arrived(1.051) == [b"x"]
    assert way.next_arrival() is None


def test_jitter_stays_in_its_bounds_and_keeps_order() -> None:
    way = shaper(delay=0.05, jitter=0.02)
    times = []
    for number in range(200):
        way.send(bytes([number]), number * 0.1)
        times.append(way.next_arrival() - number * 0.1)
        assert way.arrived(number * 0.1 + 0.08) == [bytes([number])]
    assert 0.03 <= min(times) < 0.04 < 0.06 < max(times) <= 0.07
    for number in range(50):
        way.send(bytes([number]), 100.0)
    assert way.arrived(200.0) == [bytes([number]) for number in range(50)]


@pytest.mark.parametrize(("loss", "burst"), [(0.1, 1.0), (0.1, 8.0), (0.3, 4.0)])
def test_loss_has_its_share_and_its_bursts(loss, burst) -> None:
    way = shaper(loss=loss, burst=burst)
    fates = []
    for _ in range(40_000):
        before = way.lost
        way.send(b"x", 0.0)
        way.arrived(1.0)
        fates.append(way.lost > before)
    runs = sum(fates[n] and not fates[n - 1] for n in range(1, len(fates)))
    assert sum(fates) / len(fates) == pytest.approx(loss, rel=0.15)
    assert sum(fates) / runs == pytest.approx(burst, rel=0.15)


def test_a_rate_spaces_frames_and_what_does_not_fit_the_queue_is_lost() -> None:
    way = shaper(rate=80_000)
    for _ in range(100):
        way.send(bytes(100), 0.0)  # ten milliseconds each
    assert way.lost == pytest.approx(100 - QUEUE / 0.01, abs=1)
    assert len(way.arrived(0.0501)) == 5


def test_frames_on_their_way_are_bounded() -> None:
    way = shaper(delay=10.0)
    for _ in range(IN_FLIGHT + 5):
        way.send(b"", 0.0)
    assert way.lost == 5


@pytest.mark.parametrize(
    "wrong", [{"delay": -1}, {"jitter": 0.1}, {"loss": 1.0}, {"burst": 0.5}, {"rate": 0.0}]
)
def test_conditions_that_cannot_be_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        Conditions(**wrong)
