"""The main job on a real network stack: server, sender and receiver are processes on three machines."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.programs import URL, Stage, received_bytes
from natwalk.lab import Lab

pytestmark = pytest.mark.lab

SMALL = 300_000
LONG = 12_000_000
RATE = 4_000_000
"""Bytes a second: a LONG file takes three seconds, time enough for something to happen meanwhile."""


@pytest.fixture
def stage(tmp_path):
    """Makes the context of one test: ``with stage(nat_a, nat_b, same_lan=...) as made``."""

    @contextmanager
    def build(nat_a: str, nat_b: str, **options):
        with Lab(nat_a, nat_b, **options) as lab:
            made = Stage(lab, tmp_path)
            try:
                made.serve()
                yield made
            finally:
                made.close()

    return build


@pytest.fixture
def make_file(tmp_path):
    """Makes a file of that many random bytes."""

    def make(size: int) -> Path:
        path = tmp_path / "original" / "holiday.tar"
        path.parent.mkdir()
        path.write_bytes(os.urandom(size))
        return path

    return make


def assert_whole(made: Stage, source: Path, sender, receiver) -> None:
    """Both programs succeeded, report one hash, and the file on the other side is the same."""
    assert receiver.finish() == 0, receiver.story()
    assert sender.finish() == 0, sender.story()
    assert len(sender.named("done")) == 1, sender.story()
    (sent,), (received,) = sender.named("done"), receiver.named("done")
    assert sent["sha256"] == received["sha256"]
    assert (made.output / source.name).read_bytes() == source.read_bytes()


def kinds_of_path(program) -> list[str]:
    return [event["kind"] for event in program.named("path")]


@pytest.mark.parametrize(
    ("nat_a", "nat_b", "same_lan"),
    [
        ("port-restricted", "port-restricted", False),
        ("full-cone", "symmetric", False),
        ("symmetric", "full-cone", False),
        ("none", "symmetric", False),
        ("address-restricted", "symmetric", False),
        ("cgnat", "cgnat", False),
        ("symmetric", "symmetric", True),
    ],
)
def test_a_pair_that_can_be_punched_ends_on_a_direct_path(stage, make_file, nat_a, nat_b, same_lan) -> None:
    source = make_file(SMALL)
    with stage(nat_a, nat_b, same_lan=same_lan) as made:
        made.lab.a.limit_rate(SMALL)  # a second's worth: time to move off the relay it may begin on
        sender = made.send(source)
        receiver = made.receive(sender.wait_for("code")["code"])
        assert_whole(made, source, sender, receiver)
        assert kinds_of_path(sender)[-1] == "direct", sender.story()
        assert kinds_of_path(receiver)[-1] == "direct", receiver.story()
        if same_lan:
            assert received_bytes(made.lab.nat_a, "wan") < SMALL, "neighbours do not go through their router"


@pytest.mark.parametrize(
    ("nat_a", "nat_b"),
    [("symmetric", "symmetric"), ("port-restricted", "symmetric"), ("symmetric", "port-restricted")],
)
def test_a_pair_that_cannot_yet_be_punched_goes_through_the_relay(stage, make_file, nat_a, nat_b) -> None:
    source = make_file(SMALL)
    with stage(nat_a, nat_b) as made:
        sender = made.send(source)
        receiver = made.receive(sender.wait_for("code")["code"])
        assert_whole(made, source, sender, receiver)
        for program in (sender, receiver):
            assert set(kinds_of_path(program)) == {"relay"}, program.story()
            reason = program.named("path")[-1]["reason"]
            assert "gives every destination another port" in reason, program.story()


@pytest.mark.parametrize(
    ("side", "new_ports"), [("nat_a", False), ("nat_a", True), ("nat_b", True)], ids=lambda value: str(value)
)
def test_a_nat_that_loses_its_state_does_not_lose_the_transfer(stage, make_file, side, new_ports) -> None:
    source = make_file(LONG)
    with stage("port-restricted", "port-restricted") as made:
        made.lab.a.limit_rate(RATE)
        sender = made.send(source)
        receiver = made.receive(sender.wait_for("code")["code"])
        receiver.wait_for(lambda event: event["event"] == "progress" and event["bytes"] > LONG // 4)
        getattr(made.lab, side).reset(new_ports=new_ports)
        assert_whole(made, source, sender, receiver)


def test_a_killed_receiver_started_again_gets_only_what_is_missing(stage, make_file) -> None:
    source = make_file(LONG)
    with stage("port-restricted", "port-restricted") as made:
        made.lab.a.limit_rate(RATE)
        sender = made.send(source)
        code = sender.wait_for("code")["code"]
        first = made.receive(code)
        have = first.wait_for(lambda event: event["event"] == "progress" and event["bytes"] > LONG // 2)[
            "bytes"
        ]
        first.kill()
        assert not (made.output / source.name).exists(), "a part is never mistaken for the whole"
        before = received_bytes(made.lab.b)
        second = made.receive(code)
        assert_whole(made, source, sender, second)
        again = received_bytes(made.lab.b) - before
        assert again < (LONG - have) * 1.15 + 500_000, f"{again} bytes came for {LONG - have} missing ones"


def test_a_killed_sender_started_again_sends_only_what_is_missing(stage, make_file) -> None:
    source = make_file(LONG)
    with stage("port-restricted", "port-restricted") as made:
        made.lab.a.limit_rate(RATE)
        first = made.send(source)
        receiver = made.receive(first.wait_for("code")["code"])
        have = receiver.wait_for(lambda event: event["event"] == "progress" and event["bytes"] > LONG // 2)
        first.kill()
        before = received_bytes(made.lab.b)
        second = made.send(source)
        assert_whole(made, source, second, receiver)
        missing = LONG - have["bytes"]
        again = received_bytes(made.lab.b) - before
        assert again < missing * 1.15 + 500_000, f"{again} bytes came for {missing} missing ones"


def test_by_hand_as_the_readme_says(make_file, tmp_path) -> None:
    """Three terminals: ``natwalk serve``; ``natwalk send``; the command that it prints."""
    source = make_file(SMALL)
    natwalk = [sys.executable, "-m", "natwalk"]
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    with Lab("port-restricted", "port-restricted") as lab:
        server = lab.server.popen([*natwalk, "serve"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert any(b"8478" in line for line in server.stdout), "it says where it listens"
        sender = lab.a.popen(
            [*natwalk, "send", str(source), "--server", URL], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        command = next(line for line in sender.stdout if b"natwalk receive " in line).decode()
        words = shlex.split(command[command.index("natwalk receive ") :])
        receiver = lab.b.popen(
            [*natwalk, *words[1:], "--yes"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        said, _ = receiver.communicate(timeout=60)
        assert receiver.returncode == 0, said.decode()
        assert b"direct" in said, "the path in use is shown"
        sender.communicate(timeout=60)
        assert sender.returncode == 0
        server.kill()
        server.stdout.close()
    assert (folder / source.name).read_bytes() == source.read_bytes()
