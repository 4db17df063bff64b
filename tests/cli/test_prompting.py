"""Prompts: completion of words, misspelt codes asked again, and an answer only when there is one."""

import asyncio
import io
import os
import sys
from collections.abc import Iterator

import pytest

from natwalk import InvalidCode
from natwalk.cli import prompting
from natwalk.cli.prompting import ask_code, ask_yes_no, complete_code
from natwalk.rendezvous import Code

CODE = str(Code.generate(7, lambda n: bytes(n)))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_tab_completes_words() -> None:
    first = CODE.rsplit("-", 1)[0]
    assert complete_code(f"{first[:-1]}", 0) == f"{first}-"
    assert complete_code("nothing", 0) is None


def test_a_code_comes_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{CODE.upper()}\n"))
    assert ask_code() == CODE
    assert ask_code() is None
    monkeypatch.setattr(sys, "stdin", io.StringIO("7-zzzz-qqqq\n"))
    with pytest.raises(InvalidCode):
        ask_code()
    assert capsys.readouterr().out == ""


def test_a_person_is_asked_again_and_nothing_is_on_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(f"what\n{CODE}\n"))
    assert ask_code() == CODE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("Code: ") == 2
    assert "starts with its number" in err


def test_completion_is_installed_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    readline = pytest.importorskip("readline")
    monkeypatch.setattr(sys, "stdin", Terminal(f"{CODE}\n"))
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert ask_code() == CODE
    assert readline.get_completer() is complete_code
    readline.set_completer(None)


def test_a_python_without_readline_still_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "readline", None)
    monkeypatch.setattr(sys, "stdin", Terminal(f"{CODE}\n"))
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert ask_code() == CODE


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The descriptor to type on."""
    reading, writing = os.pipe()
    with open(reading) as stdin, open(writing, "wb", buffering=0) as typed:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield typed.fileno()


@pytest.mark.parametrize(
    ("typed", "answer"),
    [(b"y\n", True), (b" YES \n", True), (b"n\n", False), (b"\n", False), (b"what\n", False), (b"y", True)],
)
async def test_only_yes_is_yes(keyboard: int, typed: bytes, answer: bool) -> None:
    os.write(keyboard, typed)
    async with asyncio.timeout(5):
        assert await ask_yes_no("Receive this?") is answer


async def test_nobody_there_is_no(keyboard: int, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nobody, sys.stdin.fileno())
    os.close(nobody)
    async with asyncio.timeout(5):
        assert await ask_yes_no("Receive this?") is False
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # has no descriptor
    async with asyncio.timeout(5):
        assert await ask_yes_no("Receive this?") is False


async def test_a_question_can_be_given_up(keyboard: int) -> None:
    asked = asyncio.ensure_future(ask_yes_no("Receive this?"))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    os.write(keyboard, b"y\n")
    for thread in prompting.threading.enumerate():
        if thread.name == "natwalk-answer":
            await asyncio.to_thread(thread.join, 5)
            assert not thread.is_alive()
