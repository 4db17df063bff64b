"""The walls of DESIGN.md §2: which room may import which, and what a core may not import at all."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "natwalk"

CORES = {"core", "stun", "turn", "ice", "rendezvous", "path", "secure", "peer", "nat", "relay", "transfer"}
"""Rooms without I/O, clock or randomness of their own."""

MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "stun": {"core"},
    "turn": {"core", "stun"},
    "ice": {"core", "stun", "turn"},
    "rendezvous": {"core"},
    "relay": {"core"},
    "path": {"core", "ice"},
    "secure": {"core"},
    "peer": {"core", "ice", "path", "rendezvous", "secure"},
    "nat": {"core"},
    "transfer": {"core", "secure"},
    "sim": {"core", "stun", "turn", "ice", "rendezvous", "path", "secure", "peer", "nat", "transfer"},
    "aio": {"core", "stun", "turn", "ice", "rendezvous", "path", "secure", "peer", "relay", "transfer"},
    "server": {"aio", "core", "stun", "turn", "rendezvous", "relay"},
    "lab": {"aio", "core", "nat"},
    "cli": {"*"},
}

FORBIDDEN_IN_CORES = {
    "asyncio",
    "socket",
    "ssl",
    "time",
    "random",
    "secrets",
    "os",
    "threading",
    "subprocess",
}

EDGES = {"transfer/storage": {"os"}}
"""Parts of a core room that stand at its edge, and what that lets them import."""


def imports(file: Path) -> set[str]:
    """Absolute names of all modules ``file`` imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module
            found.add(node.module)
            if node.module == "natwalk":
                found.update(f"natwalk.{alias.name}" for alias in node.names)
    return found


def room_of(file: Path) -> str:
    parts = file.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else ""


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_arrows_point_only_where_the_design_says(file: Path) -> None:
    room = room_of(file)
    if not room:
        return  # the package's own face: __init__ and __main__
    allowed = MAY_IMPORT[room] | {room}
    for name in imports(file):
        parts = name.split(".")
        if parts[0] != "natwalk" or len(parts) == 1 or "*" in allowed or parts[1] == "__version__":
            continue
        assert parts[1] in allowed, f"{room}/ may not import {name}"


@pytest.mark.parametrize(
    "file", [f for f in FILES if room_of(f) in CORES], ids=lambda f: str(f.relative_to(SOURCE))
)
def test_cores_do_no_input_or_output(file: Path) -> None:
    name = file.relative_to(SOURCE).as_posix()
    licence = {module for edge, modules in EDGES.items() if name.startswith(edge) for module in modules}
    found = {name.split(".")[0] for name in imports(file)} & FORBIDDEN_IN_CORES
    assert not found - licence, f"a core may not import {found - licence}"


def test_every_room_has_a_row() -> None:
    rooms = {p.name for p in SOURCE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert rooms == set(MAY_IMPORT)
