"""``natwalk admin`` as an operator runs it, against a server that runs."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from certificates import write_certificate
from natwalk.aio.server_url import InvalidServerUrl, ServerUrl
from natwalk.aio.turn import TurnAllocation
from natwalk.cli.admin import admin
from natwalk.cli.admin_link import AdminFailed, Target, ask, local_url
from natwalk.core import Address
from natwalk.server.run import Ready
from natwalk_server import RELAYING, running

TOKEN = "a long token of the operator"
SOCKET = '[admin]\nsocket = "admin.sock"\n'
BY_TOKEN = '[admin]\ntoken-file = "token"\n'
USERS = '[turn.users]\nalice = "correct horse"\nbob = "battery staple"\n'


def config(folder: Path, text: str) -> Path:
    (folder / "token").write_text(f"{TOKEN}\n")
    (folder / "token").chmod(0o600)
    path = folder / "natwalk.toml"
    path.write_text(text + USERS)
    path.chmod(0o600)
    return path


def run(*arguments: str | Path, **environ: str) -> Result:
    cleared = {name: None for name in os.environ if name.startswith("NATWALK_")}
    return CliRunner().invoke(admin, [str(each) for each in arguments], env=cleared | environ)


async def do(*arguments: str | Path, **environ: str) -> Result:
    """The command beside the server, which is in this event loop."""
    return await asyncio.to_thread(lambda: run(*arguments, **environ))


async def allocate(ready: Ready, user: str = "alice", password: str = "correct horse") -> TurnAllocation:
    address = Address.parse(ready.turn[0].removeprefix("turn:").partition("?")[0])
    return await TurnAllocation.allocate(address, user, password)


def url(ready: Ready) -> str:
    return f"http://127.0.0.1:{ServerUrl.parse(ready.http).port}"


class TestCommands:
    async def test_allocations_are_listed_and_ended(self, tmp_path: Path) -> None:
        """A table on stdout, the number on stderr."""
        async with (
            running(config(tmp_path, SOCKET), **RELAYING) as ready,
            await allocate(ready) as alice,
            await allocate(ready, "bob", "battery staple"),
        ):
            where = ("--socket", tmp_path / "admin.sock")
            listed = await do("allocations", *where)
            assert listed.exit_code == 0, listed.stderr
            head, *rows = listed.stdout.splitlines()
            assert head.split()[0] == "USER"
            assert str(alice.relayed) in next(row for row in rows if row.startswith("alice "))
            assert listed.stderr == "2 allocations\n"
            ended = await do("disconnect", "alice", *where)
            assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "", "1 allocation ended\n")
            assert (await do("disconnect", "nobody", *where)).stderr == "0 allocations ended\n"
            assert (await do("allocations", *where)).stderr == "1 allocation\n"

    async def test_json_is_what_the_server_says(self, tmp_path: Path) -> None:
        async with running(config(tmp_path, SOCKET), **RELAYING) as ready, await allocate(ready) as alice:
            where = ("--json", "--socket", tmp_path / "admin.sock")
            listed = json.loads((await do("allocations", *where)).stdout)
            assert (listed["total"], listed["allocations"][0]["relays"]) == (1, [str(alice.relayed)])
            assert json.loads((await do("disconnect", "alice", *where)).stdout) == {"ended": 1}
            assert json.loads((await do("reload", *where)).stdout) == {"reloaded": True}

    async def test_reload_tells_what_is_wrong(self, tmp_path: Path) -> None:
        """Exit code 78, the reason in words, and in JSON, too."""
        path = config(tmp_path, SOCKET)
        async with running(path):
            assert (await do("reload", "--config", path)).stderr == "reloaded\n"
            path.write_text(f"{SOCKET}[stun]\nprot = 1\n")
            where = ("--socket", tmp_path / "admin.sock")
            refused = await do("reload", *where)
            assert refused.exit_code == 78
            assert "reload refused: unknown key stun.prot" in refused.stderr
            refused = await do("reload", "--json", *where)
            assert refused.exit_code == 78
            assert json.loads(refused.stdout)["reloaded"] is False

    async def test_drain_lets_it_run_empty(self, tmp_path: Path) -> None:
        async with running(config(tmp_path, SOCKET), **RELAYING) as ready, await allocate(ready):
            drained = await do("drain", "--socket", tmp_path / "admin.sock")
            assert (drained.exit_code, drained.stderr) == (0, "draining: 1 allocation left\n")


class TestWhichServer:
    async def test_by_token_from_file_environment_or_prompt(self, tmp_path: Path) -> None:
        async with running(config(tmp_path, BY_TOKEN)) as ready:
            where = ("allocations", "--server", url(ready))
            assert (await do(*where, "--token-file", tmp_path / "token")).exit_code == 0
            assert (await do(*where, NATWALK_ADMIN_TOKEN=TOKEN)).exit_code == 0
            asked = await asyncio.to_thread(lambda: CliRunner().invoke(admin, where, input=f"{TOKEN}\n"))
            assert asked.exit_code == 0
            assert TOKEN not in asked.output
            for wrong in ("another long token of somebody", "short"):
                refused = await do(*where, NATWALK_ADMIN_TOKEN=wrong)
                assert refused.exit_code == 4
                assert "does not take the token" in refused.stderr
                assert wrong not in refused.stderr

    async def test_the_configuration_says_where(self, tmp_path: Path) -> None:
        """The socket if there is one; the command line is stronger than the environment."""
        path = config(tmp_path, SOCKET)
        async with running(path) as ready:
            assert (await do("allocations", "--config", path)).exit_code == 0
            assert (await do("allocations", NATWALK_CONFIG=str(path))).exit_code == 0
            where = str(tmp_path / "admin.sock")
            assert (await do("allocations", NATWALK_ADMIN_SOCKET=where)).exit_code == 0
            both = await do("allocations", "--server", url(ready), NATWALK_ADMIN_SOCKET=where, **token())
            assert both.exit_code == 4  # it went to the port, which has no token here
            both = await do("allocations", "--socket", where, NATWALK_ADMIN_SERVER=url(ready))
            assert both.exit_code == 0

    async def test_a_configuration_with_a_token_file_is_enough(self, tmp_path: Path) -> None:
        path = config(tmp_path, BY_TOKEN)
        async with running(path) as ready:
            port = ServerUrl.parse(ready.http).port
            assert (await do("allocations", "--config", path, NATWALK_HTTP_PORT=str(port))).exit_code == 0

    async def test_https_checks_the_name_in_the_certificate(self, tmp_path: Path) -> None:
        files = write_certificate(tmp_path)
        text = f'{BY_TOKEN}[tls]\ncert = "{files.cert}"\nkey = "{files.key}"\n'
        async with running(config(tmp_path, text)) as ready:
            where = ("allocations", "--server", url(ready).replace("http:", "https:"))
            trusted = ("--ca-file", files.cert)
            assert (await do(*where, *trusted, "--tls-name", "localhost", **token())).exit_code == 0
            for options in ((), (*trusted, "--tls-name", "other.example")):
                refused = await do(*where, *options, **token())
                assert refused.exit_code == 4
                assert "certificate" in refused.stderr
            assert (await do(*where, "--ca-file", tmp_path / "token", **token())).exit_code == 2

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ((), "which server?"),
            (("--socket", "a", "--server", "http://127.0.0.1:1"), "not both"),
            (("--server", "http://192.0.2.1:8478"), "192.0.2.1 is not this machine"),
            (("--server", "https://turn.example.net"), "turn.example.net is not this machine"),
            (("--server", "ftp://127.0.0.1"), "not a server URL"),
            (("--server", "http://127.0.0.1:1", "--token-file", "/nowhere"), "/nowhere cannot be read"),
        ],
    )
    def test_what_cannot_be_meant_is_a_mistake_of_usage(self, arguments: tuple[str, ...], says: str) -> None:
        result = run("allocations", *arguments)
        assert result.exit_code == 2
        assert says in " ".join(result.stderr.split())

    @pytest.mark.parametrize("value", ["", "  ", "a\nb", "schlüssel"])
    def test_a_token_that_http_cannot_carry_is_not_sent(self, value: str) -> None:
        result = run("allocations", "--server", "127.0.0.1:1", NATWALK_ADMIN_TOKEN=value)
        assert result.exit_code == 2
        assert not value.strip() or value not in result.stderr

    def test_a_user_needs_a_name(self) -> None:
        assert run("disconnect", "", "--socket", "a").exit_code == 2

    def test_a_configuration_without_admin_says_what_to_add(self, tmp_path: Path) -> None:
        result = run("reload", "--config", config(tmp_path, ""))
        assert result.exit_code == 78
        assert "neither admin.socket nor admin.token-file" in result.stderr
        assert "[admin]" in result.stderr

    def test_a_configuration_that_is_wrong_is_named(self, tmp_path: Path) -> None:
        result = run("reload", "--config", config(tmp_path, "[admni]\n"))
        assert result.exit_code == 78
        assert "unknown key admni" in result.stderr

    @pytest.mark.parametrize(
        "text", ["http://127.0.0.1:8478", "http://[::1]:8478/x", "localhost", "127.9.9.9"]
    )
    def test_this_machine_has_these_names(self, text: str) -> None:
        assert local_url(text).port == 8478

    def test_no_token_goes_elsewhere(self) -> None:
        with pytest.raises(InvalidServerUrl):
            local_url("http://10.0.0.5:8478")


class TestWhenNobodyIsThere:
    def test_no_socket(self, tmp_path: Path) -> None:
        result = run("allocations", "--socket", tmp_path / "none")
        assert result.exit_code == 69
        assert "No such file" in result.stderr
        assert "admin.socket" in result.stderr

    def test_no_port(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            result = run("allocations", "--server", f"127.0.0.1:{taken.getsockname()[1]}", **token())
        assert result.exit_code == 69
        assert "http.port" in result.stderr

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may use every socket")
    def test_a_socket_of_another_user(self, tmp_path: Path) -> None:
        with answering(tmp_path, b"") as path:
            path.chmod(0)
            assert run("allocations", "--socket", path).exit_code == 4

    @pytest.mark.parametrize(
        ("answer", "code", "says"),
        [
            (b"", 69, "no server can be reached"),
            (b"hello\r\n\r\n", 69, "no server can be reached"),
            (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 1, "knows no such command"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n<>", 1, "no JSON"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", 1, "no JSON"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 1, "the answer is not understood"),
            (b'HTTP/1.1 500 Oh\r\nContent-Length: 13\r\n\r\n{"error":"x"}', 1, "answers 500: x"),
        ],
    )
    def test_what_is_no_natwalk(self, tmp_path: Path, answer: bytes, code: int, says: str) -> None:
        with answering(tmp_path, answer) as path:
            result = run("allocations", "--socket", path)
        assert result.exit_code == code
        assert says in result.stderr

    def test_an_answer_without_end_is_not_kept(self, tmp_path: Path) -> None:
        """16 MiB are read, not more."""
        pieces = (b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * (1 << 20)] * 20)
        with (
            answering(tmp_path, *pieces) as path,
            pytest.raises(AdminFailed, match="more than 16 MiB"),
        ):
            ask(Target(path), "GET", "allocations")

    def test_nothing_in_an_answer_is_obeyed_by_a_terminal(self, tmp_path: Path) -> None:
        each = {
            "user": "b\x1b[31mob\n",
            "client": "192.0.2.1:1",
            "transport": "udp",
            "relays": ["10.0.0.5:2"],
            "relay_transport": "tcp",
            "expires_in": 1.0,
            "permissions": 0,
            "advertised": ["192.0.2.2:2"],
            "bytes_to_peers": 1,
            "bytes_from_peers": 2,
            "something": "new",
        }
        body = json.dumps({"allocations": [each], "total": 10_001}).encode()
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        with answering(tmp_path, answer) as path:
            listed = run("allocations", "--socket", path)
        assert "\x1b" not in listed.stdout
        assert "192.0.2.2:2 (tcp)" in listed.stdout
        assert len(listed.stdout.splitlines()) == 2
        assert listed.stderr == "10001 allocations, 10000 of them not shown\n"

    def test_one_that_never_answers_is_given_up(self, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(tmp_path / "s"))
            listening.listen()
            result = run("allocations", "--socket", tmp_path / "s", "--timeout", "0.1")
        assert result.exit_code == 124
        assert "--timeout" in result.stderr


def token() -> dict[str, str]:
    return {"NATWALK_ADMIN_TOKEN": TOKEN}


@contextmanager
def answering(folder: Path, *pieces: bytes) -> Iterator[Path]:
    """A socket whose first client is answered with ``pieces``, whatever it says."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "other.sock"))
        listening.listen()

        def serve() -> None:
            try:
                client, _ = listening.accept()
            except OSError:
                return  # nobody came
            with client:
                client.recv(65536)
                for piece in pieces:
                    try:
                        client.sendall(piece)
                    except OSError:
                        return  # it has read enough

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield folder / "other.sock"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
