"""Every fault and attack that STUN, TURN and ICE have to survive has a test, or a reason why not.

``tests/data/faults.json`` lists the cases by number, groups A to E: "test", or the reason why a case is left
out. A test names its cases in its docstring, as in "FAULTS 26: …" or "FAULTS 39, 40 and 45: …".
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CASES: dict[str, str] = json.loads((TESTS / "data" / "faults.json").read_text(encoding="utf-8"))
TEST = "test"

NUMBERS = [
    *(*range(1, 6), 7, 8, 11, *range(13, 20)),  # A: peer policy, abuse of the relay
    *(20, *range(23, 39)),  # B: parsing and integrity
    *(*range(39, 43), 45, *range(47, 55)),  # C: before authentication
    *(55, *range(58, 61), *range(62, 68)),  # D: life of allocations, quota, resources
    *(*range(69, 73), 75, 76, *range(78, 89)),  # E: ICE
]

_ONE = r"(?:[A-K]\s+)?\d+"
_MENTION = re.compile(rf"\bFAULTS\s+({_ONE}(?:(?:,?\s+and\s+|,\s*){_ONE})*)")


def mentioned(text: str) -> set[int]:
    """The case numbers that ``text`` names."""
    return {int(number) for match in _MENTION.finditer(text) for number in re.findall(r"\d+", match[1])}


def docstrings(source: str) -> Iterator[str]:
    """The docstrings of the tests in a module, and of the classes that hold some."""
    for node in ast.walk(ast.parse(source)):
        test = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        if test or (isinstance(node, ast.ClassDef) and node.name.startswith("Test")):
            yield ast.get_docstring(node) or ""


def covered() -> set[int]:
    """The case numbers that the tests name."""
    return {
        number
        for file in TESTS.rglob("test_*.py")
        for text in docstrings(file.read_text(encoding="utf-8"))
        for number in mentioned(text)
    }


def test_every_case_of_the_five_groups_is_listed_in_order() -> None:
    assert list(CASES) == [str(number) for number in NUMBERS]


def test_every_case_has_its_test_or_a_reason() -> None:
    there = covered()
    missing = [number for number, word in CASES.items() if word == TEST and int(number) not in there]
    assert missing == []
    left_out = {number: word for number, word in CASES.items() if word != TEST}
    assert all(len(reason.split()) >= 3 for reason in left_out.values())
    assert [number for number in left_out if int(number) in there] == [], "these have tests: say so"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("FAULTS 26: a claim", {26}),
        ("FAULTS 23, 24, 45: silence", {23, 24, 45}),
        ("FAULTS C 39, 40 and 41 against it", {39, 40, 41}),
        ("FAULTS A 16, D 55, 59, 60 and RFC 8656 §7", {16, 55, 59, 60}),
        ("see RFC 8656 §9 (FAULTS 168, 143 and 76)", {168, 143, 76}),
        ("FAULTS.md, 12 cases", set()),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, numbers: set[int]) -> None:
    assert mentioned(text) == numbers
