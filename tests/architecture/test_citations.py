"""Every section of an RFC that the code and the documents cite exists (STYLE.md §6).

``tests/data/rfc_sections.json`` lists the RFCs with the titles of their sections, those cited and neighbours.
``source`` says how the list of an RFC was checked: against its text, against its last draft, or from memory.
Whoever cites a section that is not listed adds it there, with the title the RFC gives it.
"""

import io
import json
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LIST = ROOT / "tests" / "data" / "rfc_sections.json"
RFCS: dict[str, dict[str, Any]] = json.loads(LIST.read_text(encoding="utf-8"))
SOURCES = {"text", "draft", "memory"}

FILES = sorted(
    [
        *(ROOT / "src" / "natwalk").rglob("*.py"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "changes").rglob("*.md"),
        *ROOT.glob("*.md"),
    ]
)

NUMBER = r"(?:[1-9]\d*|[A-Z])(?:\.[1-9]\d*)*"
MENTION = re.compile(
    rf"""
      \bRFC\s*(?P<rfc>\d+)
    | (?P<other>[\w./-]+\.md)\b
    | §\s*(?P<section>{NUMBER})?
    | \b[Aa]ppendix\s+(?P<appendix>{NUMBER})
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Citation:
    """One mention of an RFC (``section`` None) or of a section, with the RFC named last before it."""

    line: int
    rfc: str | None
    section: str | None

    def fault(self) -> str | None:
        """What is wrong with it, or None."""
        if self.rfc is None:
            return f"§{self.section} follows no RFC"
        if self.rfc not in RFCS:
            return f"RFC {self.rfc} is not listed"
        if self.section == "":
            return f"a § after RFC {self.rfc} has no number"
        if self.section is not None and self.section not in RFCS[self.rfc]["sections"]:
            return f"RFC {self.rfc} §{self.section} is not listed"
        return None


def citations(text: str, *, python: bool) -> list[Citation]:
    """All citations in the strings and comments of a module, or in the paragraphs of a document."""
    found: list[Citation] = []
    for first, passage in _python_passages(text) if python else _paragraphs(text):
        named: str | None = None
        elsewhere = False  # the document named last is none of the IETF's
        for match in MENTION.finditer(passage):
            line = first + passage.count("\n", 0, match.start())
            if match["rfc"]:
                named, elsewhere = match["rfc"], False
                found.append(Citation(line, named, None))
            elif match["other"]:
                elsewhere = True
            elif not elsewhere:
                found.append(Citation(line, named, match["section"] or match["appendix"] or ""))
    return found


def _python_passages(text: str) -> Iterator[tuple[int, str]]:
    """Every string, and every comment with the comment lines that continue it, with its first line."""
    comment: list[str] = []
    start = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            alone = not token.line[: token.start[1]].strip()
            if comment and not (alone and token.start[0] == start + len(comment)):
                yield start, "\n".join(comment)
                comment = []
            if not comment:
                start = token.start[0]
            comment.append(token.string.lstrip("#"))
        elif tokenize.tok_name[token.type] in {"STRING", "FSTRING_MIDDLE"}:
            yield token.start[0], token.string
    if comment:
        yield start, "\n".join(comment)


def _paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """Every run of lines that are not blank, with its first line."""
    line = 1
    for part in re.split(r"(\n\s*\n)", text):
        yield line, part
        line += part.count("\n")


def faults(text: str, name: str, *, python: bool = True) -> list[str]:
    """``name:line: what is wrong`` for every citation that is wrong."""
    judged = ((citation, citation.fault()) for citation in citations(text, python=python))
    return list(dict.fromkeys(f"{name}:{citation.line}: {fault}" for citation, fault in judged if fault))


def order(section: str) -> tuple[tuple[bool, int], ...]:
    """Sorts sections as RFCs do: by number, appendices after."""
    return tuple(
        (not part.isdigit(), int(part) if part.isdigit() else ord(part)) for part in section.split(".")
    )


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_every_section_cited_is_listed(file: Path) -> None:
    name = str(file.relative_to(ROOT))
    found = faults(file.read_text(encoding="utf-8"), name, python=file.suffix == ".py")
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("rfc", RFCS)
def test_an_entry_is_well_formed(rfc: str) -> None:
    entry = RFCS[rfc]
    assert re.fullmatch(r"[1-9]\d{2,4}", rfc)
    assert set(entry) == {"title", "source", "sections"}
    assert entry["source"] in SOURCES
    assert all(re.fullmatch(NUMBER, section) for section in entry["sections"])
    assert list(entry["sections"]) == sorted(entry["sections"], key=order)
    for title in (entry["title"], *entry["sections"].values()):
        assert isinstance(title, str)
        assert re.search(r"[A-Za-z]{2}", title), title
        assert title == " ".join(title.split()).rstrip("."), title


def test_the_list_is_in_order_and_has_nothing_twice() -> None:
    assert list(RFCS) == sorted(RFCS, key=int)
    titles = [entry["title"] for entry in RFCS.values()]
    assert {title for title in titles if titles.count(title) > 1} <= {RFCS["8656"]["title"]}, (
        "5766 has it too"
    )
    keys = json.loads(LIST.read_text(encoding="utf-8"), object_pairs_hook=lambda pairs: [k for k, _ in pairs])
    assert len(keys) == len(set(keys)) == len(RFCS)


def test_the_list_has_no_rfc_that_nobody_cites() -> None:
    """Nor sections of one that is cited as a whole only."""
    cited: dict[str, set[str]] = {}
    for file in FILES:
        for citation in citations(file.read_text(encoding="utf-8"), python=file.suffix == ".py"):
            if citation.rfc is not None:
                cited.setdefault(citation.rfc, set()).update([citation.section] if citation.section else [])
    assert sorted(set(RFCS) - set(cited), key=int) == []
    assert [rfc for rfc, entry in RFCS.items() if bool(entry["sections"]) != bool(cited[rfc])] == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('"""Sends (RFC 8489 §99.1)."""', "1: RFC 8489 §99.1 is not listed"),
        ('"""Sends (RFC 9999 §1)."""', "1: RFC 9999 is not listed"),
        ('"""As RFC 9999 says."""', "1: RFC 9999 is not listed"),
        ('"""RFC 8489 §14.5, §14.99."""', "1: RFC 8489 §14.99 is not listed"),
        ('"""RFC 8656 §9. And then (§99)."""', "1: RFC 8656 §99 is not listed"),
        ('"""RFC 8489 appendix B.9."""', "1: RFC 8489 §B.9 is not listed"),
        ('"""RFC 5892 §A.99."""', "1: RFC 5892 §A.99 is not listed"),
        ('"""RFC 8656 §9, RFC 8489 §18.9, RFC 8445 §9."""', "1: RFC 8489 §18.9 is not listed"),
        ('"""One.\n\n    Two (RFC 8445\n    §99).\n    """', "4: RFC 8445 §99 is not listed"),
        ("x = 1\ny = 2  # RFC 8656 §99", "2: RFC 8656 §99 is not listed"),
        ("# RFC 8656 §9,\n# then §99", "2: RFC 8656 §99 is not listed"),
        ("x = 1  # RFC 8656 §9\ny = 2  # §12", "2: §12 follows no RFC"),
        ('x = f"{1} RFC 8656 §99"', "1: RFC 8656 §99 is not listed"),
        ('"""As §5 says."""', "1: §5 follows no RFC"),
        ('"""RFC 8656 §x."""', "1: a § after RFC 8656 has no number"),
        ('"""DESIGN.md §5, RFC 8656 §99."""', "1: RFC 8656 §99 is not listed"),
        ('"""RFC 8489 §5."""\n"""§14 of nothing."""', "2: §14 follows no RFC"),
    ],
)
def test_a_wrong_citation_is_found(text: str, fault: str) -> None:
    assert faults(text, "m.py") == [f"m.py:{fault}"]


@pytest.mark.parametrize(
    "text",
    [
        '"""(RFC 8489 §14.5, §14.6), RFC 8656 §7 to §9, RFC 8445 §7.2.5.3.2."""',
        '"""RFC 8489 appendix B.1 and RFC 5892 §A.1 and §A.2."""',
        '"""What a pair is (RFC\n    8445 §6.1.2). Its priority (§6.1.2.3)."""',
        '"""As DESIGN.md §99 says."""',
        '"""RFC 8489 §5, STYLE.md §99, RFC 8656 §9."""',
        "RFC = 9999  # RFC 8656 §9, then\n# §12",
    ],
)
def test_a_right_citation_is_no_fault(text: str) -> None:
    assert faults(text, "m.py") == []


def test_a_document_is_read_by_paragraphs() -> None:
    text = "# Title\n\nSee RFC 8656 §9\nand §99.\n\nHere §12 stands alone.\n"
    assert faults(text, "d.md", python=False) == [
        "d.md:4: RFC 8656 §99 is not listed",
        "d.md:6: §12 follows no RFC",
    ]


def test_citations_are_found_at_all() -> None:
    """The walk reaches the code: a pattern that matches nothing would pass everything."""
    sections = [
        citation
        for file in FILES
        for citation in citations(file.read_text(encoding="utf-8"), python=file.suffix == ".py")
        if citation.section
    ]
    assert len(sections) > 200
