"""What the operator sees and may do: metrics, the admin commands, and who is turned away from both."""

from __future__ import annotations

import asyncio
import json
import re
import stat
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from natwalk.aio.server_url import ServerUrl
from natwalk.aio.turn import TurnAllocation
from natwalk.core import Address
from natwalk.server import StartError
from natwalk.server.run import Ready
from natwalk_server import RELAYING, running

TOKEN = "a long token of the operator"
USERS = '[turn.users]\nalice = "correct horse"\nbob = "battery staple"\n'
DOCS = Path(__file__).parents[2] / "docs"


async def ask(
    target: int | Path, path: str, *, method: str = "GET", body: str = "", **headers: str
) -> tuple[int, str]:
    """Status and body of a request to a port of loopback, or to a socket in the file system."""
    if isinstance(target, Path):
        reader, writer = await asyncio.open_unix_connection(target)
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", target)
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", body]).encode())
    head, _, rest = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return int(head.split()[1]), rest


def http_port(ready: Ready) -> int:
    return ServerUrl.parse(ready.http).port


def config(folder: Path, text: str) -> Path:
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    path = folder / "natwalk.toml"
    path.write_text(text + USERS)
    path.chmod(0o600)
    return path


async def allocate(ready: Ready, user: str = "alice", password: str = "correct horse") -> TurnAllocation:
    address = Address.parse(ready.turn[0].removeprefix("turn:").partition("?")[0])
    return await TurnAllocation.allocate(address, user, password)


class TestMetrics:
    async def test_they_parse_and_count(self, tmp_path: Path) -> None:
        async with running(config(tmp_path, ""), **RELAYING) as ready:
            async with await allocate(ready):
                status, text = await ask(http_port(ready), "/metrics")
                assert status == 200
                families = {f.name: f for f in text_string_to_metric_families(text)}
                there = {s.labels["transport"]: s.value for s in families["natwalk_turn_allocations"].samples}
                assert there == {"udp": 1, "tcp": 0, "tls": 0, "dtls": 0}
            _, text = await ask(http_port(ready), "/metrics")
            samples = {
                (s.name, *s.labels.values()): s.value
                for f in text_string_to_metric_families(text)
                for s in f.samples
            }
            assert samples["natwalk_turn_allocations", "udp"] == 0
            assert samples["natwalk_turn_allocations_created_total", "udp"] == 1
            assert samples["natwalk_turn_allocations_ended_total", "deleted"] == 1
            assert samples["natwalk_turn_error_responses_total", "401"] >= 1

    async def test_every_metric_is_in_the_reference(self, tmp_path: Path) -> None:
        async with running(config(tmp_path, "")) as ready:
            _, text = await ask(http_port(ready), "/metrics")
        names = {name for name in re.findall(r"# TYPE (\S+)", text) if name.startswith("natwalk_")}
        written = set(re.findall(r"`(natwalk_[a-z_]+)", (DOCS / "reference" / "metrics.md").read_text()))
        assert {name.removesuffix("_created") for name in names} <= written
        assert written <= names | {"natwalk_certificate_expiry_timestamp_seconds"}

    async def test_no_label_comes_from_outside(self, tmp_path: Path) -> None:
        async with running(config(tmp_path, ""), **RELAYING) as ready, await allocate(ready) as allocation:
            _, text = await ask(http_port(ready), "/metrics")
            assert "alice" not in text
            assert "127.0.0.1" not in text
            assert str(allocation.relayed.port) not in re.sub(r"process_\S+ \S+", "", text)

    async def test_those_who_may_not_read_them_find_nothing(self, tmp_path: Path) -> None:
        async with running(config(tmp_path, '[metrics]\nallow = ["10.0.0.0/8"]\n')) as ready:
            assert (await ask(http_port(ready), "/metrics"))[0] == 404

    @pytest.mark.parametrize("header", ["X_Forwarded_For", "Forwarded", "X_Real_IP", "Via"])
    async def test_what_a_proxy_on_this_machine_forwards_is_not_local(
        self, tmp_path: Path, header: str
    ) -> None:
        async with running(config(tmp_path, "")) as ready:
            assert (await ask(http_port(ready), "/metrics", **{header: "203.0.113.1"}))[0] == 404

    async def test_a_listener_of_their_own(self, tmp_path: Path, unused_tcp_port: int) -> None:
        text = f'[metrics]\nlisten = "127.0.0.1:{unused_tcp_port}"\n'
        async with running(config(tmp_path, text)) as ready:
            assert (await ask(http_port(ready), "/metrics"))[0] == 404
            assert (await ask(unused_tcp_port, "/metrics"))[0] == 200
            assert (await ask(unused_tcp_port, "/v1/ice-servers"))[0] == 404


