"""``natwalk demo``: its events, its three outputs, and how it ends."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from rich.console import Console

from natwalk.cli import demo as demo_command
from natwalk.cli import demo_lab
from natwalk.cli.demo import demo
from natwalk.cli.demo_lab import DemoFailed, DemoPlan, run_in_lab
from natwalk.cli.demo_story import MAX_CANDIDATES, MAX_PATHS, Story
from natwalk.cli.demo_text import plain_lines, size_text, summary_lines
from natwalk.cli.demo_view import screen
from natwalk.lab import LabUnavailable

HASH = "ab" * 32
PLAN = DemoPlan("port-restricted", "symmetric", False, 1000, "any")


def topology(**changes):
    return {
        "event": "topology",
        "side": "demo",
        "at": 0.0,
        "where": "namespaces",
        "nat_a": "port-restricted",
        "nat_b": "symmetric",
        "same_lan": False,
        "size": 1000,
        "addresses": {
            "a": "192.168.1.10",
            "b": "10.0.0.11",
            "nat_a": "198.51.100.2",
            "server": "203.0.113.10",
        },
        **changes,
    }


def route(kind: str, at: float, **changes):
    ends = {"local": "10.0.0.11:4", "remote": "198.51.100.2:5", "local_type": "srflx", "remote_type": "prflx"}
    return {
        "event": "path",
        "side": "b",
        "at": at,
        "kind": kind,
        "rtt_ms": 0.44,
        "reason": "why",
        **ends,
        **changes,
    }


SCRIPT = [
    topology(),
    {"event": "start", "side": "a", "at": 0.1, "command": "natwalk send demo.bin"},
    {
        "event": "code",
        "side": "a",
        "at": 0.2,
        "code": "7-crossover-clockwork",
        "command": "natwalk receive …",
    },
    {"event": "start", "side": "b", "at": 0.5, "command": "natwalk receive 7-crossover-clockwork"},
    {"event": "candidate", "side": "b", "of": "local", "at": 0.6, "type": "host", "address": "10.0.0.11:4"},
    {"event": "candidate", "side": "b", "of": "local", "at": 0.6, "type": "srflx", "address": "192.0.2.2:4"},
    {
        "event": "candidate",
        "side": "b",
        "of": "remote",
        "at": 0.6,
        "type": "host",
        "address": "192.168.1.10:9",
    },
    {"event": "nat", "side": "b", "of": "local", "at": 0.7, "mapping": "endpoint-dependent"},
    {
        "event": "check",
        "side": "b",
        "at": 0.7,
        "local": "x",
        "remote": "y",
        "state": "failed",
        "reason": "silence",
    },
    {"event": "check", "side": "b", "at": 0.7, "local": "x", "remote": "z", "state": "succeeded"},
    route("relay", 0.8),
    {"event": "connected", "side": "b", "at": 0.9},
    {"event": "progress", "side": "b", "at": 1.0, "bytes": 400, "total": 1000, "rate": 4000.0},
    route("direct", 1.1),
    {"event": "done", "side": "b", "at": 1.2, "bytes": 1000, "sha256": HASH, "seconds": 0.5},
    {"event": "done", "side": "a", "at": 1.2, "bytes": 1000, "sha256": HASH, "seconds": 0.5},
    {"event": "result", "side": "demo", "at": 1.3, "sent": HASH, "received": HASH},
]


def told(events=SCRIPT) -> Story:
    story = Story()
    for event in events:
        story.take(event)
    return story


def drawn(story: Story, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)
    console.print(screen(story, width))
    return console.file.getvalue()


@pytest.fixture
def scripted(monkeypatch):
    """The command with a scripted run in place of the lab."""

    def play(events=SCRIPT):
        monkeypatch.setattr(
            demo_command, "_run", lambda plan, on_event: [on_event(event) for event in events]
        )

    return play


def test_the_story_adds_up() -> None:
    story = told()
    side = story.sides["b"]
    assert story.ok
    assert story.first_byte_seconds == pytest.approx(0.5)
    assert side.candidates == [("host", "10.0.0.11:4"), ("srflx", "192.0.2.2:4")]
    assert (side.count("succeeded"), side.count("failed")) == (1, 1)
    assert [step.kind for step in side.routes] == ["relay", "direct"]
    assert side.nat == "endpoint-dependent"
    assert story.summary() == {
        "event": "summary",
        "side": "demo",
        "at": 1.3,
        "ok": True,
        "where": "namespaces",
        "path": "direct",
        "reason": "why",
        "rtt_ms": 0.44,
        "first_byte_seconds": 0.5,
        "bytes": 1000,
        "seconds": 0.5,
        "bytes_per_second": 2000,
        "sha256_sent": HASH,
        "sha256_received": HASH,
    }


@pytest.mark.parametrize("cut", range(len(SCRIPT)))
def test_every_state_on_the_way_can_be_drawn_and_is_not_yet_a_success(cut) -> None:
    story = told(SCRIPT[:cut])
    assert "natwalk demo" in drawn(story, 110)
    assert "natwalk demo" in drawn(story, 60)
    assert not story.ok
    assert story.summary()["ok"] is False


def test_hashes_that_differ_anywhere_are_no_success() -> None:
    for index in (-1, -2, -3):
        events = [dict(event) for event in SCRIPT]
        events[index]["sha256" if index < -1 else "received"] = "cd" * 32
        story = told(events)
        assert not story.ok
        assert "NOT EQUAL" in "\n".join(summary_lines(story))
        assert "damaged" in drawn(story, 110)


def test_the_picture_shows_the_kinds_in_both_languages_and_the_path() -> None:
    text = drawn(told(), 110)
    for part in (
        "port-restricted",
        "endpoint-independent mapping, address-and-port-dependent filtering",
        "symmetric: address-and-port-dependent mapping",
        "198.51.100.2",
        "203.0.113.10",
        "━ direct ━",
        "srflx  192.0.2.2:4",
        "checks 1 passed, 1 failed",
        "path   relay at 0.80 s",
        "first byte after 0.50 s",
        "equal on both sides",
    ):
        assert part in text
    assert all(len(line) <= 110 for line in text.splitlines())


def test_the_picture_of_one_lan_has_both_peers_before_one_nat() -> None:
    text = drawn(told([topology(same_lan=True, nat_b="port-restricted"), route("direct", 1.0)]), 110)
    first = text.splitlines()[1]
    assert first.index(" A ") < first.index(" B ") < first.index(" NAT a ") < first.index(" internet ")
    assert "NAT b" not in text


def test_a_public_peer_has_no_nat_box() -> None:
    assert "NAT b" not in drawn(told([topology(nat_b="none")]), 110).splitlines()[1]


def test_a_flood_of_candidates_is_bounded() -> None:
    event = {"event": "candidate", "side": "a", "of": "local", "at": 0.0, "type": "host"}
    story = told([topology(), *({**event, "address": f"10.0.0.1:{port}"} for port in range(1000))])
    assert len(story.sides["a"].candidates) == MAX_CANDIDATES
    assert "and 26 more" in drawn(story, 110)


def test_news_of_the_same_path_replace_it_and_changes_are_kept_up_to_a_bound() -> None:
    news = [route("relay", 1.0, reason="early"), route("relay", 2.0, reason="late", rtt_ms=3)]
    (only,) = told([topology(), *news]).sides["b"].routes
    assert (only.at, only.reason, only.rtt_ms) == (1.0, "late", 3.0)
    flapping = [route("direct", float(n), remote=f"192.0.2.2:{n}") for n in range(MAX_PATHS + 9)]
    side = told([topology(), *flapping]).sides["b"]
    assert len(side.routes) == MAX_PATHS
    assert side.route.remote == f"192.0.2.2:{MAX_PATHS + 8}"


def test_events_it_does_not_know_change_nothing() -> None:
    story = told([*SCRIPT, {"event": "novelty", "side": "a", "at": 2.0}, {"event": "else", "side": "moon"}])
    assert story.ok


def test_a_lost_path_is_shown_until_there_is_another() -> None:
    lost = {"event": "path-lost", "side": "b", "at": 1.15, "reason": "the peer is silent"}
    story = told([topology(), route("direct", 1.0), lost])
    assert "path   lost: the peer is silent" in drawn(story, 110)
    assert list(plain_lines(lost, story)) == ["  1.150 s  B       path lost: the peer is silent"]
    story.take(route("relay", 1.3))
    assert "lost" not in drawn(story, 110)


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ("endpoint-independent", "endpoint-independent mapping"),
        ("no-nat", "there is none"),
        ("udp-silent", "no server answers over UDP"),
    ],
)
def test_what_a_peer_found_out_about_its_nat_in_words(mapping, words) -> None:
    event = {"event": "nat", "side": "a", "of": "local", "at": 0.5, "mapping": mapping}
    story = told([topology(), event])
    assert f"NAT    {words}" in drawn(story, 110)
    assert list(plain_lines(event, story)) == [f"  0.500 s  A       own NAT: {words}"]


def test_plain_lines_name_side_and_time() -> None:
    story = Story()
    lines = []
    for event in SCRIPT:
        story.take(event)
        lines += plain_lines(event, story)
    assert "  0.200 s  A       code 7-crossover-clockwork" in lines
    assert "  0.600 s  B       peer's candidate host 192.168.1.10:9" in lines
    assert "  0.700 s  B       check x -> y failed: silence" in lines
    assert (
        "  1.100 s  B       path direct, 10.0.0.11:4 (srflx) <-> 198.51.100.2:5 (prflx), 0.4 ms: why" in lines
    )


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (64 << 20, "67.1 MB"), (2e9, "2.0 GB")]
)
def test_sizes_in_words(size, text) -> None:
    assert size_text(size) == text


def test_without_a_terminal_it_prints_plain_lines_and_exits_0(scripted) -> None:
    scripted()
    result = CliRunner().invoke(demo, [])
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert f"sha256      equal on both sides: {HASH}" in result.output


def test_json_prints_one_object_a_line_and_the_summary_last(scripted) -> None:
    scripted()
    result = CliRunner().invoke(demo, ["--json"])
    objects = [json.loads(line) for line in result.stdout.splitlines()]
    assert objects[:-1] == SCRIPT
    assert objects[-1]["event"] == "summary"
    assert objects[-1]["ok"] is True


def test_a_damaged_file_exits_with_the_integrity_code(scripted) -> None:
    scripted([*SCRIPT[:-1], {**SCRIPT[-1], "received": "00"}])
    assert CliRunner().invoke(demo, []).exit_code == 6


def test_a_failed_program_gives_its_exit_code_message_and_hint(monkeypatch) -> None:
    def fail(plan, on_event):
        raise DemoFailed("no path to the peer", "allow a relay", 3)

    monkeypatch.setattr(demo_command, "_run", fail)
    result = CliRunner().invoke(demo, [])
    assert result.exit_code == 3
    assert "error: no path to the peer allow a relay" in result.output


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("500", 500), ("64k", 65536), ("3M", 3 << 20), ("1G", 1 << 30)]
)
def test_size_option(monkeypatch, text, size) -> None:
    plans = []
    monkeypatch.setattr(demo_command, "_run", lambda plan, on_event: plans.append(plan))
    CliRunner().invoke(
        demo, ["--size", text, "--nat-a", "none", "--nat-b", "cgnat", "--path-policy", "relay"]
    )
    assert plans == [DemoPlan("none", "cgnat", False, size, "relay")]


@pytest.mark.parametrize("text", ["", "M", "1T", "1.5M", "-1", "1MM", "٣"])
def test_sizes_that_are_none_are_usage_errors(text) -> None:
    result = CliRunner().invoke(demo, ["--size", text])
    assert result.exit_code == 2
    assert "is not a size like" in result.output


def test_without_namespaces_it_says_why_and_runs_the_simulator(monkeypatch) -> None:
    def no_lab(*_, **__):
        raise LabUnavailable("user namespaces are off", "run as root")

    monkeypatch.setattr(demo_command, "Lab", no_lab)
    result = CliRunner().invoke(demo, ["--size", "100K", "--nat-b", "symmetric", "--path-policy", "relay"])
    assert result.exit_code == 0, result.output
    assert "path        relay: the path policy asks for a relay" in result.output
    assert "sha256      equal on both sides" in result.output
    assert "no network namespaces here: user namespaces are off (run as root)" in result.output
    assert "an internet in the simulator, because user namespaces are off" in result.output


class FakeNode:
    """Runs a Python script in place of ``natwalk COMMAND``; the script sees the arguments."""

    def __init__(self, name: str, scripts: dict[str, str]) -> None:
        self.address = f"address of {name}"
        self.scripts = scripts
        self.started: list[subprocess.Popen[bytes]] = []

    def popen(self, argv, **streams):
        command, rest = argv[3], argv[4:]
        program = subprocess.Popen([sys.executable, "-c", self.scripts[command], *rest], **streams)
        self.started.append(program)
        return program


SERVE = 'print(\'{"event": "ready"}\', flush=True); import time; time.sleep(100)'
SEND = """
import hashlib, json, sys
print(json.dumps({"event": "code", "code": "1-a-b"}), flush=True)
print(json.dumps({"event": "candidate", "side": "remote", "type": "host", "address": "x"}), flush=True)
print("not an object", flush=True)
content = open(sys.argv[1], "rb").read()
print(json.dumps({"event": "done", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}))
"""
RECEIVE = """
import hashlib, json, pathlib, sys
assert sys.argv[1] == "1-a-b"
output = pathlib.Path(sys.argv[sys.argv.index("--output") + 1])
content = (output.parent / "sent" / "demo.bin").read_bytes()
(output / "demo.bin").write_bytes(content)
print(json.dumps({"event": "done", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}))
"""


class FakeLab:
    kind_a, kind_b = PLAN.nat_a, PLAN.nat_b
    routers_a = routers_b = ()

    def __init__(self, **scripts: str) -> None:
        every = {"serve": SERVE, "send": SEND, "receive": RECEIVE, **scripts}
        self.server, self.a, self.b = (FakeNode(name, every) for name in ("server", "a", "b"))

    def assert_all_ended(self) -> None:
        for node in (self.server, self.a, self.b):
            for program in node.started:
                assert program.returncode is not None
                assert program.stdout.closed


def test_the_three_programs_are_started_in_turn_and_the_files_compared() -> None:
    lab, events = FakeLab(), []
    run_in_lab(PLAN, lab, events.append)
    lab.assert_all_ended()
    names = [(event["side"], event["event"]) for event in events]
    wanted = [
        ("demo", "topology"),
        ("server", "start"),
        ("server", "ready"),
        ("a", "start"),
        ("a", "code"),
        ("b", "start"),
        ("b", "done"),
        ("demo", "result"),
    ]
    assert [name for name in names if name in wanted] == wanted
    assert ("a", "output") in names, "a line that is no JSON is handed on as text"
    (candidate,) = (event for event in events if event["event"] == "candidate")
    assert (candidate["side"], candidate["of"]) == ("a", "remote")
    assert told(events).ok
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)


@pytest.mark.parametrize(
    ("program", "script", "message", "code"),
    [
        ("serve", "import sys; sys.exit('port 8478 is taken')", "port 8478 is taken", 1),
        ("send", "import sys; sys.exit(69)", "natwalk ended with 69 on a", 69),
        (
            "receive",
            """print('{"event": "error", "message": "wrong code", "hint": "ask"}'); raise SystemExit(4)""",
            "wrong code",
            4,
        ),
        ("receive", "import os; os.abort()", "natwalk ended with -6 on b", 1),
    ],
)
def test_a_program_that_fails_ends_the_demo_with_its_reason(program, script, message, code) -> None:
    lab = FakeLab(**{program: script})
    with pytest.raises(DemoFailed) as caught:
        run_in_lab(PLAN, lab, lambda event: None)
    assert (str(caught.value), caught.value.exit_code) == (message, code)
    lab.assert_all_ended()


def test_silence_ends_the_demo(monkeypatch) -> None:
    monkeypatch.setattr(demo_lab, "_SILENCE", 0.3)
    lab = FakeLab(receive="import time; time.sleep(100)")
    with pytest.raises(DemoFailed, match="nothing has happened") as caught:
        run_in_lab(PLAN, lab, lambda event: None)
    assert caught.value.exit_code == 124
    lab.assert_all_ended()


def test_an_interrupt_ends_every_program() -> None:
    def interrupt(event) -> None:
        if event["event"] == "code":
            raise KeyboardInterrupt

    lab = FakeLab()
    with pytest.raises(KeyboardInterrupt):
        run_in_lab(PLAN, lab, interrupt)
    lab.assert_all_ended()


def test_a_simulated_pair_without_a_path_exits_with_3(monkeypatch) -> None:
    def no_lab(*_, **__):
        raise LabUnavailable("user namespaces are off", "run as root")

    monkeypatch.setattr(demo_command, "Lab", no_lab)
    wall = ["--nat-a", "udp-blocked", "--path-policy", "direct"]
    result = CliRunner().invoke(demo, ["--size", "1K", *wall])
    assert result.exit_code == 3, result.output
    assert "error: no connection: " in result.output
