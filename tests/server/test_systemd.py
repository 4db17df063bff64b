"""systemd's side of a service: sockets handed over, readiness, reloads, signs of life."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from natwalk.server import StartError, load
from natwalk.server.listeners import sort_given
from natwalk.server.systemd import Notifier, activated_sockets

PACKAGING = Path(__file__).parents[2] / "packaging"
PROGRAM = """
import fcntl, os
# systemd hands sockets over as descriptors 3 and up
given = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 200) for fd in os.environ.pop("GIVEN", "").split()]
for number, fd in enumerate(given):
    os.dup2(fd, 3 + number)
os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
from natwalk.cli.serve import serve
serve()
"""


class Manager:
    """A socket that hears what a service tells systemd."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(10)

    def hear(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())

    def until(self, key: str) -> dict[str, str]:
        """The next message that has ``key``, signs of life passed over."""
        while key not in (message := self.hear()):
            assert message.keys() <= {"WATCHDOG", "EXTEND_TIMEOUT_USEC"}, message
        return message


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.socket.close()


class TestNotifier:
    def test_what_it_says(self, manager: Manager, tmp_path: Path) -> None:
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}, 7)
        notifier.ready("well")
        assert manager.hear() == {"READY": "1", "STATUS": "well"}
        notifier.reloading()
        message = manager.hear()
        assert message["RELOADING"] == "1"
        assert abs(int(message["MONOTONIC_USEC"]) - time.monotonic_ns() // 1000) < 60_000_000
        notifier.alive()
        assert manager.hear() == {"WATCHDOG": "1"}
        notifier.more_time(2.5)
        assert manager.hear() == {"EXTEND_TIMEOUT_USEC": "2500000"}
        notifier.stopping("bye")
        assert manager.hear() == {"STOPPING": "1", "STATUS": "bye"}
        notifier.close()
        notifier.close()

    def test_an_abstract_socket(self) -> None:
        name = secrets.token_hex(8)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(f"\0{name}")
            notifier = Notifier({"NOTIFY_SOCKET": f"@{name}"}, 7)
            notifier.alive()
            assert sock.recv(100) == b"WATCHDOG=1"
            notifier.close()

    def test_nobody_listening_is_no_error(self, tmp_path: Path) -> None:
        for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "none")}):
            notifier = Notifier(environ, 7)
            notifier.ready("x")
            notifier.close()

    @pytest.mark.parametrize(
        ("environ", "seconds"),
        [
            ({}, None),
            ({"WATCHDOG_USEC": "30000000"}, 15.0),
            ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
            ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
            ({"WATCHDOG_USEC": "soon"}, None),
            ({"WATCHDOG_USEC": "0"}, None),
        ],
    )
    def test_the_watchdog_gets_two_signs_a_period(
        self, environ: dict[str, str], seconds: float | None
    ) -> None:
        assert Notifier(environ, 7).watchdog_interval == seconds


