"""The OpaqueString profile: how passwords and usernames are prepared (RFC 8265 §4.2).

Spaces of other scripts become U+0020, the rest is put in Normalization Form C, and what the PRECIS
FreeformClass (RFC 8264 §4.3) does not hold is refused: controls, characters nobody sees, unassigned ones.
Unicode's version is that of :mod:`unicodedata`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from natwalk.core import ProtocolError

LIMIT: Final = 763
"""Most bytes of UTF-8 a string may have, before and after preparation: what USERNAME may carry."""


class PreparationError(ProtocolError, ValueError):
    """A string is empty, too long, or has a character that no OpaqueString may have."""


def opaque_string(text: str) -> str:
    """``text`` prepared by the OpaqueString profile (RFC 8265 §4.2.2), or PreparationError.

    The error names the code point at fault and its position, never the text, which may be a password.
    """
    if not text:
        raise PreparationError("an empty string")
    if len(text) > LIMIT:
        raise PreparationError(f"a string of {len(text)} characters, more than {LIMIT}")
    if text.isascii() and text.isprintable():
        return text
    spaced = "".join(" " if unicodedata.category(c) == "Zs" else c for c in text)
    prepared = unicodedata.normalize("NFC", spaced)
    for at, char in enumerate(prepared):
        if not _allowed(prepared, at):
            raise PreparationError(f"U+{ord(char):04X} at {at} is not allowed here")
    if len(prepared.encode()) > LIMIT:
        raise PreparationError(f"a string of more than {LIMIT} bytes")
    return prepared


def _allowed(text: str, at: int) -> bool:
    """Whether the character at ``at`` may stand there: RFC 8264 §8 with the FreeformClass."""
    code = ord(text[at])
    if code in _DISALLOWED:
        return False
    rule = _CONTEXT.get(code)
    if rule is not None:
        return rule(text, at)
    if any(low <= code <= high for low, high in _REFUSED_RANGES) or code & 0xFFFE == 0xFFFE:
        return False
    return unicodedata.category(text[at]) not in _REFUSED_CATEGORIES


_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Controls, formats, unassigned, private use, surrogates, line and paragraph separators."""

_DISALLOWED: Final = frozenset(
    # Exceptions of RFC 5892 §2.6 that are not allowed in any class.
    {0x0640, 0x07FA, 0x302E, 0x302F, *range(0x3031, 0x3036), 0x303B}
)

_REFUSED_RANGES: Final = (
    # OldHangulJamo (RFC 5892 §2.9).
    (0x1100, 0x11FF),
    (0xA960, 0xA97C),
    (0xD7B0, 0xD7C6),
    (0xD7CB, 0xD7FB),
    # PrecisIgnorableProperties (RFC 8264 §9.13): default ignorable code points and noncharacters.
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFDD0, 0xFDEF),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)


def _script(char: str) -> str:
    """The first word of the character's name, which for the scripts asked about here is the script."""
    return unicodedata.name(char, "").split(" ", 1)[0]


def _after_virama(text: str, at: int) -> bool:
    """RFC 5892 §A.1 and §A.2: a joiner may follow a virama.

    Deviates from §A.1, which lets a non-joiner also stand between joining letters: unicodedata does not
    know which those are, so such strings are refused rather than guessed at.
    """
    return at > 0 and unicodedata.combining(text[at - 1]) == 9


def _between_l(text: str, at: int) -> bool:
    """RFC 5892 §A.3: the middle dot of Catalan."""
    return 0 < at < len(text) - 1 and text[at - 1] == text[at + 1] == "l"


def _before_greek(text: str, at: int) -> bool:
    """RFC 5892 §A.4: the Greek lower numeral sign."""
    return at + 1 < len(text) and _script(text[at + 1]) == "GREEK"


def _after_hebrew(text: str, at: int) -> bool:
    """RFC 5892 §A.5 and §A.6: geresh and gershayim."""
    return at > 0 and _script(text[at - 1]) == "HEBREW"


def _among_japanese(text: str, at: int) -> bool:
    """RFC 5892 §A.7: the katakana middle dot, beside any Hiragana, Katakana or Han."""
    others = (c for i, c in enumerate(text) if c != "\u30fb")
    return any(_script(c) in ("HIRAGANA", "KATAKANA", "CJK") for c in others)


def _without(low: int, high: int) -> Callable[[str, int], bool]:
    """RFC 5892 §A.8 and §A.9: the two sets of Arabic digits are not mixed."""
    return lambda text, at: not any(low <= ord(c) <= high for c in text)


_CONTEXT: Final = MappingProxyType(
    {
        0x00B7: _between_l,
        0x0375: _before_greek,
        0x05F3: _after_hebrew,
        0x05F4: _after_hebrew,
        0x200C: _after_virama,
        0x200D: _after_virama,
        0x30FB: _among_japanese,
        **dict.fromkeys(range(0x0660, 0x066A), _without(0x06F0, 0x06F9)),
        **dict.fromkeys(range(0x06F0, 0x06FA), _without(0x0660, 0x0669)),
    }
)
