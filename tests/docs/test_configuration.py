"""The reference of ``natwalk.toml`` is complete and tells the defaults that are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec

from natwalk.server.options import options
from natwalk.server.reload import FIXED, FIXED_TURN
from natwalk.server.schema import Document, TlsSection

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"
_SECTION = re.compile(r"## `\[([a-z.-]+)\]`")
_ROW = re.compile(r"\| `([a-z-]+)` \| (.*?) \| (.*) \|")


def rows() -> dict[str, tuple[str, str]]:
    """Default and description of every key, by its dotted name."""
    found: dict[str, tuple[str, str]] = {}
    section = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if match := _SECTION.fullmatch(line):
            section = match[1]
        elif match := _ROW.fullmatch(line):
            key = f"{section}.{match[1]}"
            assert key not in found
            found[key] = (match[2], match[3])
    return found


def default_of(key: str) -> object:
    """The default of the schema; a section that is off has the defaults it would have."""
    value: object = Document(tls=TlsSection(cert="c", key="k"))
    for name in key.split("."):
        assert isinstance(value, msgspec.Struct)
        [field] = [f for f in msgspec.structs.fields(type(value)) if f.encode_name == name]
        value = getattr(value, field.name)
    return value


def test_every_key_is_there_and_no_other() -> None:
    assert set(rows()) == {option.key for option in options()}


def test_defaults_are_those_of_the_schema() -> None:
    for key, (default, _) in rows().items():
        actual = default_of(key)
        if re.fullmatch(r"`[^`]+`", default) and key != "http.listen":
            said = default.strip("`")
            assert said == json.dumps(actual), key
        elif default == "none":
            assert actual is None, key


def test_what_needs_a_restart_says_so() -> None:
    marked = {key for key, (_, text) in rows().items() if text.endswith("*restart*")}
    fixed = set(FIXED.values()) | set(FIXED_TURN.values())
    sections = {"rendezvous", "streams"}
    expected = {key for key in rows() if key in fixed or key.partition(".")[0] in fixed & sections}
    assert marked - expected <= {"metrics.listen", "admin.socket", "tls.port", "relay.enabled"}
    assert expected <= marked
