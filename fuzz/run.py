"""One target under the fuzzer: ``python -m fuzz.run TARGET [libFuzzer options] [folders]``."""

from __future__ import annotations

import sys
import time

import atheris

for hook in ("RegEx", "str"):
    atheris.enabled_hooks.add(hook)
with atheris.instrument_imports(include=["natwalk"]):
    from fuzz.targets import TARGETS

SLOWEST = 0.05
"""Seconds of processor time one input may take."""


class SlowInput(Exception):
    """An input took too long, three times in a row."""


def main(arguments: list[str]) -> None:
    """Fuzz; does not return."""
    target = TARGETS[arguments[0]]

    def one(data: bytes) -> None:
        took = []
        while not took or (took[-1] > SLOWEST and len(took) < 3):
            begin = time.process_time()
            target(data)
            took.append(time.process_time() - begin)
        if min(took) > SLOWEST:
            raise SlowInput(f"{min(took):.3f} s")

    atheris.Setup([sys.argv[0], *arguments[1:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
