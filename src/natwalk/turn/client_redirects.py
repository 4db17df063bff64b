"""Whether to go where a TURN server sends its client (ALTERNATE-SERVER, RFC 8489 §10)."""

from __future__ import annotations

from dataclasses import dataclass

from natwalk.core import Address, RemoteProtocolError
from natwalk.stun.redirects import refuse_redirect


@dataclass(frozen=True, slots=True)
class Redirects:
    """The servers that one attempt has been at, in order; the first is the one the user named."""

    servers: tuple[Address, ...]

    def follow(self, alternate: Address | None) -> Redirects:
        """The trail with ``alternate`` at its end.

        A redirect may lead to a global address, or to one that reaches as far as the server the user named:
        who named a public server is not led into the own network. Raises :class:`RemoteProtocolError` when
        it may not be followed: no address, a place that is nobody's, a server already asked, or more than
        three in a row.
        """
        if alternate is None:
            raise RemoteProtocolError("the server redirects without an address of our IP version")
        problem = refuse_redirect(alternate, self.servers[0], self.servers)
        if problem is not None:
            raise RemoteProtocolError(f"the server redirects to {alternate}, {problem}")
        return Redirects((*self.servers, alternate))
