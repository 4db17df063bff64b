"""``natwalk serve`` as a process: its ready line, its exit codes, and what it says."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from natwalk.cli.serve import serve
from serve_process import COMMAND, LOOPBACK, environment, serving


def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env=environment(**more),
        check=False,
    )


def said(result: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """The sentence that says what, and the one that says what to do: stderr has just these."""
    assert result.stdout == ""
    what, to_do = result.stderr.splitlines()
    assert what.startswith("natwalk serve: ")
    assert to_do.startswith("  ")
    return what, to_do


def test_the_ready_line_is_the_documented_one_and_the_server_answers() -> None:
    with serving(*LOOPBACK) as (process, ready):
        assert list(ready) == ["event", "http", "stun", "turn"]
        assert ready["event"] == "ready"
        [stun], [turn, turn_tcp] = ready["stun"], ready["turn"]
        assert stun.startswith("stun:127.0.0.1:")
        assert turn == f"turn{stun[4:]}?transport=udp"
        assert turn_tcp.endswith("?transport=tcp")
        with urllib.request.urlopen(f"{ready['http']}/healthz", timeout=5) as answer:
            assert json.load(answer)["status"] == "ok"
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=5)
        assert time.monotonic() - started < 5
        assert process.returncode == 0
        assert out == ""
        assert f"natwalk send FILE --server {ready['http']}" in err


def test_ctrl_c_exits_with_130() -> None:
    with serving(*LOOPBACK) as (process, _):
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=5)
        assert process.returncode == 130
        assert "Traceback" not in err


def test_it_stops_within_seconds_although_clients_are_connected() -> None:
    with serving(*LOOPBACK) as (process, ready):
        host, _, port = str(ready["http"]).removeprefix("http://").rpartition(":")
        with (
            socket.create_connection((host, int(port))) as silent,
            socket.create_connection((host, int(port))),
        ):
            silent.sendall(b"GET /healthz HTTP/1.1\r\n")
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=5)
        assert process.returncode == 0


def test_every_option_has_a_variable_and_flags_win() -> None:
    with serving(
        "--http-port",
        "0",
        NATWALK_LISTEN="127.0.0.1",
        NATWALK_HTTP_PORT="1",
        NATWALK_STUN_PORT="0",
        NATWALK_PUBLIC_HOST="turn.example.net",
        NATWALK_ALLOW_PEER="203.0.113.0/24 198.51.100.0/24",
    ) as (_, ready):
        assert str(ready["http"]).startswith("http://turn.example.net:")
    for option in serve.params:
        assert str(option.envvar).startswith("NATWALK_"), option.name


def test_a_taken_port_exits_with_69_and_says_which() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run("--listen", "127.0.0.1", "--stun-port", "0", "--http-port", port)
    what, to_do = said(result)
    assert result.returncode == 69
    assert f"TCP 127.0.0.1:{port} is taken" in what
    assert "--http-port" in to_do


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--listen", "nowhere"], "'nowhere'"),
        (["--listen", "192.0.2.1"], "192.0.2.1 is not an address of this machine"),
        (["--relay-address", "192.0.2.1"], "192.0.2.1 is not an address of this machine"),
        (["--http-port", "70000"], "http.port is '70000'"),
        (["--stun-port", "-1"], "stun.port is '-1'"),
        (["--allow-peer", "10.0.0.0/99"], "10.0.0.0/99"),
        (["--public-host", "a b"], "'a b'"),
        (["--realm", ""], "realm"),
        (["--config", "/nonexistent/natwalk.toml"], "cannot be read"),
    ],
)
def test_a_bad_configuration_exits_with_78_and_names_the_value(arguments: list[str], says: str) -> None:
    result = run("--http-port", "0", "--stun-port", "0", *arguments)
    assert result.returncode == 78
    assert says in said(result)[0]


def test_a_secret_everyone_may_read_exits_with_78_and_is_not_shown(tmp_path: Path) -> None:
    secret = tmp_path / "turn.secret"
    secret.write_text("0123456789abcdef0123456789abcdef")
    secret.chmod(0o644)
    config = tmp_path / "natwalk.toml"
    config.write_text('[turn]\nauth-secret-file = "turn.secret"\n')
    result = run("--config", str(config))
    assert result.returncode == 78
    assert "chmod 600" in said(result)[1]
    assert "0123456789" not in result.stderr


def test_a_wrong_flag_is_a_usage_error() -> None:
    assert run("--no-such-flag").returncode == 2
    assert run("--http-port", "many").returncode == 2


class TestCheckConfig:
    def test_a_good_one(self, tmp_path: Path) -> None:
        config = tmp_path / "natwalk.toml"
        config.write_text('[turn.users]\nalice = "secret words"\n')
        config.chmod(0o644)
        result = CliRunner().invoke(serve, ["--check-config", "--config", str(config)])
        assert result.exit_code == 0
        assert result.stdout == ""
        assert "warning" in result.stderr
        assert "the configuration is good" in result.stderr
        assert "secret words" not in result.stderr

    def test_a_bad_one(self, tmp_path: Path) -> None:
        config = tmp_path / "natwalk.toml"
        config.write_text("[stun]\nprot = 1\n")
        result = CliRunner().invoke(serve, ["--check-config", "--config", str(config)])
        assert result.exit_code == 78
        assert "unknown key stun.prot" in result.stderr


def test_the_servers_libraries_are_loaded_only_to_serve() -> None:
    probe = (
        "import sys, natwalk.cli.serve, natwalk.server, natwalk.rendezvous\n"
        "print([m for m in ('uvicorn', 'litestar', 'structlog') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
