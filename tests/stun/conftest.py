"""Vectors and message strategies for the tests of the stun room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from natwalk.stun import long_term_key, short_term_key

DATA = Path(__file__).parent.parent / "data" / "stun"
MATRIX = "\u30de\u30c8\u30ea\u30c3\u30af\u30b9"


@dataclass(frozen=True)
class Vector:
    name: str
    data: bytes
    key: bytes


def load(name: str) -> bytes:
    lines = (DATA / f"{name}.hex").read_text(encoding="utf-8").splitlines()
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#")))


SHORT = short_term_key("VOkJxbRl1RmTxUk/WvJxBt")
VECTORS = {
    name: Vector(name, load(name), key)
    for name, key in {
        "rfc5769-2.1-request": SHORT,
        "rfc5769-2.2-response-ipv4": SHORT,
        "rfc5769-2.3-response-ipv6": SHORT,
        "rfc5769-2.4-request-long-term": long_term_key(MATRIX, "example.org", "TheMatrIX"),
        "rfc8489-b.1-request-sha256": long_term_key(MATRIX, "example.org", "TheMatrIX", sha256=True),
    }.items()
}


@pytest.fixture(params=list(VECTORS))
def vector(request: pytest.FixtureRequest) -> Vector:
    return VECTORS[request.param]


@pytest.fixture
def get_vector() -> Callable[[str], Vector]:
    return VECTORS.__getitem__


@pytest.fixture
def fresh_layouts(monkeypatch: pytest.MonkeyPatch) -> dict[int, tuple[object, ...]]:
    """An empty memory of layouts, so that a test says itself which path of ``decode`` runs."""
    known: dict[int, tuple[object, ...]] = {}
    monkeypatch.setattr("natwalk.stun.layout._known", known)
    return known
