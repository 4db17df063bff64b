"""Why there is no connection, as exceptions."""

from __future__ import annotations

from typing import Final

from natwalk.core import NatError
from natwalk.peer import Failure

HINTS: Final[dict[Failure, str]] = {
    Failure.WRONG_CODE: "Ask for a new code: each works once, and a wrong guess uses it up.",
    Failure.CODE_NOT_FOUND: "Check the number with the sender, who must still be waiting, "
    "and use the same --server.",
    Failure.REFUSED: "Wait a minute and try again; if it stays so, ask whoever runs the server.",
    Failure.NO_PATH: "natwalk needs UDP to the peer, or UDP or TCP to the server's relay: allow one, "
    "permit the relay with --path-policy any, or try from another network.",
    Failure.AUTHENTICATION: "Somebody may be in between. Start again with a new code.",
    Failure.PEER_GONE: "The same command again on each side goes on where it stopped.",
    Failure.PEER_CLOSED: "Ask the other side; the same command again goes on where it stopped.",
    Failure.PROTOCOL: "Check that both sides run the same version of natwalk.",
    Failure.TIMEOUT: "Check that the other side is still running, then try again.",
}


class ConnectionEnded(NatError):
    """The connection could not be made, or is over. ``failure`` says of which kind; ``hint`` what to do."""

    def __init__(self, failure: Failure | None, reason: str) -> None:
        super().__init__(reason or "the connection was closed")
        self.failure = failure
        self.hint = "" if failure is None else HINTS[failure]


class StreamEnded(NatError):
    """The stream was reset: what was in flight on it is lost. ``code`` is the peer's."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the peer reset the stream (code {code})")
        self.code = code
