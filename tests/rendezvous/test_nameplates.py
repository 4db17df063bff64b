from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from natwalk.rendezvous.messages import FailureCode
from natwalk.rendezvous.nameplates import Nameplates


def band(number: int) -> int:
    return len(str(number))


class NameplateModel(RuleBasedStateMachine):
    """Numbers against a dictionary: free, waiting, or resting with an answer."""

    RESTING = 4

    def __init__(self) -> None:
        super().__init__()
        self.real = Nameplates(Random(7).randbytes, resting_limit=self.RESTING)
        self.waiting: dict[int, str] = {}
        self.resting: dict[int, FailureCode] = {}
        self.made = 0

    @rule()
    def allocate(self) -> None:
        self.made += 1
        number = self.real.allocate(f"box {self.made}")
        assert number is not None
        taken = self.waiting.keys() | self.resting.keys()
        assert number not in taken
        low = 10 ** (band(number) - 1)
        assert all(n in taken for n in range(1, low)), "a shorter number was free"
        self.waiting[number] = f"box {self.made}"

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), answer=st.sampled_from([FailureCode.CROWDED, FailureCode.EXPIRED]))
    def rest(self, data: Any, answer: FailureCode) -> None:
        number = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[number]
        self.real.rest(number, answer)
        self.resting[number] = answer
        if len(self.resting) > self.RESTING:
            del self.resting[next(iter(self.resting))]

    @rule(number=st.integers(1, 30))
    def release(self, number: int) -> None:
        self.real.release_resting(number)
        self.resting.pop(number, None)

    @invariant()
    def agrees(self) -> None:
        assert len(self.real) == len(self.waiting) + len(self.resting)
        for number in range(1, 120):
            plate = self.real.get(number)
            if number in self.waiting:
                assert plate is not None
                assert (plate.mailbox, plate.refusal) == (self.waiting[number], None)
            elif number in self.resting:
                assert plate is not None
                assert plate.refusal is self.resting[number]
            else:
                assert plate is None


TestNameplateModel = NameplateModel.TestCase
TestNameplateModel.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_the_first_nine_have_one_digit_and_come_in_no_order() -> None:
    orders = set()
    for seed in range(5):
        plates = Nameplates(Random(seed).randbytes, resting_limit=1)
        first = [plates.allocate("x") for _ in range(9)]
        assert sorted(n or 0 for n in first) == list(range(1, 10))
        orders.add(tuple(first))
        assert 10 <= (plates.allocate("x") or 0) <= 99
    assert len(orders) > 1


def test_large_bands_are_searched_at_random_and_running_out_is_said() -> None:
    plates = Nameplates(Random(1).randbytes, resting_limit=1)
    numbers = {plates.allocate("x") for _ in range(1500)}
    assert len(numbers) == 1500
    assert max(n or 0 for n in numbers) <= 9999
    stuck = Nameplates(lambda n: bytes(n), resting_limit=1)  # a source that always draws the lowest
    seen = [stuck.allocate("x") for _ in range(1010)]
    assert seen[:9] == list(range(1, 10))
    assert None in seen
