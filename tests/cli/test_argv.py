"""The code disappears from what ``ps`` shows."""

import subprocess
import sys

import pytest

from natwalk.cli import argv

PROGRAM = """
import sys
from natwalk.cli.argv import hide_argument
print(hide_argument(sys.argv[2]), hide_argument(""), hide_argument("not there"))
print(open("/proc/self/cmdline", "rb").read().replace(b"\\0", b" ").decode())
print(sys.argv[2])
"""


def test_the_argument_is_overwritten_where_others_see_it() -> None:
    arguments = [sys.executable, "-c", PROGRAM, "receive", "7-windy-bakery", "--yes"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    said, *shown, kept = done.stdout.rstrip("\n").split("\n")
    assert said == "True False False"
    assert "windy" not in "\n".join(shown)
    assert "receive xxxxxxxxxxxxxx --yes" in "\n".join(shown)
    assert kept == "7-windy-bakery"


def test_where_it_cannot_be_done_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(argv, "open", refuse, raising=False)
    assert not argv.hide_argument("x")
