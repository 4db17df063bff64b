"""File names from the other side: which ones may touch this disk, and how a terminal may show them.

A path in an offer is relative and uses ``/``. :func:`check_path` refuses every path that could leave the
output folder or surprise the file system; it is the first of two walls (the second is that storage opens
folders one component at a time and follows no symbolic link). :func:`shown` is the only way a name from
outside reaches a terminal. :func:`clean_name` is what a sender does to local names that the first wall would
refuse.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from natwalk.core import MalformedMessage

MAX_PATH_BYTES: Final = 4096
MAX_COMPONENT_BYTES: Final = 255
MAX_DEPTH: Final = 128
"""Components of one path."""
PART_SUFFIX: Final = ".natwalk-part"
"""Ends the name of the folder that holds what has been received so far."""

_DRIVE: Final = re.compile(r"[A-Za-z]:")
_WINDOWS_DEVICE: Final = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?")
_WINDOWS_FORBIDDEN: Final = frozenset('<>:"|?*')


def shown(text: str, limit: int = 200) -> str:
    r"""``text`` for a terminal: everything that is not plainly printable becomes an escape like ``\x1b``.

    That covers control characters, bidirectional overrides, zero-width characters and undecodable bytes.
    A result longer than ``limit`` characters is cut in the middle.
    """
    plain = "".join(c if c.isprintable() else _escape(c) for c in text)
    if len(plain) <= limit:
        return plain
    half = (limit - 1) // 2
    return f"{plain[:half]}…{plain[-half:]}"


def check_path(path: str, *, windows: bool = False) -> None:
    """Accept ``path`` from the other side, or raise :class:`MalformedMessage` naming it and the reason.

    ``windows`` adds the names that only Windows reserves.
    """
    reason = _path_fault(path, windows)
    if reason is not None:
        raise MalformedMessage(f"the name {shown(path)!s} is refused: {reason}")


def clean_name(name: str) -> str:
    """``name``, one component, with everything :func:`check_path` refuses replaced by ``_``.

    Returns ``name`` itself when nothing has to change.
    """
    text = "".join("_" if _is_unsafe(c) else c for c in name)
    if _DRIVE.match(text):
        text = f"{text[0]}_{text[2:]}"
    if text.endswith(PART_SUFFIX):
        text += "_"
    return text if text not in ("", ".", "..") else "_" * max(1, len(text))


def numbered(name: str, number: int) -> str:
    """``name`` with `` (number)`` before its ending, within the length a file system takes.

    ``a.txt`` gives ``a (1).txt``, ``a.tar.gz`` gives ``a (1).tar.gz``, ``.profile`` gives ``.profile (1)``.
    """
    stem, dot, ending = name.rpartition(".")
    if not stem.strip("."):
        stem, dot, ending = name, "", ""
    elif stem.endswith(".tar"):
        stem, ending = stem[:-4], f"tar.{ending}"
    tail = f" ({number}){dot}{ending}"
    room = max(0, MAX_COMPONENT_BYTES - len(tail.encode()))
    return stem.encode()[:room].decode(errors="ignore") + tail


def _path_fault(path: str, windows: bool) -> str | None:
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "it is not Unicode"
    if size > MAX_PATH_BYTES:
        return f"it is {size} bytes long; {MAX_PATH_BYTES} is the most"
    if path.startswith("/"):
        return "it is absolute"
    components = path.split("/")
    if len(components) > MAX_DEPTH:
        return f"it is nested deeper than {MAX_DEPTH} folders"
    if components[0].endswith(PART_SUFFIX):
        return f"{PART_SUFFIX} is for natwalk's own files"
    return next((fault for c in components if (fault := _component_fault(c, windows)) is not None), None)


def _component_fault(name: str, windows: bool) -> str | None:
    if not name:
        return "a part of it is empty"
    if name in (".", ".."):
        return f"{name!r} leaves the folder"
    if len(name.encode()) > MAX_COMPONENT_BYTES:
        return f"a part of it is longer than {MAX_COMPONENT_BYTES} bytes"
    if "\\" in name:
        return "it has a backslash"
    if any(_is_unsafe(c) for c in name):
        return "it has a control character"
    if _DRIVE.match(name):
        return "it names a drive"
    return _windows_fault(name) if windows else None


def _windows_fault(name: str) -> str | None:
    if _WINDOWS_DEVICE.fullmatch(name):
        return "Windows reserves it for a device"
    if name[-1] in " .":
        return "Windows drops a space or dot at its end"
    if not _WINDOWS_FORBIDDEN.isdisjoint(name):
        return "Windows forbids one of its characters"
    return None


def _is_unsafe(character: str) -> bool:
    return character == "\\" or unicodedata.category(character) in ("Cc", "Cs")


def _escape(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
