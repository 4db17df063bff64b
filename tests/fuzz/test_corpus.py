"""Every committed input of the fuzz targets, without the fuzzer: what was found once is not found again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from fuzz.seeds import SEEDS  # noqa: E402
from fuzz.targets import TARGETS  # noqa: E402

from fuzz import CORPUS  # noqa: E402

MOST_BYTES = 1024


def inputs(name: str) -> list[bytes]:
    """The committed inputs of a target."""
    return [file.read_bytes() for file in sorted((CORPUS / name).iterdir())]


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found_in_the_corpus(name: str) -> None:
    corpus = inputs(name)
    assert corpus, f"no seeds for {name}"
    for data in corpus:
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found_in_damaged_seeds(name: str) -> None:
    """Each input cut short, and with a byte turned over: a fixed sample of what the fuzzer tries first."""
    for data in inputs(name)[:12]:
        TARGETS[name](data[: len(data) // 2])
        for index in range(0, len(data), max(1, len(data) // 8)):
            damaged = bytearray(data)
            damaged[index] ^= 0xFF
            TARGETS[name](bytes(damaged))


def test_the_corpus_is_small_and_of_targets_that_exist() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    sizes = [file.stat().st_size for file in CORPUS.rglob("*") if file.is_file()]
    assert max(sizes) <= MOST_BYTES
    assert len(sizes) <= 600


def test_the_seeds_are_in_the_corpus() -> None:
    for name, seeds in SEEDS.items():
        assert set(seeds) <= set(inputs(name))


def test_a_target_that_finds_something_says_so() -> None:
    """The assertions of targets are alive: python -O would make fuzzing pointless."""
    with pytest.raises(AssertionError):
        assert not TARGETS
