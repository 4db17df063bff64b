import json

import pytest

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
    report,
)

A, B = Address("192.0.2.1", 5), Address("2001:db8::2", 6)
TOKEN = ResumeToken("ab" * 16, b"very secret bytes, thirty-two...")
INFO = PathInfo(PathKind.DIRECT, A, B, "host", "srflx", 0.0012345, 1472, "hole punching opened both NATs")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            PathChosen(INFO),
            {
                "event": "path", "kind": "direct", "local": "192.0.2.1:5", "remote": "[2001:db8::2]:6",
                "local_type": "host", "remote_type": "srflx", "rtt_ms": 1.234, "mtu": 1472,
                "reason": "hole punching opened both NATs",
            },
        ),
        (PathBroken("no answer"), {"event": "path-lost", "reason": "no answer"}),
        (
            CandidateSeen("remote", "relay", A, None),
            {
                "event": "candidate",
                "side": "remote",
                "type": "relay",
                "address": "192.0.2.1:5",
                "related": None,
            },
        ),
        (NatSeen("local", "no-nat"), {"event": "nat", "side": "local", "mapping": "no-nat"}),
        (
            CheckSeen(A, B, "host", "prflx", False, "no answer", None),
            {
                "event": "check", "local": "192.0.2.1:5", "remote": "[2001:db8::2]:6", "local_type": "host",
                "remote_type": "prflx", "state": "failed", "rtt_ms": None, "reason": "no answer",
            },
        ),
        (
            ServerTrouble(None, "link-local"),
            {"event": "server-trouble", "server": None, "reason": "link-local"},
        ),
        (PeerArrived(TOKEN), {"event": "peer-arrived"}),
        (PeerUnavailable(), {"event": "peer-unavailable"}),
        (Connected(TOKEN), {"event": "connected"}),
        (CodeReady("7-crossover-clockwork"), None),
    ],
)  # fmt: skip
def test_events_become_plain_values_without_secrets(
    event: PeerEvent, expected: dict[str, object] | None
) -> None:
    told = report(event)
    assert told == expected
    assert "secret" not in json.dumps(told)
