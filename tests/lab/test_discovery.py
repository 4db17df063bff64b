"""Behaviour discovery through kernel NATs: what our client finds at our server is what the lab built."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lab.programs import Program
from natwalk.lab import Lab
from natwalk.nat import KINDS, NatConfig

pytestmark = pytest.mark.lab

CONFIG = """
[server]
listen = ["203.0.113.10"]
[stun]
alternate-address = "203.0.113.11"
"""

CLIENT = """
import asyncio, json, sys
from natwalk.aio.discovery import discover_behaviour
from natwalk.core import Address
found = asyncio.run(discover_behaviour(Address("203.0.113.10", 3478), hairpin=sys.argv[1] == "full-cone"))
print(json.dumps({name: getattr(found, name) for name in
    ("mapped", "mapping", "filtering", "hairpinning", "classic", "translated", "unknown")}))
"""


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "udp-blocked"])
def test_each_kind_is_recognised(tmp_path: Path, kind: str) -> None:
    config = tmp_path / "natwalk.toml"
    config.write_text(CONFIG, encoding="utf-8")
    with Lab(kind, "none") as lab:
        server = Program(lab.server, ["serve", "--json", "--config", str(config)], tmp_path / "server.log")
        try:
            server.wait_for("ready")
            client = lab.a.popen([sys.executable, "-c", CLIENT, kind], stdout=subprocess.PIPE)
            output, _ = client.communicate(timeout=90)
        finally:
            server.close()
    assert client.returncode == 0
    found = json.loads(output)
    spec = KINDS[kind]
    assert found["translated"] is spec.translates
    # a carrier's NAT behind a home's shows the stricter of both
    assert found["classic"] == {"cgnat": "port restricted cone"}.get(kind, spec.classic)
    nat = next((layer for layer in spec.layers if isinstance(layer, NatConfig)), None)
    if nat is not None:
        assert (found["mapping"], found["filtering"]) == (nat.mapping.value, nat.filtering.value)
        assert found["hairpinning"] is (False if kind == "full-cone" else None)  # tested of one kind only
