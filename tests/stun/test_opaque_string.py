"""OpaqueString: the examples of RFC 8265 §4.3 and the rules of RFC 8264 behind them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natwalk.core import ProtocolError
from natwalk.stun import PreparationError, opaque_string
from natwalk.stun.opaque_string import LIMIT


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("correct horse battery staple", "correct horse battery staple"),
        ("Correct Horse Battery Staple", "Correct Horse Battery Staple"),
        ("\u03c0\u00df\u00e5", "\u03c0\u00df\u00e5"),
        ("Jack of \u2666s", "Jack of \u2666s"),
        ("foo\u1680bar", "foo bar"),  # OGHAM SPACE MARK
        ("a\u00a0b", "a b"),
        ("e\u0301", "\u00e9"),  # NFC
        ("\u212b", "\u00c5"),
        ("\u30de\u30c8\u30ea\u30c3\u30af\u30b9", "\u30de\u30c8\u30ea\u30c3\u30af\u30b9"),
        ("TheMatrIX", "TheMatrIX"),
        ("\u2168", "\u2168"),  # ROMAN NUMERAL NINE has a compatibility form and stays
        ("a", "a"),
        (" ", " "),
    ],
)
def test_what_is_allowed_is_prepared(text: str, prepared: str) -> None:
    assert opaque_string(text) == prepared


@pytest.mark.parametrize(
    "text",
    [
        "",
        "my cat is a \u0009by",
        "a\0b",
        "a\x7f",
        "a\x85",
        "\u00ad",  # soft hyphen
        "\u200e",  # left-to-right mark
        "a\u202eb",  # right-to-left override
        "\ufeff",
        "\u2028",
        "\ufdd0",
        "\U0001fffe",
        "\ue000",  # private use
        "\ud800",
        "\u0378",  # unassigned
        "\u1100",  # old Hangul jamo
        "\u0640",
        "\u0600",
        "\ufe0f",
        "\U000e0041",  # tag
    ],
)
def test_what_is_not_allowed_is_refused(text: str) -> None:
    """FAULTS 34: controls, bidi marks and what nobody sees."""
    with pytest.raises(PreparationError) as caught:
        opaque_string(text)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, ProtocolError)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("l\u00b7l", True),
        ("a\u00b7l", False),
        ("\u00b7", False),
        ("\u0375\u03b1", True),
        ("\u0375a", False),
        ("\u0375", False),
        ("\u05d0\u05f3", True),
        ("a\u05f4", False),
        ("\u05f3", False),
        ("\u30a2\u30fb\u30a2", True),
        ("\u6f22\u30fb", True),
        ("a\u30fb", False),
        ("\u30fb", False),
        ("\u0915\u094d\u200d\u0937", True),
        ("\u0915\u094d\u200c\u0937", True),
        ("a\u200db", False),
        ("\u200c", False),
        ("\u0661\u0662", True),
        ("\u06f1\u06f2", True),
        ("\u0661\u06f1", False),
    ],
)
def test_some_characters_depend_on_their_neighbours(text: str, allowed: bool) -> None:
    """RFC 5892 appendix A."""
    if allowed:
        assert opaque_string(text) == text
    else:
        with pytest.raises(PreparationError):
            opaque_string(text)


def test_a_non_joiner_between_joining_letters_is_refused() -> None:
    """The deviation from RFC 5892 §A.1: allowed there, but unicodedata does not tell joining types."""
    with pytest.raises(PreparationError):
        opaque_string("\u0628\u200c\u0628")


@pytest.mark.parametrize("text", ["a" * (LIMIT + 1), "\u00e9" * (LIMIT // 2 + 1), "\u3042" * LIMIT])
def test_length_is_bounded_in_bytes(text: str) -> None:
    """FAULTS 34: no password or username may be long."""
    with pytest.raises(PreparationError):
        opaque_string(text)


def test_errors_do_not_show_the_text() -> None:
    with pytest.raises(PreparationError) as caught:
        opaque_string("hunter2\0")
    assert "hunter" not in str(caught.value)
    assert "U+0000 at 7" in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=40))
def test_preparing_twice_is_preparing_once(text: str) -> None:
    try:
        once = opaque_string(text)
    except PreparationError:
        return
    assert opaque_string(once) == once
    assert unicodedata.is_normalized("NFC", once)
