"""The lines of a ``turnserver.conf``: a key, and a value after ``=`` or white space, quoted or not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_SETTING: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]*)\s*(?:[=\s]\s*(.*))?")
_COMMENT: Final = re.compile(r"\s+#.*")
_VERBATIM: Final = frozenset(
    {
        "user",
        "static-auth-secret",
        "cli-password",
        "pkey-pwd",
        "psql-userdb",
        "mysql-userdb",
        "mongo-userdb",
        "redis-userdb",
        "redis-statsdb",
        "rest-api-separator",
    }
)
"""Keys whose values may have a ``#`` in them: nothing in these lines is a comment."""
_FALSE: Final = frozenset({"0", "off", "no", "false", "f"})
_TRUE: Final = frozenset({"", "1", "on", "yes", "true", "t"})


@dataclass(frozen=True, slots=True)
class Setting:
    """One line: its number, counted from 1, its key, and its value without quotes ("" for a bare flag)."""

    line: int
    key: str
    value: str = field(default="", repr=False)

    @property
    def is_off(self) -> bool:
        """True for a flag that is set to one of coturn's words for no."""
        return self.value.lower() in _FALSE

    @property
    def is_flag(self) -> bool:
        """True when the value is a word for yes or no, or missing."""
        return self.value.lower() in _FALSE | _TRUE


def parse(text: str) -> Iterator[Setting]:
    """The settings of ``text`` in their order; a line that has no key comes as one with the key "".

    What it says is not repeated: it may be a secret in the wrong place.
    """
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _SETTING.fullmatch(stripped)
        if match is None:
            yield Setting(number, "")
            continue
        key, value = match[1], match[2] or ""
        if value[:1] in ("'", '"') and (end := value.find(value[0], 1)) > 0:
            value = value[1:end]
        elif key not in _VERBATIM:
            value = _COMMENT.sub("", f" {value}" if value.startswith("#") else value)
        yield Setting(number, key, value.strip())
