"""The page of NAT presets says what the presets are."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_script_writes() -> None:
    """Run ``python scripts/nat_presets.py`` when this fails."""
    spec = importlib.util.spec_from_file_location("nat_presets", ROOT / "scripts" / "nat_presets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page()
