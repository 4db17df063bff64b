"""Where a natwalk server is, and the error for one that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from natwalk.core import NatError

DEFAULT_PORT: Final = 8478
_PORTS: Final = {"http": 80, "https": 443}
_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_MAX_URL: Final = 2048


class InvalidServerUrl(NatError, ValueError):
    """What was given is not the URL of a server; the message says what one looks like."""


class ServerUnavailable(NatError):
    """The server cannot be reached or used: why, and in ``hint`` what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """A server's scheme (http or https), host (IPv6 without brackets), port and path prefix."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> ServerUrl:
        """Read ``https://example.net``, ``ws://192.0.2.1:8478/prefix`` or a bare ``host[:port]``.

        A bare host means plain HTTP on port 8478. Raises InvalidServerUrl on anything else, and on user
        names, queries and fragments, which have no meaning here.
        """
        text = text.strip()
        bare = "://" not in text
        try:
            parts = urlsplit(f"http://{text}" if bare else text)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise InvalidServerUrl(f"{text[:100]!r} is not a server URL: {error}") from None
        scheme = _SCHEMES.get(parts.scheme)
        if not host or not scheme or len(text) > _MAX_URL or any(c.isspace() or ord(c) < 33 for c in text):
            raise InvalidServerUrl(f"{text[:100]!r} is not a server URL like http://192.0.2.1:{DEFAULT_PORT}")
        if parts.username is not None or parts.query or parts.fragment:
            raise InvalidServerUrl("a server URL has no user name, query or fragment")
        default = DEFAULT_PORT if bare else _PORTS[scheme]
        return cls(scheme, host, default if port is None else port, parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """``host:port``, with brackets around IPv6."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def rendezvous(self) -> str:
        """The WebSocket URL of the rendezvous service."""
        scheme = "wss" if self.scheme == "https" else "ws"
        return f"{scheme}://{self.authority}{self.path}/v1/rendezvous"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"
