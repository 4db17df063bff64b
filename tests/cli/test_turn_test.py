"""``natwalk turn test`` as a user runs it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from natwalk.aio.turn_server import TurnServerDriver
from natwalk.cli import COMMANDS
from natwalk.cli.turn import turn
from natwalk.core import Address
from natwalk.turn import PeerPolicy, TurnConfig

CONFIG = TurnConfig(
    users={"alice": "correct horse"},
    auth_secrets=("north of the wall",),
    relay_addresses=("127.0.0.1",),
    port_range=(61001, 65535),
    policy=PeerPolicy(allow=["127.0.0.0/8"]),
)


class Result(NamedTuple):
    code: int
    out: str
    err: str


async def run(*arguments: str, **environment: str) -> Result:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("NATWALK_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-m", "natwalk", "turn", "test", "--seconds", "0", "--timeout", "5", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean | environment,
    )
    out, err = await process.communicate()
    return Result(process.returncode or 0, out.decode(), err.decode())


async def test_working_server_as_a_table_and_as_json(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("north of the wall\n")
    async with await TurnServerDriver.start(CONFIG, [Address("127.0.0.1", 0)]) as driver:
        uri = f"turn:127.0.0.1:{driver.listeners[0].port}?transport=udp"
        told = await run("-u", "alice", uri, NATWALK_TURN_PASSWORD="correct horse", COLUMNS="100")
        assert (told.code, told.out) == (0, "")
        for word in ("reach", "authentication", "relay", "permission", "round trip", "good for browsers"):
            assert word in told.err
        assert "correct horse" not in told.err
        told = await run("--secret-file", str(tmp_path / "secret"), "--json", uri)
        assert (told.code, told.err) == (0, "")
        found = json.loads(told.out)
        [server] = found["servers"]
        assert found["ok"] is server["ok"] is True
        assert [check["step"] for check in server["endpoints"][0]["checks"]][-1] == "round trip"
        told = await run("-u", "alice", uri, NATWALK_TURN_PASSWORD="wrong")
        assert told.code == 4
        assert "Check username and password" in told.err


async def test_nobody_there_is_69() -> None:
    told = await run("-u", "alice", "turn:127.0.0.1:1?transport=tcp", NATWALK_TURN_PASSWORD="x")
    assert told.code == 69
    assert "TCP port 1" in told.err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["-u", "a", "turn://example.org"], "turn:example.org"),
        (["-u", "a", "stun:example.org"], "names a STUN server"),
        (["turn:example.org"], "--username"),
        (["-u", "", "turn:example.org"], "cannot be used"),
        (["--secret-file", "/nowhere", "turn:example.org"], "cannot be read"),
        (["--secret-file", "/a", "--password-file", "/b", "turn:example.org"], "not both"),
    ],
)
def test_wrong_usage_says_what_is_wrong(arguments: list[str], word: str) -> None:
    environment = {"NATWALK_TURN_PASSWORD": "x", "NATWALK_TURN_USERNAME": None}
    result = CliRunner().invoke(turn, ["test", *arguments], env=environment)
    assert result.exit_code == 2
    assert word in result.output


def test_it_is_in_the_list() -> None:
    assert "turn" in COMMANDS
