"""Tells what a connection to a peer goes through: the path always, the rest when asked for more."""

from __future__ import annotations

from natwalk.cli.output import Output
from natwalk.path import PathInfo
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
    ServerTrouble,
)


class PeerReporter:
    """Takes the events of one connection after another and says each thing once."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._path: tuple[object, ...] | None = None
        self._seen: set[tuple[str, str, str]] = set()

    def handle(self, event: PeerEvent) -> None:
        """Tell about ``event``, if it is worth telling."""
        match event:
            case PathChosen(info=info):
                self._tell_path(info)
            case PathBroken(reason=reason):
                self._path = None
                self._output.event("path-lost", reason=reason)
                self._output.say(f"path: lost, looking for another ({reason})")
            case _ if self._output.verbose:
                self._tell_more(event)
            case _:
                pass

    def _tell_path(self, info: PathInfo) -> None:
        known = (info.kind, info.local, info.remote, info.reason)
        if known == self._path:
            return
        self._path = known
        self._output.event("path", **path_fields(info))
        self._output.say(path_line(info))

    def _tell_more(self, event: PeerEvent) -> None:
        output = self._output
        match event:
            case CandidateSeen(side=side, type=kind, address=address, related=related):
                key = (side, kind, str(address))
                if key in self._seen or len(self._seen) >= _MAX_SEEN:
                    return
                self._seen.add(key)
                via = None if related is None else str(related)
                output.event("candidate", side=side, type=kind, address=str(address), related=via)
                output.detail(f"candidate: {side} {kind} {address}")
            case NatSeen(side=side, mapping=mapping):
                output.event("nat", side=side, mapping=mapping)
                output.detail(f"NAT: {side} mapping is {mapping}")
            case CheckSeen():
                self._tell_check(event)
            case ServerTrouble(server=server, reason=reason):
                output.event("server-trouble", server=None if server is None else str(server), reason=reason)
                output.detail(f"server: {server or 'unknown'}: {reason}")
            case PeerArrived():
                output.event("peer")
                output.detail("the other side is there and has the right code")
            case PeerUnavailable():
                output.event("peer-unavailable")
                output.detail("the other side has left the rendezvous server")
            case Connected():
                output.event("connected")
                output.detail("connected: both sides are authenticated")
            case CodeReady() | _:
                pass  # told by the command itself, or of no interest to a person

    def _tell_check(self, check: CheckSeen) -> None:
        state = "succeeded" if check.ok else "failed"
        self._output.event(
            "check",
            local=str(check.local),
            remote=str(check.remote),
            local_type=check.local_type,
            remote_type=check.remote_type,
            state=state,
            reason=check.reason,
            rtt_ms=_milliseconds(check.rtt),
        )
        pair = f"{check.local} ({check.local_type}) -> {check.remote} ({check.remote_type})"
        self._output.detail(f"check: {pair} {state}{f': {check.reason}' if check.reason else ''}")


_MAX_SEEN = 1000


def path_fields(info: PathInfo) -> dict[str, str | float | int | None]:
    """The fields of a ``path`` event."""
    return {
        "kind": info.kind.value,
        "local": str(info.local),
        "remote": str(info.remote),
        "local_type": info.local_type,
        "remote_type": info.remote_type,
        "rtt_ms": _milliseconds(info.rtt),
        "mtu": info.mtu,
        "reason": info.reason,
    }


def path_line(info: PathInfo) -> str:
    """The path in use, for people, with the reason."""
    ends = f"{info.local} ({info.local_type}) -> {info.remote} ({info.remote_type})"
    rtt = "" if info.rtt is None else f", {info.rtt * 1000:.1f} ms"
    return f"path: {info.kind.value}, {ends}{rtt}: {info.reason}"


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)
