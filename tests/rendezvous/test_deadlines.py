from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from natwalk.rendezvous.deadlines import Deadlines

operations = st.lists(
    st.tuples(st.sampled_from(["set", "cancel", "pop"]), st.integers(0, 5), st.integers(0, 20)), max_size=60
)


@given(operations)
def test_behaves_like_a_dictionary_of_deadlines(steps: list[tuple[str, int, int]]) -> None:
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
            popped = deadlines.pop_due(float(at))
            if popped is None:
                assert all(due > at for due in model.values())
            else:
                assert model.pop(popped) <= at
        assert deadlines.next_timeout() == min(model.values(), default=None)
        assert len(deadlines) == len(model)
        assert all(deadlines.get(key) == model.get(key) for key in range(6))


def test_setting_again_and_again_does_not_grow_the_heap() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for n in range(10_000):
        deadlines.set("one", float(n))
    assert len(deadlines._heap) <= 66
    assert deadlines.pop_due(1e9) == "one"
    assert deadlines.pop_due(1e9) is None
