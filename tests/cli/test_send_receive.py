"""``natwalk send`` and ``natwalk receive`` as people run them: real processes and a real server."""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from natwalk.rendezvous.wordlist import FIRST

NATWALK = [sys.executable, "-m", "natwalk"]
PATIENCE = 60
Event = dict[str, Any]


class Program:
    """A natwalk command with ``--json``, followed by its events."""

    def __init__(self, arguments: list[str], home: Path, stdin: str | None = None, **env: str) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("NATWALK_")}
        environment |= {"XDG_STATE_HOME": str(home), **env}
        self.process = subprocess.Popen(
            [*NATWALK, *arguments],
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        if stdin is not None:
            assert self.process.stdin is not None
            self.process.stdin.write(stdin)
            self.process.stdin.flush()
        self.events: list[Event] = []
        self.lines: list[str] = []
        self._said: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def wait_for(self, wanted: str | Callable[[Event], bool]) -> Event:
        """The next event that is ``wanted``."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = self._take(line)
            if event["event"] == wanted or (callable(wanted) and wanted(event)):
                return event
        raise AssertionError(f"ended with {self.process.wait()} before {wanted}: {self.events} {self.said}")

    def finish(self) -> int:
        """Its exit code, with all events read."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._take(line)
        code = self.process.wait(PATIENCE)
        self._listener.join()
        return code

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event["event"] == name]

    @property
    def said(self) -> str:
        """What it said to people."""
        return "".join(self._said)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._listener.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def _take(self, line: str) -> Event:
        event: Event = json.loads(line)
        self.lines.append(line)
        self.events.append(event)
        return event

    def _listen(self) -> None:
        assert self.process.stderr is not None
        self._said.extend(self.process.stderr)


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a server on this machine."""
    http, stun = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    ports = ["--http-port", str(http), "--stun-port", str(stun)]
    process = subprocess.Popen(
        [*NATWALK, "serve", "--listen", "127.0.0.1", *ports, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert b"ready" in process.stdout.readline()
    yield f"http://127.0.0.1:{http}"
    process.terminate()
    process.wait(PATIENCE)
    process.stdout.close()


class Scene:
    """One test's folders and programs."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder = folder
        self.server = server
        self.output = folder / "out"
        self.programs: list[Program] = []

    def file(self, name: str = "holiday.tar", size: int = 300_000) -> Path:
        path = self.folder / "source" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(size))
        return path

    def start(self, *arguments: object, stdin: str | None = None, **env: str) -> Program:
        program = Program(
            [*map(str, arguments), "--server", self.server, "--json"], self.folder / "home", stdin, **env
        )
        self.programs.append(program)
        return program

    def send(self, *arguments: object) -> Program:
        return self.start("send", *arguments)

    def receive(self, *arguments: object, stdin: str | None = None, **env: str) -> Program:
        return self.start("receive", *arguments, "--output", self.output, stdin=stdin, **env)

    def offered(self, *arguments: object) -> tuple[Program, str]:
        """A waiting sender and its code."""
        sender = self.send(*arguments)
        return sender, sender.wait_for("code")["code"]


@pytest.fixture
def scene(tmp_path: Path, server: str) -> Iterator[Scene]:
    made = Scene(tmp_path, server)
    yield made
    for program in made.programs:
        program.close()


def assert_done(*programs: Program) -> None:
    for program in programs:
        assert program.finish() == 0, (program.events[-5:], program.said)
    assert len({program.named("done")[0]["sha256"] for program in programs}) == 1


