from __future__ import annotations

import subprocess
import sys
from collections import Counter
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

from natwalk.nat import KINDS, PASSAGES, ROWS, Abilities, Outcome, Passage, between, expected
from natwalk.sim.grid import LABELS, grid_svg

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "nat-grid.svg"
SVG = "{http://www.w3.org/2000/svg}"
WORDS = {"direct": Outcome.DIRECT, "relay": Outcome.RELAY, "no path": Outcome.NONE}


def cells(svg: str) -> dict[str, str]:
    """What the picture says of each pair, by its tooltip."""
    found: dict[str, str] = {}
    for text in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        title = text.find(f"{SVG}title")
        if title is not None:
            assert title.text is not None
            assert text.text is not None
            found[title.text] = text.text
    return found


def test_the_picture_in_the_documentation_is_the_table() -> None:
    """After a change of the table: ``python -m natwalk.sim.grid > docs/explanation/nat-grid.svg``."""
    assert PAGE.read_text(encoding="utf-8") == grid_svg()


def test_every_cell_says_what_the_matrix_asserts() -> None:
    drawn = cells(grid_svg())
    assert len(drawn) == len(ROWS) ** 2
    for a, b in product(ROWS, ROWS):
        words = drawn[f"{a} and {b}"]
        assert WORDS[words.removesuffix(" *")] is between(a, b)
        assert words.endswith(" *") is (PASSAGES[a, b] is Passage.GUESSED)
    for a, b in product(KINDS, KINDS):
        assert WORDS[drawn[f"{a} and {b}"].removesuffix(" *")] is expected(a, b)


def test_what_can_be_guessed_and_relayed_over_tcp_is_drawn_so() -> None:
    everything = grid_svg(Abilities(guessing=True, relay_over_tcp=True))
    counted = Counter(cells(everything).values())
    guessed = sum(letter is Passage.GUESSED for letter in PASSAGES.values())
    assert counted["direct"] == Counter(cells(grid_svg()).values())["direct"] + guessed
    assert set(counted) == {"direct", "relay"}


def test_every_row_has_a_label() -> None:
    assert tuple(LABELS) == ROWS


def test_the_module_writes_it() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "natwalk.sim.grid"], capture_output=True, check=True, timeout=60
    )
    assert out.stdout.decode() == grid_svg()
