"""One client of a relay server, as the server knows it."""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum, auto
from typing import Final

from natwalk.relay.allowance import Allowance
from natwalk.relay.frames import FrameReader
from natwalk.relay.queue import SendQueue


class Stage(Enum):
    """How far a connection is."""

    PROVING = auto()
    SERVED = auto()
    CLOSING = auto()


class ServerConnection:
    """State of one connection; ``number`` is the driver's name for it."""

    __slots__ = (
        "binding",
        "heard",
        "key",
        "nonce",
        "notices",
        "number",
        "peers",
        "queue",
        "reader",
        "source",
        "stage",
        "stuck_since",
        "traffic",
        "waiting",
    )

    def __init__(self, number: int, source: Hashable, nonce: bytes, binding: bytes, now: float) -> None:
        self.number: Final = number
        self.source: Final = source
        self.nonce = nonce
        self.binding = binding
        self.stage = Stage.PROVING
        self.key = b""
        self.reader = FrameReader()
        self.queue = SendQueue()
        self.heard = now
        self.stuck_since: float | None = None
        """Since when it takes nothing that is sent."""
        self.traffic = Allowance(now)
        self.notices = Allowance(now)
        self.peers: dict[bytes, None] | None = None
        """Keys it exchanged packets with, the latest last."""
        self.waiting = False
        """Whether it is in line to be sent something."""

    @property
    def closing(self) -> bool:
        """Whether nothing more is taken from it."""
        return self.stage is Stage.CLOSING

    def remember(self, peer: bytes, limit: int) -> None:
        """Note that it exchanged a packet with ``peer``; the one noted first goes when there are too many."""
        peers = self.peers
        if peers is None:
            peers = self.peers = {}
        if peer not in peers:
            peers[peer] = None
            if len(peers) > limit:
                del peers[next(iter(peers))]
