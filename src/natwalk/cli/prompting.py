"""Asking the user: for a code with word completion, for consent while a connection lives."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from contextlib import redirect_stdout, suppress
from typing import Final

import click

_LINE: Final = 4096


def ask_code() -> str | None:
    """A code from the prompt, with Tab completing its words; None at the end of the input.

    The prompt is on stderr. A misspelt code is asked for again on a terminal, because a wrong one would
    be burnt; otherwise :class:`natwalk.InvalidCode` is raised.
    """
    from natwalk.rendezvous import Code, InvalidCode

    interactive = sys.stdin.isatty()
    _enable_completion()
    while True:
        try:
            # input() would put the prompt on stdout, which belongs to data.
            with redirect_stdout(sys.stderr):
                text = input("Code: " if interactive else "")
            return str(Code.parse(text))
        except InvalidCode as error:
            if not interactive:
                raise
            click.echo(f"  {error}", err=True)
        except EOFError:
            return None


async def ask_yes_no(question: str) -> bool:
    """The answer to ``question`` on stderr; anything but yes is no. Cancelling leaves nothing behind."""
    click.echo(f"{question} [y/N] ", err=True, nl=False)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()

    def finish(line: bytes) -> None:
        if not answer.done():
            answer.set_result(line)

    def read() -> None:
        # A daemon thread on the bare descriptor: it holds no lock the interpreter's end would wait for.
        try:
            line = os.read(sys.stdin.fileno(), _LINE)
        except (OSError, ValueError):
            line = b""  # no standard input: nobody is there to say yes
        with suppress(RuntimeError):  # the loop is closed: nobody waits for the answer any more
            loop.call_soon_threadsafe(finish, line)

    threading.Thread(target=read, daemon=True, name="natwalk-answer").start()
    line = await answer
    if not line.endswith(b"\n"):
        click.echo(err=True)
    return line.strip().lower() in (b"y", b"yes")


def complete_code(text: str, state: int) -> str | None:
    """The ``state``-th way to complete ``text``, as readline asks for it."""
    from natwalk.rendezvous.codes import complete

    options = complete(text)
    return options[state] if state < len(options) else None


def _enable_completion() -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    try:
        import readline
    except ImportError:
        return  # a Python without readline: typing works, completion does not
    readline.set_completer_delims("")
    readline.set_completer(complete_code)
    readline.parse_and_bind("tab: complete")
