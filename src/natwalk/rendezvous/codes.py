"""One-time codes: a nameplate for the server and two words that only the two users know.

``7-amber-falcon`` is nameplate 7 and 16 secret bits. The server is told the nameplate and never a word;
because one wrong guess burns the code (see :mod:`natwalk.rendezvous.secure_mailbox`), 16 bits give a
guesser one chance in 65,536.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from natwalk.core import NatError, RandomBytes
from natwalk.rendezvous.wordlist import FIRST, SECOND

MAX_NAMEPLATE: Final = 999_999
LISTS: Final[tuple[tuple[str, ...], ...]] = (FIRST, SECOND)
_SHORTEST_PREFIX: Final = 3
_MAX_TEXT: Final = 200
_EXAMPLE: Final = f"7-{FIRST[8]}-{SECOND[80]}"


class InvalidCode(NatError, ValueError):
    """What was typed is not a code; the message says which part is wrong and what was probably meant."""


@dataclass(frozen=True, slots=True)
class Code:
    """A nameplate (1..999999) and two words, one of each list; raises InvalidCode on anything else."""

    nameplate: int
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 1 <= self.nameplate <= MAX_NAMEPLATE:
            raise InvalidCode(f"a code starts with a number from 1 to {MAX_NAMEPLATE}")
        if len(self.words) != len(LISTS) or any(
            word not in words for word, words in zip(self.words, LISTS, strict=True)
        ):
            raise InvalidCode(f"a code is a number and two words of the list, like {_EXAMPLE}")

    @classmethod
    def generate(cls, nameplate: int, random_bytes: RandomBytes) -> Code:
        """A code for ``nameplate`` with two words drawn uniformly (256 words a list, one byte a word)."""
        drawn = random_bytes(len(LISTS))
        return cls(nameplate, tuple(words[byte] for words, byte in zip(LISTS, drawn, strict=True)))

    @classmethod
    def parse(cls, text: str) -> Code:
        """Read a code as people type it; raises InvalidCode saying what is wrong.

        Upper case, spaces, dots or underscores for hyphens, no separators at all and words cut short
        after three or more letters are all understood: each word has its first three letters to itself.
        A misspelt word is refused with the nearest word of the list, because a wrong guess would burn
        the code.
        """
        nameplate, rest = _split_nameplate(text)
        parts = [part for part in re.split(r"[^a-z]+", rest) if part]
        if len(parts) == 1:
            parts = _split_joined(parts[0])
        if len(parts) < len(LISTS):
            missing = "both words are" if not parts else "the second word is"
            raise InvalidCode(f"{missing} missing; a code looks like {_EXAMPLE}")
        if len(parts) > len(LISTS):
            raise InvalidCode(f"a code has two words, like {_EXAMPLE}; there are {len(parts)}")
        return cls(nameplate, tuple(_word(part, words) for part, words in zip(parts, LISTS, strict=True)))

    @property
    def password(self) -> bytes:
        """What the two sides prove to each other that they know: the whole code in canonical form."""
        return str(self).encode("ascii")

    def __str__(self) -> str:
        return "-".join((str(self.nameplate), *self.words))

    def __repr__(self) -> str:
        return f"Code(nameplate={self.nameplate}, words=<secret>)"


def complete(text: str) -> list[str]:
    """Every way to go on with what was typed, for a prompt's Tab key.

    Given ``7-am`` returns ``["7-amber-", "7-ample-"]``; given ``7-amber-fal`` returns
    ``["7-amber-falcon"]``. Returns [] when nothing fits or the nameplate is not typed yet.
    """
    typed = re.sub(r"[\s._-]+", "-", text[:_MAX_TEXT].lower().lstrip())
    nameplate, *words = typed.split("-")
    if not _is_nameplate(nameplate) or not 1 <= len(words) <= len(LISTS):
        return []
    *known, prefix = words
    if any(word not in words for word, words in zip(known, LISTS, strict=False)):
        return []
    last = len(words) == len(LISTS)
    return [
        "-".join((nameplate, *known, word)) + ("" if last else "-")
        for word in complete_word(prefix, len(known))
    ]


def complete_word(prefix: str, position: int) -> list[str]:
    """The words of list ``position`` (0 or 1) that start with ``prefix``, in alphabetical order."""
    return [word for word in LISTS[position] if word.startswith(prefix.lower())]


def _is_nameplate(text: str) -> bool:
    return bool(re.fullmatch(r"[1-9][0-9]{0,5}", text, re.ASCII))


def _split_nameplate(text: str) -> tuple[int, str]:
    if len(text) > _MAX_TEXT:
        raise InvalidCode(f"that is too long for a code; a code looks like {_EXAMPLE}")
    match = re.fullmatch(r"[\s\"'`]*([0-9]+)(.*?)[\s\"'`.]*", text.lower(), re.ASCII | re.DOTALL)
    if match is None:
        raise InvalidCode(f"a code starts with its number, like {_EXAMPLE}")
    digits, rest = match.group(1).lstrip("0"), match.group(2)
    if not _is_nameplate(digits):
        raise InvalidCode(f"a code starts with a number from 1 to {MAX_NAMEPLATE}")
    if re.search(r"[^a-z\s._,-]", rest):
        raise InvalidCode(f"after the number a code has only words of letters, like {_EXAMPLE}")
    return int(digits), rest


def _split_joined(letters: str) -> list[str]:
    """Both words of ``amberfalcon``; [letters] when it is not two whole words in a row."""
    for word in FIRST:
        if letters.startswith(word) and letters[len(word) :] in SECOND:
            return [word, letters[len(word) :]]
    return [letters]


def _word(part: str, words: Sequence[str]) -> str:
    if part in words:
        return part
    found = [word for word in words if len(part) >= _SHORTEST_PREFIX and word.startswith(part)]
    if len(found) == 1:
        return found[0]
    near = get_close_matches(part, words, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else "; check it with the sender"
    raise InvalidCode(f"{part!r} is not a word that codes use{hint}")
