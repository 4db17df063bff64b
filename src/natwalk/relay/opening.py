"""What is said on a TCP or TLS connection before it carries frames: proxies and the HTTP Upgrade."""

from __future__ import annotations

from typing import Final, Protocol

from natwalk.core import MalformedMessage, RemoteProtocolError

HEAD_LIMIT: Final = 16 * 1024
"""Bytes of the longest head of an HTTP response that is read."""


class OpeningRefused(RemoteProtocolError):
    """A proxy or the server answered, and the answer is no; ``status`` is its code."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Opening(Protocol):
    """One dialogue with whoever is on the other end, after which the stream belongs to the next layer."""

    @property
    def done(self) -> bool:
        """Whether the stream is the next layer's now."""

    def start(self) -> bytes:
        """What to send first."""

    def receive(self, data: bytes) -> bytes:
        """Take what arrived; returns what to send next, which may be nothing.

        Raises OpeningRefused when the answer is no and MalformedMessage when it is none.
        """

    def rest(self) -> bytes:
        """What arrived after the end of the dialogue, once: it is the next layer's."""


class ResponseHead:
    """Reads the head of one HTTP/1.1 response (RFC 9112 §2.1); bounded."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> tuple[int, str, dict[str, str]] | None:
        """Status, reason and headers by lower-case name, or None while the head is not whole.

        Raises MalformedMessage on what is no HTTP response. Of a header that comes twice the last counts.
        """
        searched = max(0, len(self._buffer) - 3)
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n", searched)
        if not self._buffer.startswith(b"HTTP/1."[: len(self._buffer)]):
            raise MalformedMessage("the answer is not HTTP/1.1")
        if end > HEAD_LIMIT or (end < 0 and len(self._buffer) > HEAD_LIMIT):
            raise MalformedMessage("the head of the answer is too long")
        if end < 0:
            return None
        head = self._buffer[:end].decode("latin-1")
        del self._buffer[: end + 4]
        status_line, *lines = head.split("\r\n")
        _, _, rest = status_line.partition(" ")
        code, _, reason = rest.partition(" ")
        if len(code) != 3 or not (code.isascii() and code.isdigit()):
            raise MalformedMessage("the answer has no HTTP status")
        headers = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise MalformedMessage("the answer has a line that is no header")
            headers[name.lower()] = value.strip()
        return int(code), _printable(reason), headers

    def rest(self) -> bytes:
        """What came after the head, once."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest


def _printable(text: str) -> str:
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text[:100])


def authority(host: str, port: int) -> str:
    """``host:port`` as HTTP writes it; raises ValueError on a host that could break a line of a head."""
    if not host or not host.isascii() or any(c.isspace() or not c.isprintable() or c in "/@?#" for c in host):
        raise ValueError(f"{host!r} is no host")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
