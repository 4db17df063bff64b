"""Who talks to too many different peers: a relay must be no port scanner.

Two ICE agents with many candidates meet a hundred addresses; a scanner wants thousands. Peers a user has
talked to lately cost nothing; a new one takes a token of the user.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Final

from natwalk.core import Address
from natwalk.turn.config import TurnLimits

USERS: Final = 1024
"""Users watched at once; the one that was quiet for longest is forgotten first."""
PEERS: Final = 512
"""Peers of a user remembered."""


@dataclass(slots=True)
class _Watched:
    tokens: float
    stamp: float
    known: OrderedDict[Address, None] = field(default_factory=OrderedDict)
    refused: int = 0


class NewPeers:
    """Counts the distinct peers each user talks to.

    ``exempt`` are peers that count for nothing: the open relays of the server itself, where others of its
    clients are. ``throttled`` is how many attempts were refused, ``suspects`` how many of the users watched
    had one.
    """

    def __init__(self, limits: TurnLimits, exempt: Container[Address] = ()) -> None:
        self.throttled = 0
        self._exempt = exempt
        self._users: OrderedDict[str, _Watched] = OrderedDict()
        self.configure(limits)

    def configure(self, limits: TurnLimits) -> None:
        """Go by ``limits`` from now on."""
        self._rate = limits.new_peers_rate
        self._burst = limits.new_peers_burst

    @property
    def suspects(self) -> int:
        """How many users watched have been refused a peer."""
        return sum(watched.refused > 0 for watched in self._users.values())

    def __len__(self) -> int:
        return len(self._users)

    def allow(self, account: str, peer: Address, now: float) -> bool:
        """Whether ``account`` may talk to ``peer``: always when it did lately."""
        watched = self._users.get(account)
        if watched is None:
            watched = self._users[account] = _Watched(self._burst, now)
            if len(self._users) > USERS:
                self._users.popitem(last=False)
        elif peer in watched.known:
            return True
        if peer in self._exempt:
            return True
        self._users.move_to_end(account)
        watched.tokens = min(self._burst, watched.tokens + max(0.0, now - watched.stamp) * self._rate)
        watched.stamp = now
        if watched.tokens < 1:
            watched.refused += 1
            self.throttled += 1
            return False
        watched.tokens -= 1
        watched.known[peer] = None
        if len(watched.known) > PEERS:
            watched.known.popitem(last=False)
        return True
