"""Which ports are really open."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports that are really open, for the URIs told to clients; None for those that are not."""

    stun: int
    alternate: int | None = None
    tcp: int | None = None
    tls: int | None = None
    dtls: int | None = None
    shared: int | None = None
    """TURN over TLS and HTTPS on one port."""
