"""Whether to go where a server sends its client (ALTERNATE-SERVER, RFC 8489 §10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from natwalk.core import Address, Reach, RemoteProtocolError, reach

MAX_REDIRECTS: Final = 3

_ANYWHERE: Final = frozenset({Reach.GLOBAL})
_NOWHERE: Final = frozenset({Reach.UNSPECIFIED, Reach.MULTICAST, Reach.METADATA})


@dataclass(frozen=True, slots=True)
class Redirects:
    """The servers that one attempt has been at, in order; the first is the one the user named."""

    servers: tuple[Address, ...]

    def follow(self, alternate: Address | None) -> Redirects:
        """The trail with ``alternate`` at its end.

        A redirect may lead to any global address, or to one as near as the server the user named: who
        named a public server is not led into the own network. Raises :class:`RemoteProtocolError` when
        it may not be followed: no address, a place that is nobody's, a server already asked, or one
        more than ``MAX_REDIRECTS``.
        """
        if alternate is None:
            raise RemoteProtocolError("the server redirects without an address of our IP version")
        first = self.servers[0]
        place = reach(alternate.ip)
        if alternate.port == 0 or place in _NOWHERE or place not in _ANYWHERE | {reach(first.ip)}:
            raise RemoteProtocolError(f"the server redirects to {alternate}, where no server should be")
        if alternate in self.servers:
            raise RemoteProtocolError(f"the servers redirect in a circle, back to {alternate}")
        if len(self.servers) > MAX_REDIRECTS:
            raise RemoteProtocolError(f"more than {MAX_REDIRECTS} redirects, the last to {alternate}")
        return Redirects((*self.servers, alternate))