def test_a_file_arrives_and_both_sides_tell_the_same(scene: Scene) -> None:
    source = scene.file()
    sender, code = scene.offered(source)
    receiver = scene.receive(code, "--yes")
    assert_done(sender, receiver)
    assert (scene.output / source.name).read_bytes() == source.read_bytes()
    done = receiver.named("done")[0]
    assert done["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert (done["bytes"], done["saved"]) == (300_000, ["holiday.tar"])
    for program in (sender, receiver):
        path = program.named("path")[-1]
        assert path["kind"] == "direct"
        assert set(path) >= {"local", "remote", "local_type", "remote_type", "rtt_ms", "reason"}
        assert program.named("progress")[-1]["bytes"] == 300_000
    assert not (scene.folder / "home/natwalk/send").exists() or not os.listdir(
        scene.folder / "home/natwalk/send"
    )
    assert os.listdir(scene.output) == ["holiday.tar"]


def test_the_printed_command_is_all_the_other_side_needs(scene: Scene) -> None:
    """People's output: everything on stderr, the command on a line of its own."""
    folder = scene.folder / "photos"
    (folder / "deep/er").mkdir(parents=True)
    (folder / "deep/er/a b.txt").write_text("hello")
    (folder / "empty").write_bytes(b"")
    env = {**os.environ, "XDG_STATE_HOME": str(scene.folder)}
    with subprocess.Popen(
        [*NATWALK, "send", str(folder), "--server", scene.server],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
    ) as sender:  # fmt: skip
        assert sender.stderr is not None
        command = next(line for line in sender.stderr if "natwalk receive " in line)
        words = shlex.split(command)
        assert words[0] == "natwalk"
        scene.output.mkdir()
        received = subprocess.run(
            [*NATWALK, *words[1:], "--yes"],
            cwd=scene.output,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        out, err = sender.communicate(timeout=PATIENCE)
    assert (received.returncode, sender.returncode) == (0, 0), (received.stderr, err)
    assert (received.stdout, out) == ("", "")
    assert (scene.output / "photos/deep/er/a b.txt").read_text() == "hello"
    assert (scene.output / "photos/empty").read_bytes() == b""
    for said in (received.stderr, err):
        assert "path: direct, " in said
        assert "2 files, 5 B (5 bytes) in " in said
        assert "sha256: " in said
    assert "photos/  2 files, 5 B" in received.stderr


def test_the_code_may_come_from_the_environment_or_standard_input(scene: Scene) -> None:
    for n, way in enumerate(("environment", "stdin")):
        sender, code = scene.offered(scene.file(f"f{n}"))
        if way == "environment":
            receiver = scene.receive("--yes", NATWALK_CODE=code)
        else:
            receiver = scene.receive("--yes", stdin=f"{code}\n")
        assert_done(sender, receiver)


def test_a_code_on_the_command_line_is_taken_off_it(scene: Scene) -> None:
    sender, code = scene.offered(scene.file())
    receiver = scene.receive(code, stdin="")
    receiver.wait_for("offer")
    shown = Path(f"/proc/{receiver.process.pid}/cmdline").read_bytes()
    assert code.encode() not in shown
    assert b"receive" in shown
    sender.close()


def test_consent_is_asked_and_a_no_reaches_the_sender(scene: Scene) -> None:
    sender, code = scene.offered(scene.file())
    receiver = scene.receive(code, stdin="n\n")
    assert (receiver.finish(), sender.finish()) == (1, 1)
    assert "Receive this? [y/N]" in receiver.said
    assert "declined" in sender.said
    assert sender.named("error")[0]["hint"]
    assert os.listdir(scene.output) == []


def test_consent_given_by_hand(scene: Scene) -> None:
    source = scene.file()
    sender, code = scene.offered(source)
    receiver = scene.receive(code, stdin="y\n")
    assert_done(sender, receiver)
    offer = receiver.named("offer")[0]
    assert (offer["files"], offer["bytes"], offer["names"]) == (1, 300_000, [source.name])


def test_names_with_escapes_are_shown_not_obeyed(scene: Scene) -> None:
    evil = scene.file("a\x1b[31m\u202efdp.exe", 10)
    sender, code = scene.offered(evil)
    receiver = scene.receive(code, "--yes")
    assert_done(sender, receiver)
    for program in (sender, receiver):
        everything = program.said + "".join(program.lines)
        assert "\x1b" not in everything
        assert "\u202e" not in everything
    assert "\\\\x1b" in json.dumps(sender.named("notice"))
    assert os.listdir(scene.output) == ["a_[31m\u202efdp.exe"]


def test_what_exists_is_not_touched_without_consent(scene: Scene) -> None:
    source = scene.file()
    scene.output.mkdir()
    (scene.output / source.name).write_text("mine")
    for options, kept in (([], "mine"), (["--overwrite"], None)):
        sender, code = scene.offered(source)
        receiver = scene.receive(code, "--yes", *options)
        assert_done(sender, receiver)
        assert receiver.named("offer")[0]["exists"] == [source.name]
        if kept:
            assert (scene.output / source.name).read_text() == kept
            assert receiver.named("saved")[0]["saved_as"] == "holiday (1).tar"
    assert (scene.output / source.name).read_bytes() == source.read_bytes()


def test_a_relay_is_used_when_asked_for_and_the_reason_is_told(scene: Scene) -> None:
    sender, code = scene.offered(scene.file(), "--path-policy", "relay")
    receiver = scene.receive(code, "--yes", "--path-policy", "relay")
    assert_done(sender, receiver)
    path = receiver.named("path")[-1]
    assert path["kind"] == "relay"
    assert path["reason"]


def other_words(code: str) -> str:
    number, first, second = code.split("-")
    return f"{number}-{FIRST[0] if first != FIRST[0] else FIRST[1]}-{second}"


def test_a_wrong_code_burns_it_on_both_sides(scene: Scene) -> None:
    sender, code = scene.offered(scene.file())
    receiver = scene.receive(other_words(code), "--yes")
    assert (receiver.finish(), sender.finish()) == (4, 4)
    for program in (sender, receiver):
        error = program.named("error")[0]
        assert error["code"] == 4
        assert error["message"]
        assert error["hint"]
        assert error["message"] in program.said
    assert os.listdir(scene.folder) == ["source", "home"] or not scene.output.exists()


def test_a_code_nobody_has_is_not_found(scene: Scene) -> None:
    receiver = scene.receive(f"4711-{FIRST[0]}-x", "--yes")
    assert receiver.finish() == 2, "a word that is not of the list is a mistake in typing"
    _, code = scene.offered(scene.file())
    receiver = scene.receive(f"4711-{code.split('-', 1)[1]}", "--yes")
    assert receiver.finish() == 5
    assert receiver.named("error")[0]["hint"]


def test_a_dead_server(scene: Scene) -> None:
    scene.server = f"http://127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    sender = scene.send(scene.file())
    assert sender.finish() == 69
    error = sender.named("error")[0]
    assert error["hint"]
    assert "Traceback" not in sender.said


@pytest.mark.parametrize("name", ["missing", "fifo"])
def test_what_cannot_be_read_is_said_before_any_connection(scene: Scene, name: str) -> None:
    scene.server = f"http://127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    os.mkfifo(scene.folder / "fifo")
    sender = scene.send(scene.folder / name)
    assert sender.finish() == 1
    assert name in sender.named("error")[0]["message"]


UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
"""Root reads everything, unless it gives that up."""


def test_a_file_without_permission_is_said_before_any_connection(scene: Scene) -> None:
    source = scene.file()
    source.chmod(0)
    command = [*UNPRIVILEGED, *NATWALK, "send", str(source), "--server", "http://127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert f"{source}: permission denied" in done.stderr
    assert done.stderr.count("\n") == 2, "one sentence, one hint"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_ends_both_and_the_same_commands_go_on(scene: Scene) -> None:
    source = scene.file(size=400_000)
    scene.output.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", scene.output], check=True)
    try:
        sender, code = scene.offered(source)
        receiver = scene.receive(code, "--yes")
        assert (receiver.finish(), sender.finish()) == (1, 1)
        for program in (sender, receiver):
            error = program.named("error")[0]
            assert "disk is full" in error["message"]
            assert error["hint"]
        subprocess.run(["mount", "-o", "remount,size=1m", scene.output], check=True)
        sender, again = scene.offered(source)
        assert again == code
        receiver = scene.receive(code, "--yes")
        assert_done(sender, receiver)
        assert (scene.output / source.name).read_bytes() == source.read_bytes()
    finally:
        subprocess.run(["umount", scene.output], check=True)


def test_nobody_comes_in_time(scene: Scene) -> None:
    sender = scene.send(scene.file(), "--timeout", "0.7")
    assert sender.finish() == 124
    assert "the receiver did not come within 0.7 s" in sender.said


def test_interrupting(scene: Scene) -> None:
    sender, _ = scene.offered(scene.file())
    sender.process.send_signal(signal.SIGINT)
    assert sender.finish() == 130
    assert "Traceback" not in sender.said


def test_bad_options_are_usage_errors(scene: Scene) -> None:
    assert scene.send(scene.file(), "--path-policy", "astral").finish() == 2
    assert scene.receive("--yes").finish() == 2, "no code, and nobody to ask"
    scene.server = "gopher://x"
    sender = scene.send(scene.file())
    assert sender.finish() == 2
    assert "server URL" in sender.said


def in_the_middle(event: Event) -> bool:
    return bool(event["event"] == "progress" and event["bytes"] > 2_000_000)


@pytest.mark.parametrize("side", ["receiver", "sender"])
def test_interrupted_and_started_again_only_the_missing_part_is_sent(scene: Scene, side: str) -> None:
    """The interrupted side closes its connection, so the other needs no timeout to notice."""
    source = scene.file(size=1 << 20)
    with source.open("ab") as out:
        block = source.read_bytes()
        for _ in range(400):  # a second's work at the least, and the interruption comes after two megabytes
            out.write(block)
    sender, code = scene.offered(source)
    receiver = scene.receive(code, "--yes")
    receiver.wait_for(in_the_middle)
    stopped = receiver if side == "receiver" else sender
    stopped.process.send_signal(signal.SIGINT)
    assert stopped.finish() == 130
    assert not (scene.output / source.name).exists()
    if side == "receiver":
        sender.wait_for("waiting")
        receiver = scene.receive(code, "--yes")
    else:
        receiver.wait_for("waiting")
        sender = scene.send(source)
        assert sender.wait_for("code")["resumed"]
    assert_done(sender, receiver)
    assert filecmp.cmp(scene.output / source.name, source, shallow=False)
    done = receiver.named("done")[0]
    assert done["resumed"] >= 2_000_000
    assert done["moved"] == source.stat().st_size - done["resumed"]
    assert not receiver.named("offer") or side == "sender", "consent is not asked a second time"
