"""What a relay looks like to whoever has packets for a peer: this one and TURN alike."""

from __future__ import annotations

from typing import Protocol, TypeVar

PeerT_contra = TypeVar("PeerT_contra", contravariant=True)
"""How a relay names peers: by public key here, by address in TURN."""


class RelayLink(Protocol[PeerT_contra]):
    """A way to peers that is there before any direct one is."""

    @property
    def ready(self) -> bool:
        """Whether packets get through now."""

    @property
    def packet_limit(self) -> int:
        """Bytes of the longest packet it carries."""

    def send(self, data: bytes, peer: PeerT_contra, now: float) -> bool:
        """Send a packet; False when it was dropped here, as networks drop. Raises LocalProtocolError when
        ``data`` is longer than ``packet_limit``.
        """
