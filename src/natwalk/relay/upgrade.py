"""The HTTP Upgrade that makes a relay connection of an HTTP one (RFC 9110 §7.8)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from natwalk.core import MalformedMessage
from natwalk.relay.opening import OpeningRefused, ResponseHead, authority

PROTOCOL: Final = "natwalk-relay"
PATH: Final = "/v1/relay"
SWITCHING: Final = (
    f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n".encode()
)
"""The server's answer to a request for it; frames follow."""

_SWITCHING_STATUS: Final = 101


class RelayUpgrade:
    """The client's side; an Opening. ``prefix`` is the path under which the server's API is."""

    def __init__(self, host: str, port: int, prefix: str = "") -> None:
        if any(c.isspace() or not (c.isascii() and c.isprintable()) for c in prefix):
            raise ValueError(f"{prefix!r} is no path")
        self._authority = authority(host, port)
        self._path = prefix + PATH
        self._head = ResponseHead()
        self.done = False

    def start(self) -> bytes:
        """The request."""
        return (
            f"GET {self._path} HTTP/1.1\r\nHost: {self._authority}\r\n"
            f"Connection: Upgrade\r\nUpgrade: {PROTOCOL}\r\nUser-Agent: natwalk\r\n\r\n"
        ).encode()

    def receive(self, data: bytes) -> bytes:
        """Take the answer; nothing is said to it. Raises OpeningRefused and MalformedMessage."""
        answer = self._head.feed(data)
        if answer is not None:
            status, reason, headers = answer
            if status != _SWITCHING_STATUS:
                raise OpeningRefused(f"the server answers {status} {reason}".rstrip(), status)
            if headers.get("upgrade", "").lower() != PROTOCOL:
                raise MalformedMessage("the server switches to another protocol")
            self.done = True
        return b""

    def rest(self) -> bytes:
        """The first bytes of frames, if they came with the answer."""
        return self._head.rest()


def wants_relay(method: bytes, path: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request, with lower-case header names, asks a server to become a relay connection."""
    tokens: set[bytes] = set()
    upgrade = b""
    for name, value in headers:
        if name == b"connection":
            tokens |= {token.strip().lower() for token in value.split(b",")}
        elif name == b"upgrade":
            upgrade = value.strip().lower()
    return method == b"GET" and path == PATH and b"upgrade" in tokens and upgrade == PROTOCOL.encode()
