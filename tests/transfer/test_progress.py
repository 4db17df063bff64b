"""Progress: rate over the last seconds, time left, never more than ten reports a second."""

from natwalk.transfer.progress import INTERVAL, WINDOW, Progress, ProgressMeter


def test_the_rate_is_over_the_window_and_without_resumed_bytes() -> None:
    meter = ProgressMeter(1000, 2, 0.0)
    meter.done = meter.resumed = 400
    assert meter.due(0.0)
    for tenth in range(1, 101):
        meter.done += 3
        assert meter.due(tenth * 0.1001)
    reading = meter.reading(10.01)
    assert abs(reading.rate - 30) < 1
    assert reading.done == 700
    assert reading.resumed == 400
    assert reading.seconds_left is not None
    assert abs(reading.seconds_left - 10) < 0.5
    assert meter.moved == 300


def test_reports_are_at_most_ten_a_second() -> None:
    meter = ProgressMeter(10, 1, 0.0)
    assert sum(meter.due(n / 1000) for n in range(1001)) <= 11


def test_nobody_knows_the_time_left_at_rest() -> None:
    meter = ProgressMeter(10, 1, 0.0)
    assert meter.reading(0.0).seconds_left is None
    meter.done = 5
    assert meter.due(1.0)
    for n in range(1, 200):
        meter.due(1.0 + n * INTERVAL)
    assert meter.reading(1.0 + 4 * WINDOW).rate == 0


def test_a_reading_is_a_value() -> None:
    assert Progress(1, 2, 0, 1.0, 0, 1, "a").seconds_left == 1.0
