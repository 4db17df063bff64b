"""The path is always told, with its reason and once; the rest only to those who ask."""

import json

import pytest

from natwalk.cli.output import Output
from natwalk.cli.peer_output import PeerReporter, path_line
from natwalk.core import Address
from natwalk.path import PathInfo, PathKind
from natwalk.peer import (
    CandidateSeen,
    CheckSeen,
    CodeReady,
    Connected,
    NatSeen,
    PathBroken,
    PathChosen,
    PeerArrived,
    PeerEvent,
    PeerUnavailable,
    ResumeToken,
    ServerTrouble,
)

HERE, THERE = Address("192.0.2.1", 1000), Address("198.51.100.2", 2000)
TOKEN = ResumeToken("m", b"s")


def info(kind: PathKind = PathKind.DIRECT, reason: str = "punched", rtt: float | None = 0.0123) -> PathInfo:
    return PathInfo(kind, HERE, THERE, "srflx", "host", rtt, 1200, reason)


EVENTS: list[PeerEvent] = [
    CodeReady("7-a-b"),
    PeerArrived(TOKEN),
    CandidateSeen("local", "srflx", HERE, THERE),
    CandidateSeen("local", "srflx", HERE, THERE),
    CandidateSeen("remote", "host", THERE, None),
    NatSeen("remote", "endpoint-dependent"),
    CheckSeen(HERE, THERE, "srflx", "host", True, "", 0.5),
    CheckSeen(HERE, THERE, "srflx", "host", False, "no answer", None),
    ServerTrouble(THERE, "does not answer"),
    PathChosen(info()),
    PathChosen(info()),
    Connected(TOKEN),
    PathBroken("silence"),
    PathChosen(info(PathKind.RELAY, "both sides are behind a symmetric NAT", None)),
    PeerUnavailable(),
]


def tell(output: Output) -> None:
    reporter = PeerReporter(output)
    for event in EVENTS:
        reporter.handle(event)


PAIR = "192.0.2.1:1000 (srflx) -> 198.51.100.2:2000 (host)"


def test_people_see_the_path_and_its_changes(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Output())
    assert capsys.readouterr().err.splitlines() == [
        "path: direct, 192.0.2.1:1000 (srflx) -> 198.51.100.2:2000 (host), 12.3 ms: punched",
        "path: lost, looking for another (silence)",
        f"path: relay, {PAIR}: both sides are behind a symmetric NAT",
    ]


def test_the_curious_see_each_thing_once(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Output(verbose=True))
    lines = capsys.readouterr().err.splitlines()
    assert lines[:8] == [
        "  the other side is there and has the right code",
        "  candidate: local srflx 192.0.2.1:1000",
        "  candidate: remote host 198.51.100.2:2000",
        "  NAT: remote mapping is endpoint-dependent",
        "  check: 192.0.2.1:1000 (srflx) -> 198.51.100.2:2000 (host) succeeded",
        "  check: 192.0.2.1:1000 (srflx) -> 198.51.100.2:2000 (host) failed: no answer",
        "  server: 198.51.100.2:2000: does not answer",
        path_line(info()),
    ]
    assert lines[-1] == "  the other side has left the rendezvous server"


def test_programs_get_events(capsys: pytest.CaptureFixture[str]) -> None:
    tell(Output(as_json=True, verbose=True))
    out, err = capsys.readouterr()
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == [
        *("peer-arrived", "candidate", "candidate", "nat", "check", "check", "server-trouble"),
        *("path", "connected", "path-lost", "path", "peer-unavailable"),
    ]
    assert events[7] == {
        "event": "path",
        "kind": "direct",
        "local": "192.0.2.1:1000",
        "remote": "198.51.100.2:2000",
        "local_type": "srflx",
        "remote_type": "host",
        "rtt_ms": 12.3,
        "mtu": 1200,
        "reason": "punched",
    }
    assert events[1]["side"] == "local"
    assert err == ""


def test_a_changed_reason_is_news() -> None:
    output = Output()
    told: list[str] = []
    output.say = told.append  # type: ignore[method-assign]
    reporter = PeerReporter(output)
    reporter.handle(PathChosen(info(PathKind.RELAY, "checks are under way")))
    reporter.handle(PathChosen(info(PathKind.RELAY, "symmetric NATs")))
    assert len(told) == 2
