"""How commands speak: events as JSON on stdout, everything for people on stderr, one live line at its end."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Final

import click

from natwalk.cli.exit_codes import Explanation

if TYPE_CHECKING:
    from natwalk.transfer import Progress

Field = str | int | float | bool | None | list[str] | list[dict[str, str]]
_BAR: Final = 24
_UNITS: Final = ("kB", "MB", "GB", "TB", "PB", "EB")


class Output:
    """One command's voice. ``as_json`` silences the lines for people, but never the last error."""

    def __init__(self, *, as_json: bool = False, verbose: bool = False) -> None:
        self.as_json = as_json
        self.verbose = verbose
        self._live = not as_json and sys.stderr.isatty()
        self._live_width = 0

    def event(self, name: str, /, **fields: Field) -> None:
        """Print one event, when events are wanted. JSON escapes what a terminal might obey."""
        if self.as_json:
            click.echo(json.dumps({"event": name, **fields}))

    def say(self, text: str) -> None:
        """Print a line for people. Names from outside in it must have gone through ``shown``."""
        if not self.as_json:
            self.clear()
            click.echo(text, err=True)

    def detail(self, text: str) -> None:
        """Print a line for people who asked for more."""
        if self.verbose:
            self.say(f"  {text}")

    def failure(self, explanation: Explanation) -> None:
        """Say why the command failed and what to do, in both ways."""
        code, message, hint = explanation
        self.clear()
        self.event("error", code=int(code), name=code.name.lower(), message=message, hint=hint)
        click.echo(f"natwalk: {message}", err=True)
        if hint:
            click.echo(f"  {hint}", err=True)

    def progress(self, progress: Progress) -> None:
        """Tell how far a transfer is: an event, or the live line on a terminal."""
        self.event(
            "progress",
            bytes=progress.done,
            total=progress.total,
            resumed=progress.resumed,
            rate=round(progress.rate),
            seconds_left=None if progress.seconds_left is None else round(progress.seconds_left, 1),
            files=progress.files_done,
            files_total=progress.files_total,
        )
        if self._live:
            columns = shutil.get_terminal_size().columns
            self._show(progress_line(progress)[: max(columns - 1, 20)])

    def live(self, text: str) -> None:
        """Tell how far something is: on the live line of a terminal, else as a line for people."""
        if self._live:
            columns = shutil.get_terminal_size().columns
            self._show(text[: max(columns - 1, 20)])
        else:
            self.say(text)

    def clear(self) -> None:
        """Wipe the live line, so that the next line starts clean."""
        if self._live_width:
            self._live_width = 0
            click.echo("\r\x1b[K", err=True, nl=False)

    def _show(self, text: str) -> None:
        self._live_width = len(text)
        click.echo(f"\r{text}\x1b[K", err=True, nl=False)


def progress_line(progress: Progress) -> str:
    """``[####....]  42 %  1.2 MB of 3.0 MB  12 MB/s  3 s left  (2 of 5 files)``, as far as it is known."""
    share = progress.done / progress.total if progress.total else 1.0
    filled = int(share * _BAR)
    parts = [
        f"[{'#' * filled}{'.' * (_BAR - filled)}] {int(share * 100):3} %",
        f"{size_text(progress.done)} of {size_text(progress.total)}",
        f"{size_text(progress.rate)}/s",
    ]
    if progress.seconds_left is not None and progress.done < progress.total:
        parts.append(f"{duration_text(progress.seconds_left)} left")
    if progress.files_total > 1:
        parts.append(f"{progress.files_done} of {progress.files_total} files")
    return "  ".join(parts)


def size_text(size: float) -> str:
    """Bytes for people, in powers of a thousand: ``999 B``, ``1.2 MB``."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in _UNITS:
        size /= 1000
        if size < 999.5 or unit == _UNITS[-1]:
            break
    return f"{size:.1f} {unit}" if size < 99.95 else f"{size:.0f} {unit}"


def duration_text(seconds: float) -> str:
    """Seconds for people: ``0.4 s``, ``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def count_text(number: int, what: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
