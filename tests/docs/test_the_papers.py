"""The page of papers: written by its script, in line with arithmetic, and with pairs run here."""

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FEW = 50


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("the_papers", ROOT / "scripts" / "the_papers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


papers = script()
TEXT = papers.PAGE.read_text(encoding="utf-8")
PRINTED = papers.printed(TEXT)
QUESTIONS = papers.questions()


def off(share: float, truth: float, pairs: int) -> float:
    """By how many standard errors ``share`` is away."""
    return abs(share - truth) / math.sqrt(truth * (1 - truth) / pairs)


def test_the_page_is_what_the_script_writes() -> None:
    """Run ``python scripts/the_papers.py`` when this fails; it takes some minutes."""
    assert papers.page(lambda question: PRINTED[question.text]) == TEXT


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.text)
def test_figures_agree_with_arithmetic_and_with_pairs_run_now(question) -> None:
    assert off(PRINTED[question.text], question.direct, papers.PAIRS) < 3.5
    assert off(papers.simulated(question, FEW), question.direct, FEW) < 3.5


def test_ford_s_rates_come_out() -> None:
    assert QUESTIONS[0].direct == pytest.approx(310 / 380)
    assert QUESTIONS[1].direct == pytest.approx(0.24)


def test_the_libp2p_study_is_met_within_its_own_interval() -> None:
    share = PRINTED["two peers of 2026 behind NATs"]
    assert abs(share - 0.70) < 0.071
