"""What all parts of one agent share: configuration, role, credentials, drops and events."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from natwalk.core import Drops, Outbox, RandomBytes
from natwalk.ice.config import IceConfig
from natwalk.ice.events import IceEvent
from natwalk.ice.parameters import IceParameters
from natwalk.stun import short_term_key


@dataclass(slots=True, eq=False)
class Session:
    """One ICE session: an agent's role and credentials, and where its parts report to."""

    config: IceConfig
    random_bytes: RandomBytes
    controlling: bool
    tie_breaker: int
    local: IceParameters
    remote: IceParameters | None = None
    nominations: int = 0
    """How many nominations this side has made."""
    drops: Drops = field(default_factory=Drops)
    events: Outbox[IceEvent] = field(default_factory=lambda: Outbox[IceEvent](65_536))
    _keys: dict[str, bytes] = field(default_factory=dict)

    def renewed(self) -> Session:
        """The same agent's next session, with fresh credentials and none of the peer's (RFC 8445 §9)."""
        local = IceParameters.generate(self.random_bytes)
        return replace(self, local=local, remote=None, _keys={})

    def transaction_id(self) -> bytes:
        """A fresh STUN transaction ID (RFC 8489 §5)."""
        return self.random_bytes(12)

    def between(self, low: float, high: float) -> float:
        """A random number from ``low`` to ``high``."""
        return low + (high - low) * int.from_bytes(self.random_bytes(4), "big") / 2**32

    @property
    def local_key(self) -> bytes:
        """The key of requests to us and of our responses (RFC 8445 §7.2.2)."""
        return self._key(self.local.pwd)

    @property
    def remote_key(self) -> bytes:
        """The key of our requests and of responses to us (RFC 8445 §7.2.2); needs the remote side's."""
        assert self.remote is not None
        return self._key(self.remote.pwd)

    @property
    def remote_username(self) -> str:
        """USERNAME of our requests: the peer's ufrag, then ours (RFC 8445 §7.2.2)."""
        assert self.remote is not None
        return f"{self.remote.ufrag}:{self.local.ufrag}"

    def _key(self, pwd: str) -> bytes:
        if pwd not in self._keys:
            self._keys[pwd] = short_term_key(pwd)
        return self._keys[pwd]
