"""Names from the other side: what is refused, what is shown, how local names are made safe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import MalformedMessage
from natwalk.transfer.names import MAX_COMPONENT_BYTES, check_path, clean_name, numbered, shown

HOSTILE = [
    ("", "empty"),
    ("/etc/passwd", "absolute"),
    ("../x", "leaves"),
    ("a/../../x", "leaves"),
    ("a/./b", "leaves"),
    ("..", "leaves"),
    ("a//b", "empty"),
    ("a/", "empty"),
    ("C:\\Windows", "backslash"),
    ("C:", "drive"),
    ("c:evil", "drive"),
    ("ok/D:x", "drive"),
    ("..\\x", "backslash"),
    ("a\x00b", "control"),
    ("a\x1b[2Jb", "control"),
    ("line\nbreak", "control"),
    ("\x7f", "control"),
    ("\x9b31m", "control"),
    ("\udc80", "Unicode"),
    ("x" * 256, "longer"),
    ("/".join(["abc"] * 1100), "bytes long"),
    ("/".join(["a"] * 129), "nested"),
    ("evil.natwalk-part", "own files"),
    ("evil.natwalk-part/state.json", "own files"),
]


@pytest.mark.parametrize(("path", "reason"), HOSTILE)
def test_hostile_paths_are_refused_with_the_reason(path: str, reason: str) -> None:
    with pytest.raises(MalformedMessage, match=reason) as caught:
        check_path(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "path", ["a", "a/b/c.txt", ".profile", "~/.ssh/authorized_keys", "ünï/コード", "ab:c", "aux", "x…"]
)
def test_ordinary_paths_pass(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize("path", ["CON", "nul.txt", "a/COM1", "lpt9.tar.gz", "x.", "x ", "a<b", "q?"])
def test_names_only_windows_reserves_are_refused_there(path: str) -> None:
    check_path(path)
    with pytest.raises(MalformedMessage, match="Windows"):
        check_path(path, windows=True)
    check_path("console.txt", windows=True)


@given(st.text(min_size=1, max_size=60).filter(lambda name: "/" not in name))
def test_a_cleaned_name_always_passes_and_stays_itself(name: str) -> None:
    clean = clean_name(name)
    check_path(clean)
    assert clean_name(clean) == clean


def test_a_safe_name_is_not_changed_by_cleaning() -> None:
    assert clean_name("Ünïcode (1).txt") == "Ünïcode (1).txt"


@given(st.text())
def test_what_is_shown_is_always_printable(text: str) -> None:
    assert shown(text).isprintable()


def test_escapes_and_bidi_are_shown_not_obeyed() -> None:
    assert shown("a\x1b[31m\u202egpj.exe\U000e0001") == "a\\x1b[31m\\u202egpj.exe\\U000e0001"


def test_long_text_is_cut_in_the_middle() -> None:
    text = shown("a" * 300 + "end", limit=21)
    assert len(text) == 21
    assert text.endswith("end")
    assert "…" in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", "a (1).txt"),
        ("a.tar.gz", "a (1).tar.gz"),
        (".profile", ".profile (1)"),
        ("folder", "folder (1)"),
        ("..x", "..x (1)"),
    ],
)
def test_a_number_goes_before_the_ending(name: str, expected: str) -> None:
    assert numbered(name, 1) == expected


@given(st.text(min_size=1, max_size=255).filter(lambda n: "/" not in n), st.integers(1, 9999))
def test_a_numbered_name_fits_a_file_system(name: str, number: int) -> None:
    clean = clean_name(name)
    while len(clean.encode()) > MAX_COMPONENT_BYTES:
        clean = clean[:-1]
    result = numbered(clean, number)
    assert len(result.encode()) <= MAX_COMPONENT_BYTES
    assert f"({number})" in result
