"""Tells what a connection to a peer goes through: the path always, the rest when asked for more.

Programs get :func:`natwalk.peer.report`'s events; people get the lines made here.
"""

from __future__ import annotations

from natwalk.cli.output import Output
from natwalk.path import PathInfo
from natwalk.peer import (
    CandidateSeen,
    CheckSeen,
    Connected,
    NatSeen,
    PathBroken,
    PathChosen,
    PeerArrived,
    PeerEvent,
    PeerUnavailable,
    ServerTrouble,
    report,
)

_MAX_SEEN = 1000


class PeerReporter:
    """Takes the events of one connection after another and says each thing once."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._path: tuple[object, ...] | None = None
        self._seen: set[CandidateSeen] = set()

    def handle(self, event: PeerEvent) -> None:
        """Tell about ``event``, if it is worth telling."""
        if not self._is_news(event):
            return
        fields = report(event)
        if fields is not None:
            self._output.event(fields.pop("event"), **fields)
        for line in _lines(event):
            if isinstance(event, PathChosen | PathBroken):
                self._output.say(line)
            else:
                self._output.detail(line)

    def _is_news(self, event: PeerEvent) -> bool:
        match event:
            case PathChosen(info=info):
                known, self._path = self._path, (info.kind, info.local, info.remote, info.reason)
                return known != self._path
            case PathBroken():
                self._path = None
                return True
            case CandidateSeen():
                if event in self._seen or len(self._seen) >= _MAX_SEEN:
                    return False
                self._seen.add(event)
                return self._output.verbose
            case _:
                return self._output.verbose


def path_line(info: PathInfo) -> str:
    """The path in use, for people, with the reason."""
    ends = f"{info.local} ({info.local_type}) -> {info.remote} ({info.remote_type})"
    rtt = "" if info.rtt is None else f", {info.rtt * 1000:.1f} ms"
    return f"path: {info.kind.value}, {ends}{rtt}: {info.reason}"


def _lines(event: PeerEvent) -> list[str]:
    """What people read of ``event``."""
    match event:
        case PathChosen(info=info):
            return [path_line(info)]
        case PathBroken(reason=reason):
            return [f"path: lost, looking for another ({reason})"]
        case CandidateSeen(side=side, type=kind, address=address):
            return [f"candidate: {side} {kind} {address}"]
        case NatSeen(side=side, mapping=mapping):
            return [f"NAT: {side} mapping is {mapping}"]
        case CheckSeen():
            pair = f"{event.local} ({event.local_type}) -> {event.remote} ({event.remote_type})"
            outcome = "succeeded" if event.ok else f"failed: {event.reason}"
            return [f"check: {pair} {outcome}"]
        case ServerTrouble(server=server, reason=reason):
            return [f"server: {server or 'none'}: {reason}"]
        case PeerArrived():
            return ["the other side is there and has the right code"]
        case PeerUnavailable():
            return ["the other side has left the rendezvous server"]
        case Connected():
            return ["connected: both sides are authenticated"]
        case _:
            return []
