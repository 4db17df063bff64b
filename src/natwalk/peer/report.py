"""A connection's events as plain values: what ``--json`` prints and a screen shows (DESIGN.md §5)."""

from __future__ import annotations

from typing import Any

from natwalk.path import PathInfo
from natwalk.peer import events as ev

Report = dict[str, Any]
"""One event: ``event`` names it, the rest are strings, numbers and None."""


def path_report(info: PathInfo) -> Report:
    """The path in use; ``rtt_ms`` is None until measured."""
    return {
        "event": "path",
        "kind": info.kind.value,
        "local": str(info.local),
        "remote": str(info.remote),
        "local_type": info.local_type,
        "remote_type": info.remote_type,
        "rtt_ms": None if info.rtt is None else round(info.rtt * 1000, 3),
        "mtu": info.mtu,
        "reason": info.reason,
    }


def report(event: ev.PeerEvent) -> Report | None:
    """``event`` for people and programs that watch; None for those that are nobody else's business."""
    match event:
        case ev.PathChosen(info=info):
            return path_report(info)
        case ev.PathBroken(reason=reason):
            return {"event": "path-lost", "reason": reason}
        case ev.CandidateSeen():
            return {
                "event": "candidate",
                "side": event.side,
                "type": event.type,
                "address": str(event.address),
                "related": None if event.related is None else str(event.related),
            }
        case ev.NatSeen():
            return {"event": "nat", "side": event.side, "mapping": event.mapping}
        case ev.CheckSeen():
            return {
                "event": "check",
                "local": str(event.local),
                "remote": str(event.remote),
                "local_type": event.local_type,
                "remote_type": event.remote_type,
                "state": "succeeded" if event.ok else "failed",
                "rtt_ms": None if event.rtt is None else round(event.rtt * 1000, 3),
                "reason": event.reason,
            }
        case ev.ServerTrouble():
            return {
                "event": "server-trouble",
                "server": None if event.server is None else str(event.server),
                "reason": event.reason,
            }
        case ev.PeerArrived():
            return {"event": "peer-arrived"}
        case ev.PeerUnavailable():
            return {"event": "peer-unavailable"}
        case ev.Connected():
            return {"event": "connected"}
        case _:
            return None
