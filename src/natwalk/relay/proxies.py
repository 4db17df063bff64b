"""The client's side of the two kinds of proxy that carry TCP: HTTP CONNECT and SOCKS 5; both are Openings."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from enum import Enum, auto
from ipaddress import ip_address
from struct import Struct
from typing import Final

from natwalk.core import MalformedMessage
from natwalk.relay.opening import OpeningRefused, ResponseHead, authority

_PORT: Final = Struct("!H")
_SOCKS: Final = 5
_NO_AUTHENTICATION, _PASSWORD, _NONE_ACCEPTABLE = 0x00, 0x02, 0xFF
_CONNECT: Final = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_ADDRESS_LENGTHS: Final = {_IPV4: 4, _IPV6: 16}
_REPLIES: Final = {  # RFC 1928 §6
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "it knows no CONNECT",
    8: "it does not know this kind of address",
}
_LONGEST: Final = 255
_PROXY_AUTHENTICATION: Final = 407


@dataclass(frozen=True, slots=True)
class ProxyCredentials:
    """A name and a password for a proxy; neither shows in ``repr``.

    Each is at most 255 bytes in UTF-8 and not empty; raises ValueError otherwise, and on a colon in the name.
    """

    name: str = field(repr=False)
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        for text in (self.name, self.password):
            if not 0 < len(text.encode()) <= _LONGEST or not text.isprintable():
                raise ValueError("a proxy's name and password have 1 to 255 printable bytes each")
        if ":" in self.name:
            raise ValueError("a proxy's user name has no colon (RFC 7617 §2)")


class HttpConnect:
    """A tunnel through an HTTP proxy (RFC 9110 §9.3.6); credentials go as Basic (RFC 7617 §2)."""

    def __init__(self, host: str, port: int, credentials: ProxyCredentials | None = None) -> None:
        self._target = authority(host, port)
        self._credentials = credentials
        self._head = ResponseHead()
        self.done = False

    def start(self) -> bytes:
        """The request."""
        lines = [f"CONNECT {self._target} HTTP/1.1", f"Host: {self._target}", "User-Agent: natwalk"]
        if self._credentials is not None:
            pair = f"{self._credentials.name}:{self._credentials.password}".encode()
            lines.append(f"Proxy-Authorization: Basic {b64encode(pair).decode()}")
        return "\r\n".join([*lines, "", ""]).encode()

    def receive(self, data: bytes) -> bytes:
        """Take the answer; nothing is said to it. Raises OpeningRefused and MalformedMessage."""
        answer = self._head.feed(data)
        if answer is not None:
            status, reason, _ = answer
            if status == _PROXY_AUTHENTICATION:
                given = "other" if self._credentials is not None else "a user name and a password"
                wants = f"the proxy wants {given}" + (" credentials" if given == "other" else "")
                raise OpeningRefused(wants, status)
            if not 200 <= status < 300:
                raise OpeningRefused(f"the proxy answers {status} {reason}".rstrip(), status)
            self.done = True
        return b""

    def rest(self) -> bytes:
        """What the server said already."""
        return self._head.rest()


class _Step(Enum):
    METHOD = auto()
    LOGIN = auto()
    REPLY = auto()
    DONE = auto()


class Socks5:
    """A connection through a SOCKS 5 proxy (RFC 1928 §3, §4); passwords as in RFC 1929 §2.

    A host that is a name is resolved by the proxy.
    """

    def __init__(self, host: str, port: int, credentials: ProxyCredentials | None = None) -> None:
        authority(host, port)
        self._request = bytes([_SOCKS, _CONNECT, 0]) + _address(host) + _PORT.pack(port)
        self._credentials = credentials
        self._buffer = bytearray()
        self._step = _Step.METHOD

    @property
    def done(self) -> bool:
        """Whether the stream is the next layer's now."""
        return self._step is _Step.DONE

    def start(self) -> bytes:
        """The greeting, with the ways to log in."""
        methods = [_NO_AUTHENTICATION] if self._credentials is None else [_NO_AUTHENTICATION, _PASSWORD]
        return bytes([_SOCKS, len(methods), *methods])

    def receive(self, data: bytes) -> bytes:
        """Take an answer; returns what is to be said to it. Raises OpeningRefused and MalformedMessage."""
        self._buffer += data
        out = b""
        while (step := self._step) is not _Step.DONE:
            if step is _Step.REPLY:
                if not self._take_reply():
                    break
            elif len(self._buffer) < 2:
                break
            else:
                first, second = self._buffer[:2]
                del self._buffer[:2]
                out += self._take_method(first, second) if step is _Step.METHOD else self._take_login(second)
        return out

    def rest(self) -> bytes:
        """What the server said already."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def _take_method(self, version: int, method: int) -> bytes:
        if version != _SOCKS:
            raise MalformedMessage("the proxy does not speak SOCKS 5")
        if method == _NO_AUTHENTICATION:
            self._step = _Step.REPLY
            return self._request
        if method == _NONE_ACCEPTABLE or self._credentials is None:
            raise OpeningRefused("the proxy wants another way to log in", method)
        if method != _PASSWORD:
            raise MalformedMessage("the proxy chose a way to log in that was not offered")
        self._step = _Step.LOGIN
        name, password = self._credentials.name.encode(), self._credentials.password.encode()
        return bytes([1, len(name)]) + name + bytes([len(password)]) + password

    def _take_login(self, status: int) -> bytes:
        if status:
            raise OpeningRefused("the proxy wants other credentials", status)
        self._step = _Step.REPLY
        return self._request

    def _take_reply(self) -> bool:
        """Take the reply if it is whole: version, code, reserved, then the address the proxy uses."""
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        if buffer[0] != _SOCKS:
            raise MalformedMessage("the proxy's reply is not SOCKS 5")
        if buffer[1]:
            raise OpeningRefused(f"the proxy says: {_REPLIES.get(buffer[1], 'no')}", buffer[1])
        if len(buffer) < 5:
            return False
        length = 1 + buffer[4] if buffer[3] == _NAME else _ADDRESS_LENGTHS.get(buffer[3])
        if length is None:
            raise MalformedMessage("the proxy's reply has an address of no known kind")
        end = 4 + length + _PORT.size
        if len(buffer) < end:
            return False
        del buffer[:end]
        self._step = _Step.DONE
        return True


def _address(host: str) -> bytes:
    try:
        ip = ip_address(host)
    except ValueError:
        name = host.encode("ascii")
        if len(name) > _LONGEST:
            raise ValueError(f"{host[:20]!r}… is no host") from None
        return bytes([_NAME, len(name)]) + name
    return bytes([_IPV4 if ip.version == 4 else _IPV6]) + ip.packed
