"""Reaching a relay: TCP, a proxy if there is one, TLS, the HTTP Upgrade."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from natwalk.aio.client_tls import ClientTls
from natwalk.aio.server_url import ServerUrl
from natwalk.core import NatError
from natwalk.relay import HttpConnect, Opening, ProxyCredentials, RelayUpgrade, Socks5

_KINDS: Final = {"http": 80, "socks5": 1080, "socks5h": 1080}


class RelayUnreachable(NatError):
    """No connection to the relay came about; the message says at which step and why."""


@dataclass(frozen=True, slots=True)
class RelayProxy:
    """A proxy on the way to the relay; ``scheme`` is http or socks5."""

    scheme: str
    host: str
    port: int
    credentials: ProxyCredentials | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> RelayProxy:
        """Read ``http://name:password@proxy.example:3128`` or ``socks5://127.0.0.1``.

        Raises ValueError, which never shows the URL, as there may be a password in it.
        """
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("the proxy's URL cannot be read") from None
        if parts.scheme not in _KINDS or not host:
            raise ValueError("a proxy's URL is like http://proxy.example:3128 or socks5://127.0.0.1:1080")
        credentials = None
        if parts.username is not None:
            credentials = ProxyCredentials(unquote(parts.username), unquote(parts.password or ""))
        scheme = parts.scheme.removesuffix("h") if parts.scheme.startswith("socks") else parts.scheme
        return cls(scheme, host, port or _KINDS[parts.scheme], credentials)

    @classmethod
    def from_environment(cls, server: ServerUrl) -> RelayProxy | None:
        """The proxy that HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY name for ``server``."""
        proxies = getproxies_environment()
        url = proxies.get(server.scheme) or proxies.get("all")
        if not url or proxy_bypass(server.host, proxies):
            return None
        return cls.parse(url)

    def opening(self, server: ServerUrl) -> Opening:
        """What is said to it to be connected to ``server``."""
        kind = HttpConnect if self.scheme == "http" else Socks5
        opening: Opening = kind(server.host, server.port, self.credentials)
        return opening


class RelayWire(asyncio.Protocol):
    """A transport that is talked on first and hands what arrives to ``on_data`` afterwards."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.on_data: Callable[[bytes], None] | None = None
        self.on_paused: Callable[[bool], None] | None = None
        self.on_lost: Callable[[], None] | None = None
        self._arrived = bytearray()
        self._ended = False
        self._wake = asyncio.Event()

    async def converse(self, opening: Opening) -> bytes:
        """Hold the dialogue; what came after its end. Raises what it raises, and ConnectionError."""
        assert self.transport is not None
        self.transport.write(opening.start())
        while not opening.done:
            while not self._arrived:
                if self._ended:
                    raise ConnectionResetError("the connection was closed")
                self._wake.clear()
                await self._wake.wait()
            data = bytes(self._arrived)
            self._arrived.clear()
            self.transport.write(opening.receive(data))
        return opening.rest()

    def carry(self, on_data: Callable[[bytes], None]) -> None:
        """Give what arrives from now on, and what came already, to ``on_data``."""
        self.on_data = on_data
        data = bytes(self._arrived)
        self._arrived.clear()
        if data:
            on_data(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is connected."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Of the dialogue, or of what follows it."""
        if self.on_data is not None:
            self.on_data(data)
        else:
            self._arrived += data  # bounded: what openings read is, and they come first
            self._wake.set()

    def pause_writing(self) -> None:
        """The other side reads too slowly."""
        if self.on_paused is not None:
            self.on_paused(True)

    def resume_writing(self) -> None:
        """It reads again."""
        if self.on_paused is not None:
            self.on_paused(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._ended = True
        self._wake.set()
        if self.on_lost is not None:
            self.on_lost()


async def dial(server: ServerUrl, tls: ClientTls, proxy: RelayProxy | None, timeout: float) -> RelayWire:
    """A wire on which the relay at ``server`` speaks frames. Raises RelayUnreachable after ``timeout`` s."""
    wire = RelayWire()
    steps = ["connecting"]
    try:
        async with asyncio.timeout(timeout):
            await _dial(wire, server, tls, proxy, steps)
    except BaseException as error:
        if wire.transport is not None:
            wire.transport.abort()
        if isinstance(error, OSError | NatError | ValueError):  # TimeoutError is an OSError
            raise RelayUnreachable(f"{steps[-1]}: {_why(error, timeout)}") from error
        raise
    return wire


async def _dial(
    wire: RelayWire, server: ServerUrl, tls: ClientTls, proxy: RelayProxy | None, steps: list[str]
) -> None:
    loop = asyncio.get_running_loop()
    host, port = (server.host, server.port) if proxy is None else (proxy.host, proxy.port)
    # not with asyncio's happy eyeballs: a cancelled race leaks the socket that has just won
    await loop.create_connection(lambda: wire, host, port)
    if proxy is not None:
        steps.append("through the proxy")
        if await wire.converse(proxy.opening(server)):
            raise RelayUnreachable("the proxy speaks before the server is asked")
    if server.scheme == "https":
        steps.append("TLS")
        assert wire.transport is not None
        name = server.host.rstrip(".")
        secure = await loop.start_tls(wire.transport, wire, tls.context(), server_hostname=name)
        assert secure is not None
        wire.transport = secure
    steps.append("asking for the relay")
    rest = await wire.converse(RelayUpgrade(server.host, server.port, server.path))
    wire._arrived[:0] = rest


def _why(error: Exception, timeout: float) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return error.verify_message
        case ssl.SSLError():
            return error.reason or "TLS failed"
        case TimeoutError():
            return f"no answer within {timeout:g} s"
        case OSError():
            return error.strerror or str(error) or type(error).__name__
        case _:
            return str(error)