ADMIN = [
    ("GET", "/v1/admin/allocations", ""),
    ("POST", "/v1/admin/disconnect", '{"user":"alice"}'),
    ("POST", "/v1/admin/drain", ""),
    ("POST", "/v1/admin/reload", ""),
]


class TestAdmin:
    @pytest.mark.parametrize(("method", "path", "body"), ADMIN)
    async def test_it_is_off_by_default(self, tmp_path: Path, method: str, path: str, body: str) -> None:
        async with running(config(tmp_path, "")) as ready:
            status, _ = await ask(http_port(ready), path, method=method, body=body)
            assert status == 404

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Bearer "},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": f"Bearer {TOKEN}", "X_Forwarded_For": "203.0.113.1"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize(("method", "path", "body"), ADMIN)
    async def test_without_the_token_there_is_nothing(
        self, tmp_path: Path, method: str, path: str, body: str, headers: dict[str, str]
    ) -> None:
        async with running(config(tmp_path, '[admin]\ntoken-file = "token"\n')) as ready:
            status, _ = await ask(http_port(ready), path, method=method, body=body, **headers)
            assert status == 404
            assert (await ask(http_port(ready), "/readyz"))[0] == 200

    async def test_allocations_are_listed_and_ended(self, tmp_path: Path) -> None:
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            running(config(tmp_path, '[admin]\ntoken-file = "token"\n'), **RELAYING) as ready,
            await allocate(ready) as alice,
            await allocate(ready, "bob", "battery staple"),
        ):
            port = http_port(ready)
            status, text = await ask(port, "/v1/admin/allocations", **bearer)
            assert status == 200
            listed = {each["user"]: each for each in json.loads(text)["allocations"]}
            assert set(listed) == {"alice", "bob"}
            assert listed["alice"]["relays"] == [str(alice.relayed)]
            for body, code, ended in (('{"user":"alice"}', 200, 1), ('{"user":"alice"}', 200, 0)):
                status, text = await ask(port, "/v1/admin/disconnect", method="POST", body=body, **bearer)
                assert (status, json.loads(text)) == (code, {"ended": ended})
            for body in ("", "[]", '{"user":""}', '{"user":"a","more":1}', '{"user":7}', "\xff" * 9):
                status, _ = await ask(port, "/v1/admin/disconnect", method="POST", body=body, **bearer)
                assert status == 400
            assert json.loads((await ask(port, "/v1/admin/allocations", **bearer))[1])["total"] == 1

    async def test_reload_says_why_it_is_refused(self, tmp_path: Path) -> None:
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        path = config(tmp_path, '[admin]\ntoken-file = "token"\n')
        async with running(path) as ready:
            status, text = await ask(http_port(ready), "/v1/admin/reload", method="POST", **bearer)
            assert (status, json.loads(text)) == (200, {"reloaded": True})
            path.write_text("[stun]\nprot = 1\n")
            status, text = await ask(http_port(ready), "/v1/admin/reload", method="POST", **bearer)
            assert status == 409
            assert "unknown key stun.prot" in json.loads(text)["error"]

    async def test_the_socket_needs_no_token_and_is_for_this_user_alone(self, tmp_path: Path) -> None:
        path = config(tmp_path, '[admin]\nsocket = "admin.sock"\n')
        where = tmp_path / "admin.sock"
        async with running(path, **RELAYING) as ready, await allocate(ready) as alice:
            assert stat.S_IMODE(where.stat().st_mode) == 0o600
            assert json.loads((await ask(where, "/v1/admin/allocations"))[1])["total"] == 1
            assert (await ask(where, "/metrics"))[0] == 200
            assert (await ask(http_port(ready), "/v1/admin/allocations"))[0] == 404
            with pytest.raises(StartError, match="in use"):
                async with running(path):
                    pass
            _, text = await ask(where, "/v1/admin/drain", method="POST")
            assert json.loads(text) == {"draining": True, "allocations": 1}
            async with asyncio.timeout(5):
                while (await ask(where, "/readyz"))[0] != 503:
                    pass
            assert alice.relayed
        async with running(path):  # a socket that was left behind is replaced
            assert (await ask(where, "/v1/admin/allocations"))[0] == 200
