from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import Timers, earliest

AT = st.floats(0, 1000)


@given(st.dictionaries(st.text(max_size=3), AT, max_size=20), AT)
def test_due_returns_exactly_what_has_come_earliest_first(deadlines: dict[str, float], now: float) -> None:
    timers: Timers[str] = Timers()
    for key, at in deadlines.items():
        timers.set(key, at)
    assert timers.next_timeout() == min(deadlines.values(), default=None)
    due = list(timers.due(now))
    assert set(due) == {k for k, at in deadlines.items() if at <= now}
    assert [deadlines[k] for k in due] == sorted(deadlines[k] for k in due)
    following = timers.next_timeout()
    assert following is None or following > now


def test_cancel_get_and_clear() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    timers.set("a", 3.0)
    assert timers.get("a") == 3.0
    timers.cancel("a")
    timers.cancel("a")
    assert timers.get("a") is None
    timers.set("b", 1.0)
    timers.clear()
    assert len(timers) == 0


def test_earliest_ignores_what_is_not_set() -> None:
    assert earliest(None, 3.0, 2.0, None) == 2.0
    assert earliest(None) is None
    assert earliest() is None
