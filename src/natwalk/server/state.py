"""What the parts of one running server share: its configuration of the moment and its health."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Final

from natwalk.aio.relay_server import RelayServerDriver
from natwalk.aio.turn_server import TurnServerDriver
from natwalk.rendezvous.limits import SourceRates
from natwalk.server.admin import Commands
from natwalk.server.config import ServeConfig
from natwalk.server.hub import RendezvousHub
from natwalk.server.log import ServerLog
from natwalk.server.ports import Ports
from natwalk.server.records import UsageRecords

_REQUESTS_PER_MINUTE: Final = 60
_SOURCES: Final = 16_384


@dataclass(slots=True)
class Health:
    """How the server is, for readiness and metrics; times are in seconds, points in time monotonic."""

    started: float = field(default_factory=time.monotonic)
    draining: bool = False
    reloads: int = 0
    reload_failures: int = 0
    last_reload_good: bool = True
    loop_lag: float = 0.0
    """The longest the event loop was late since it was last read."""

    def take_lag(self) -> float:
        """The longest lag in seconds since the last call."""
        lag, self.loop_lag = self.loop_lag, 0.0
        return lag


@dataclass(slots=True)
class Services:
    """What the handlers of HTTP requests work with."""

    config: ServeConfig
    turn: TurnServerDriver
    hub: RendezvousHub
    ports: Ports
    log: ServerLog
    records: UsageRecords
    commands: Commands
    relay: RelayServerDriver | None = None
    """None when it is off."""
    health: Health = field(default_factory=Health)
    lines_dropped: int = 0
    rates: SourceRates[str] = field(
        default_factory=lambda: SourceRates({"ice-servers": _REQUESTS_PER_MINUTE}, _SOURCES)
    )
    user_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
