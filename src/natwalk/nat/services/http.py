"""As much of HTTP/1.1 as a router's UPnP needs: one request in, one response out, the connection closed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LONGEST_HEAD: Final = 8 * 1024
"""Bytes of request line and headers; more is refused."""
LONGEST_BODY: Final = 16 * 1024

_REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    412: "Precondition Failed",
    413: "Content Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
}


class BadRequest(Exception):
    """Bytes that are no request we serve; ``status`` says what to answer."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status} {_REASONS[status]}")
        self.status = status


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request; header names are lower case, of those given twice the first counts."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @staticmethod
    def parse(data: bytes) -> HttpRequest | None:
        """Read a request from the beginning of ``data``; None when there is more to come.

        Raises :class:`BadRequest`. Bodies are those of a Content-Length: UPnP control points send one.
        """
        head, separator, rest = data.partition(b"\r\n\r\n")
        if len(head) > LONGEST_HEAD:
            raise BadRequest(413)
        if not separator:
            return None
        method, path, headers = parse_head(head)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or "transfer-encoding" in headers:
            raise BadRequest(400)
        if len(length) > 9 or int(length) > LONGEST_BODY:
            raise BadRequest(413)
        if len(rest) < int(length):
            return None
        return HttpRequest(method, path, headers, rest[: int(length)])


def parse_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    """Method, target and headers of a request without its empty line; raises :class:`BadRequest`."""
    try:
        first, *lines = head.decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        raise BadRequest(400) from None
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest(400)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequest(400)
        headers.setdefault(name.lower(), value.strip())
    return words[0], words[1], headers


def response(status: int, body: bytes = b"", *, content_type: str = "text/plain") -> bytes:
    """The bytes of a response after which the connection is closed."""
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
        f"Content-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n"
        "\r\n"
    )
    return head.encode("ascii") + body