class TestSockets:
    def test_none_without_systemd_or_for_another_process(self) -> None:
        assert activated_sockets({}, 7) == []
        assert activated_sockets({"LISTEN_PID": "8", "LISTEN_FDS": "1"}, 7) == []

    @pytest.mark.parametrize("count", ["", "x", "-1", "100000"])
    def test_nonsense_is_refused(self, count: str) -> None:
        with pytest.raises(StartError, match="LISTEN_FDS"):
            activated_sockets({"LISTEN_PID": "7", "LISTEN_FDS": count}, 7)

    def test_a_socket_that_fits_nothing_is_named(self) -> None:
        config = load(None, {"server.listen": ["127.0.0.1"]})
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            with pytest.raises(StartError, match=r"'natwalk\.socket' from systemd takes datagrams"):
                sort_given([("natwalk.socket", sock)], config)
            assert sort_given([("udp", sock)], config).take("udp") == [sock]
            with pytest.raises(StartError):
                sort_given([("tcp", sock)], config)

    def test_one_for_both_ip_versions_is_refused(self) -> None:
        config = load(None, {"server.listen": ["::"]})
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", 0))
            with pytest.raises(StartError) as caught:
                sort_given([("udp", sock)], config)
            assert "BindIPv6Only" in caught.value.hint

    def test_by_type_and_port(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as stream:
            port = stream.getsockname()[1]
            for key, what in (("http.port", "http"), ("stun.port", "tcp")):
                config = load(None, {"server.listen": ["127.0.0.1"], key: port})
                assert sort_given([("x", stream)], config).take(what) == [stream]


@contextlib.contextmanager
def service(
    folder: Path, *arguments: str, pass_sockets: list[tuple[str, socket.socket]] | None = None, **more: str
) -> Iterator[subprocess.Popen[str]]:
    """``natwalk serve`` as systemd starts it."""
    given = pass_sockets or []
    environ = {k: v for k, v in os.environ.items() if not k.startswith("NATWALK_")} | more
    environ["NOTIFY_SOCKET"] = str(folder / "notify")
    if given:
        environ["GIVEN"] = " ".join(str(sock.fileno()) for _, sock in given)
        environ |= {"LISTEN_FDS": str(len(given)), "LISTEN_FDNAMES": ":".join(name for name, _ in given)}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, "--listen", "127.0.0.1", "--json", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        pass_fds=[sock.fileno() for _, sock in given],
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


class TestService:
    def test_ready_reload_watchdog_and_stop(self, manager: Manager, tmp_path: Path) -> None:
        config = tmp_path / "natwalk.toml"
        config.write_text("[stun]\nport = 0\n[http]\nport = 0\n")
        with service(tmp_path, "--config", str(config), WATCHDOG_USEC="400000") as process:
            assert manager.until("READY")["STATUS"].startswith("serving on port ")
            assert manager.hear() == {"WATCHDOG": "1"}
            process.send_signal(signal.SIGHUP)
            assert "MONOTONIC_USEC" in manager.until("RELOADING")
            assert manager.until("READY")["STATUS"].startswith("serving")
            config.write_text("[stun]\nprot = 1\n")
            process.send_signal(signal.SIGHUP)
            manager.until("RELOADING")
            assert manager.until("READY")["STATUS"].startswith("reload refused: unknown key stun.prot")
            process.send_signal(signal.SIGTERM)
            assert "STOPPING" in manager.until("STOPPING")
            _, err = process.communicate(timeout=10)
            assert process.returncode == 0
            assert "Traceback" not in err

    def test_sockets_are_taken_over(self, manager: Manager, tmp_path: Path) -> None:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.create_server(("127.0.0.1", 0)) as tcp,
            socket.create_server(("127.0.0.1", 0)) as http,
        ):
            udp.bind(("127.0.0.1", 0))
            given = [("udp", udp), ("tcp", tcp), ("http", http)]
            with service(tmp_path, pass_sockets=given) as process:
                assert process.stdout is not None
                line = process.stdout.readline()
                assert line, process.communicate()[1]
                ready = json.loads(line)
                port = udp.getsockname()[1]
                assert ready["stun"] == [f"stun:127.0.0.1:{port}"]
                assert ready["turn"][1] == f"turn:127.0.0.1:{tcp.getsockname()[1]}?transport=tcp"
                assert ready["http"].endswith(f":{http.getsockname()[1]}")
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                    client.settimeout(10)
                    client.sendto(struct.pack("!HHI", 1, 0, 0x2112A442) + bytes(12), ("127.0.0.1", port))
                    assert client.recv(100)[:2] == b"\x01\x01"
                with socket.create_connection(tcp.getsockname(), 10) as client:
                    client.sendall(struct.pack("!HHI", 1, 0, 0x2112A442) + bytes(12))
                    assert client.recv(100)[:2] == b"\x01\x01"

    def test_a_socket_that_fits_nothing_stops_the_start(self, manager: Manager, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as tcp:
            arguments = ["--http-port", "0", "--stun-port", "0"]
            with service(tmp_path, *arguments, pass_sockets=[("wrong", tcp)]) as process:
                _, err = process.communicate(timeout=20)
                assert process.returncode == 69
                assert "the socket 'wrong' from systemd" in err


@pytest.mark.skipif(not Path("/usr/bin/systemd-analyze").exists(), reason="systemd-analyze is not installed")
class TestUnits:
    def test_the_units_are_well_formed(self, tmp_path: Path) -> None:
        for name in ("natwalk.service", "natwalk.socket"):
            text = (PACKAGING / name).read_text()
            # the program it starts need not be installed where the test runs
            (tmp_path / name).write_text(text.replace("/usr/bin/natwalk", sys.executable))
        result = subprocess.run(
            ["systemd-analyze", "verify", tmp_path / "natwalk.service", tmp_path / "natwalk.socket"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        mine = [line for line in result.stderr.splitlines() if "natwalk" in line]
        assert mine == []

    def test_the_service_is_exposed_little(self) -> None:
        """systemd's own measure, 10 for no protection at all, 0 for all there is."""
        result = subprocess.run(
            [
                "systemd-analyze",
                "security",
                "--offline=true",
                "--threshold=20",
                PACKAGING / "natwalk.service",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert result.returncode == 0, result.stdout[-300:]
