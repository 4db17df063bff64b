"""Fuzzing (`make fuzz`): targets that eat any bytes, the seeds they start from, and what runs them.

``targets.TARGETS`` maps names to functions; a target returns, or raises because something is wrong. The
committed corpus runs as tests (tests/fuzz/test_corpus.py), without the fuzzer.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "fuzz" / "corpus"

if str(ROOT / "tests") not in sys.path:
    sys.path.append(str(ROOT / "tests"))  # turn_world: the network that the scripts of TURN play on
