"""Pings: their rhythm, their bound, the smoothed round trip."""

from __future__ import annotations

import pytest

from natwalk.secure.pinger import PINGS_IN_FLIGHT, Pinger


class Recorder:
    """Stands in for an engine."""

    def __init__(self) -> None:
        self.pings: list[int] = []

    def ping(self, uid: int) -> None:
        self.pings.append(uid)


def test_pings_at_the_interval_once_begun() -> None:
    pinger, engine = Pinger(15.0), Recorder()
    assert pinger.next_timeout() is None
    pinger.handle_timeout(engine, 50.0)  # type: ignore[arg-type]
    assert engine.pings == []
    pinger.ping(engine, 100.0)  # type: ignore[arg-type]
    assert pinger.next_timeout() == 115.0
    pinger.handle_timeout(engine, 114.9)  # type: ignore[arg-type]
    assert len(engine.pings) == 1
    pinger.handle_timeout(engine, 115.0)  # type: ignore[arg-type]
    assert len(set(engine.pings)) == 2
    assert pinger.next_timeout() == 130.0


def test_round_trip_is_smoothed_and_unknown_answers_are_ignored() -> None:
    pinger, engine = Pinger(15.0), Recorder()
    pinger.answered(1, 5.0)
    assert pinger.rtt is None
    pinger.ping(engine, 0.0)  # type: ignore[arg-type]
    pinger.answered(1, 0.08)
    pinger.answered(1, 9.0)
    assert pinger.rtt == pytest.approx(0.08)
    pinger.ping(engine, 10.0)  # type: ignore[arg-type]
    pinger.answered(2, 10.16)
    assert pinger.rtt == pytest.approx(0.09)


def test_unanswered_pings_are_forgotten() -> None:
    pinger, engine = Pinger(1.0), Recorder()
    for now in range(1000):
        pinger.ping(engine, float(now))  # type: ignore[arg-type]
    assert len(pinger._sent_at) == PINGS_IN_FLIGHT
    pinger.answered(1, 1000.0)
    assert pinger.rtt is None
