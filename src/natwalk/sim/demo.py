"""The demo without namespaces: the same two peers move a file through simulated NATs, on virtual time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from natwalk.core import NatError
from natwalk.ice import IceConfig, TransportPolicy
from natwalk.peer import Ended, PeerEvent, report
from natwalk.sim.internet import SERVER, Internet, two_peers
from natwalk.sim.peer import PeerMeeting, SimPeer
from natwalk.transfer import (
    AllSent,
    Completed,
    Entry,
    EntryKind,
    Failed,
    FileBegun,
    FileData,
    FileDone,
    Offer,
    OfferReceived,
    Plan,
    PlanReceived,
    Receiver,
    Sender,
)

FILE_NAME: Final = "demo.bin"
_BLOCK: Final = 64 * 1024
_WINDOW: Final = 1 << 20
_STEP: Final = 0.05
_LIMIT: Final = 3600.0
"""Virtual seconds a simulated transfer may take."""
_SEED: Final = 2026


class SimulatedDemoFailed(NatError):
    """The two simulated peers did not move the file; the message says why."""


def run(
    nat_a: str,
    nat_b: str,
    size: int,
    policy: str,
    on_event: Callable[[dict[str, Any]], None],
    *,
    same_lan: bool = False,
    seed: int = _SEED,
) -> None:
    """Move ``size`` bytes from peer a to peer b, telling ``on_event`` what happens.

    Events are those of ``natwalk send`` and ``receive``, with ``side`` (``a``, ``b`` or ``demo``) and ``at``
    (virtual seconds). Raises SimulatedDemoFailed when there is no path or the transfer fails.
    """
    internet = two_peers(nat_a, nat_b, seed=seed, same_lan=same_lan)
    _Demo(internet, size, policy, on_event).run()


class _Demo:
    def __init__(
        self, internet: Internet, size: int, policy: str, on_event: Callable[[dict[str, Any]], None]
    ) -> None:
        self.network = internet.network
        self._internet = internet
        self._on_event = on_event
        self._data = internet.a.host.random_bytes(size)
        self._began = self.network.now
        self._policy = policy

    def run(self) -> None:
        """Meet, connect, transfer, compare."""
        self._announce()
        ice = IceConfig(ta=0.02, policy=TransportPolicy(self._policy), patience=20.0, early_failure=20.0)
        meeting = PeerMeeting(self._internet, ice)
        self._emit("a", {"event": "start", "command": f"natwalk send {FILE_NAME}"}, self._began)
        self._watch("a", meeting.a)
        meeting.network.run_for(5.0, stop=lambda: meeting.a.code is not None)
        self._emit("a", {"event": "code", "code": meeting.a.code})
        self._emit("b", {"event": "start", "command": f"natwalk receive {meeting.a.code}"})
        b = meeting.accept()
        self._watch("b", b)
        if not meeting.connect():
            ended = meeting.a.ended or b.ended or Ended(None, "nobody answered")
            raise SimulatedDemoFailed(f"no connection: {ended.reason}")
        received = self._transfer(meeting.a, b)
        sent_hash, received_hash = (hashlib.sha256(data).hexdigest() for data in (self._data, received))
        self._emit("demo", {"event": "result", "sent": sent_hash, "received": received_hash})

    def _announce(self) -> None:
        a, b = self._internet.a, self._internet.b
        self._emit(
            "demo",
            {
                "event": "topology",
                "where": "simulator",
                "nat_a": a.kind,
                "nat_b": b.kind,
                "same_lan": bool(a.routers) and a.routers == b.routers,
                "addresses": {
                    "a": a.host.addresses[0],
                    "b": b.host.addresses[0],
                    "nat_a": a.public if a.routers else "",
                    "nat_b": b.public if b.routers else "",
                    "server": SERVER,
                },
                "size": len(self._data),
                "path_policy": self._policy,
            },
        )

    def _watch(self, side: str, peer: SimPeer) -> None:
        for event, at in zip(peer.history, peer.times, strict=True):
            self._tell(side, event, at)
        peer.on_event = lambda event: self._tell(side, event, self.network.now)

    def _tell(self, side: str, event: PeerEvent, at: float) -> None:
        told = report(event)
        if told is None:
            return
        if "side" in told:
            told["of"] = told.pop("side")
        self._emit(side, told, at)

    def _emit(self, side: str, event: dict[str, Any], at: float | None = None) -> None:
        moment = self.network.now if at is None else at
        self._on_event({**event, "side": side, "at": round(moment - self._began, 4)})

    def _transfer(self, a: SimPeer, b: SimPeer) -> bytes:
        """Both transfer cores over one stream; what the receiver got."""
        entry = Entry(path=FILE_NAME, kind=EntryKind.FILE, size=len(self._data), mode=0o644, mtime_ns=0)
        sender, receiver = Sender(Offer("0" * 32, (entry,))), Receiver()
        stream = a.core.open_stream()
        source, target = _Source(sender, self._data), _Target(receiver)
        started = self.network.now
        taken = {a: 0, b: 0}
        while not (sender.over and receiver.over):
            if self.network.now - started > _LIMIT or a.ended or b.ended:
                raise SimulatedDemoFailed("the transfer did not come to an end")
            source.advance(a.core.send_backlog(stream))
            for peer, core in ((a, sender), (b, receiver)):
                # The accepting side may write once it has heard of the stream.
                known = peer is a or stream in peer.received
                while known and (data := core.poll_data()) is not None:
                    peer.send(bytes(data), stream)
            self.network.run_for(_STEP)
            for peer, core in ((a, sender), (b, receiver)):
                fresh = bytes(peer.received[stream][taken[peer] :])
                taken[peer] += len(fresh)
                core.receive_data(fresh)
            source.take_events()
            target.take_events()
            self._progress("b", len(target.data), started)
        self._finish(started)
        return bytes(target.data)

    def _progress(self, side: str, count: int, started: float) -> None:
        seconds = max(self.network.now - started, 1e-6)
        self._emit(
            side,
            {"event": "progress", "bytes": count, "total": len(self._data), "rate": round(count / seconds)},
        )

    def _finish(self, started: float) -> None:
        digest = hashlib.sha256(self._data).hexdigest()
        seconds = round(self.network.now - started, 4)
        for side in ("a", "b"):
            self._emit(
                side, {"event": "done", "bytes": len(self._data), "sha256": digest, "seconds": seconds}
            )


class _Source:
    """The file at the sender: put block by block as the connection takes it."""

    def __init__(self, core: Sender, data: bytes) -> None:
        self._core = core
        self._data = data
        self._at: int | None = None

    def advance(self, backlog: int) -> None:
        """Put more while less than a window waits."""
        while self._at is not None and backlog < _WINDOW:
            block = self._data[self._at : self._at + _BLOCK]
            if block:
                self._core.put(FileData(block))
                self._at += len(block)
                backlog += len(block)
                continue
            self._core.put(FileDone(hashlib.sha256(self._data).hexdigest()))
            self._core.finish()
            self._at = None

    def take_events(self) -> None:
        """Begin when the plan is there."""
        while (event := self._core.poll_event()) is not None:
            match event:
                case PlanReceived():
                    self._core.put(FileBegun(0, 0))
                    self._at = 0
                case Failed():
                    raise SimulatedDemoFailed(event.message)
                case Completed():
                    pass


class _Target:
    """The file at the receiver: kept in memory, verified like on a disk."""

    def __init__(self, core: Receiver) -> None:
        self._core = core
        self.data = bytearray()

    def take_events(self) -> None:
        """Accept the offer, keep the bytes, check the hash."""
        while (event := self._core.poll_event()) is not None:
            match event:
                case OfferReceived():
                    self._core.accept(Plan())
                case FileData(data=data):
                    self.data += data
                case FileDone(sha256=sha256) if hashlib.sha256(self.data).hexdigest() != sha256:
                    raise SimulatedDemoFailed("the file that arrived is not the one that was sent")
                case AllSent():
                    self._core.complete()
                case Failed():
                    raise SimulatedDemoFailed(event.message)
                case _:
                    pass
