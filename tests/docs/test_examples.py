"""The Python examples of the documentation run as written."""

import asyncio
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from natwalk.aio.ice_servers import fetch_ice_servers
from natwalk.core import Address
from natwalk_server import RELAYING, loopback, running

DOCS = Path(__file__).parents[2] / "docs"
README = DOCS.parent / "README.md"
PAGES = sorted(
    page for page in [README, *DOCS.rglob("*.md")] if "```python" in page.read_text(encoding="utf-8")
)


def example(page: Path) -> dict[str, Any]:
    """What the page's Python blocks, run one after the other, define."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    names: dict[str, Any] = {"__name__": "example"}
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)
    return names


@pytest.mark.parametrize("page", [page for page in PAGES if page != README], ids=lambda page: page.stem)
def test_examples_import_what_exists(page: Path) -> None:
    assert len(example(page)) > 2


def test_the_readme_example_compiles_and_names_what_exists() -> None:
    import natwalk

    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    compile(block, "README.md", "exec")
    for name in re.findall(r"natwalk\.(\w+)", block):
        assert hasattr(natwalk, name)


async def test_two_programs_connect_as_the_guide_says(monkeypatch: pytest.MonkeyPatch) -> None:
    import natwalk

    names = example(DOCS / "how-to" / "connect-two-programs.md")
    real = natwalk.connect
    monkeypatch.setattr(natwalk, "connect", lambda *a, **k: real(*a, **k, addresses=loopback))
    async with running(**RELAYING) as server:
        assert await asyncio.wait_for(names["main"](server.http), 30) == b"ARE YOU THERE?"


async def test_two_relayed_addresses_talk_as_the_guide_says() -> None:
    names = example(DOCS / "how-to" / "use-a-turn-server.md")
    async with running(**RELAYING) as server:
        turn, *_ = (await fetch_ice_servers(server.http)).turn
        talk = names["main"](list(server.turn), turn.username, turn.password)
        assert await asyncio.wait_for(talk, 30) == b"ARE YOU THERE?"


async def test_ice_connects_as_users_of_aioice_are_told() -> None:
    names = example(DOCS / "how-to" / "move-from-aioice.md")
    async with running(**RELAYING) as server:
        stun = Address("127.0.0.1", int(server.stun[0].rpartition(":")[2]))
        talk = names["main"](stun, [ip_address("127.0.0.1")])
        assert await asyncio.wait_for(talk, 30) == b"ARE YOU THERE?"


async def test_a_core_driven_by_select_learns_its_address() -> None:
    names = example(DOCS / "how-to" / "drive-a-core.md")
    async with running(**RELAYING) as server:
        port = int(server.stun[0].rpartition(":")[2])
        found = await asyncio.to_thread(names["public_address"], Address("127.0.0.1", port), "127.0.0.1")
    assert found.host == "127.0.0.1"


async def test_a_program_learns_what_its_nat_does() -> None:
    """Our server without a second address tells the mapped one; the rest is said to be unknown."""
    names = example(DOCS / "how-to" / "find-out-what-a-nat-does.md")
    async with running(**RELAYING) as server:
        assert "seen as 127.0.0.1:" in await names["what_my_nat_does"](server.stun[0])


def test_the_nat_engine_does_what_its_guide_says() -> None:
    """One NAT by name; a router that takes fragments and answers lost hops; a gateway that answers."""
    from natwalk.nat import Packet, Translation
    from natwalk.nat.fragments import fragment
    from natwalk.nat.wire import encode

    names = example(DOCS / "how-to" / "use-the-nat-engine.md")
    assert names["seen"].host == "198.51.100.1"
    assert isinstance(names["back"], Translation)
    assert [answer.payload[:2] for answer in names["answers"]] == [b"\0\x80"]

    forward, nat, pieces = names["forward"], names["nat"], names["Reassembler"]()
    large = Packet(names["host"], names["server"], bytes(3000))
    first, *rest = fragment(encode(large), 1500)
    assert forward(nat, pieces, first, True, 1.0) == ([], [])
    outside, inside = [forward(nat, pieces, piece, True, 1.0) for piece in rest][-1]
    assert (len(outside), inside) == (3, [])
    outside, (expired,) = forward(nat, pieces, encode(large._replace(payload=b"", ttl=1)), True, 1.0)
    assert (outside, expired[20]) == ([], 11)
    assert forward(nat, pieces, b"noise", True, 1.0) == ([], [])


@pytest.mark.lab
def test_the_laboratory_example_goes_through_a_nat() -> None:
    from natwalk.lab import LabUnavailable

    names = example(DOCS / "how-to" / "put-programs-behind-nats.md")
    try:
        assert names["seen_through_a_nat"]() == "198.51.100.2"
    except LabUnavailable as error:
        pytest.skip(str(error))


def test_the_simulator_does_what_its_guide_says(tmp_path: Path) -> None:
    names = example(DOCS / "how-to" / "simulate-networks.md")
    assert names["connected"]
    assert names["path"].kind.value == "relay"
    assert names["arrived"]
    assert bytes(names["meeting"].b.received[names["stream"]]) == b"before and after"
    assert "STUN Binding request" in names["story"]
    assert names["picture"].startswith("<svg")
    assert names["captured"](str(tmp_path / "run.pcapng")) > 100
    assert str(names["seen_from_outside"]("full-cone")) == "198.51.100.1:5000"
