from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import Deadlines

STEPS = st.lists(
    st.tuples(st.sampled_from(["set", "cancel", "due"]), st.integers(0, 8), st.integers(0, 50)), max_size=80
)


@given(steps=STEPS)
def test_behaves_like_a_dictionary_of_deadlines(steps: list[tuple[str, int, int]]) -> None:
    """Against a plain dict: same keys due, in order of time, and the same next deadline."""
    deadlines: Deadlines[int] = Deadlines()
    model: dict[int, float] = {}
    for what, key, at in steps:
        if what == "set":
            deadlines.set(key, float(at))
            model[key] = float(at)
        elif what == "cancel":
            deadlines.cancel(key)
            model.pop(key, None)
        else:
            due = deadlines.due(float(at))
            assert sorted(due) == sorted(k for k, v in model.items() if v <= at)
            assert [model[k] for k in due] == sorted(model[k] for k in due)
            for k in due:
                del model[k]
        assert deadlines.next_timeout() == min(model.values(), default=None)
        assert len(deadlines) == len(model)
        assert deadlines.get(key) == model.get(key)


def test_memory_stays_proportional_to_keys_when_one_is_moved_for_ever() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for at in range(100_000):
        deadlines.set("only", float(at))
    assert len(deadlines._heap) <= 70
    assert deadlines.due(1e9) == ["only"]


def test_clear_forgets_everything() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 1.0)
    deadlines.clear()
    assert deadlines.next_timeout() is None
    assert deadlines.due(10.0) == []


def test_pop_due_takes_one_at_a_time_earliest_first() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for name, at in (("late", 9.0), ("early", 1.0), ("middle", 5.0)):
        deadlines.set(name, at)
    assert [deadlines.pop_due(6.0) for _ in range(3)] == ["early", "middle", None]
    assert deadlines.get("late") == 9.0


def test_a_key_set_again_for_the_same_time_is_due_once() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 1.0)
    deadlines.set("a", 1.0)
    assert deadlines.due(2.0) == ["a"]
