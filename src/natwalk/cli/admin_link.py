"""How ``natwalk admin`` reaches a server: its socket in the file system, or its HTTP port on this machine."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from natwalk.aio.server_url import InvalidServerUrl, ServerUrl
from natwalk.cli.exit_codes import ExitCode, Explanation

_MOST: Final = 16 << 20
"""Bytes of an answer that are read: ten thousand allocations have four million."""


class AdminFailed(Exception):
    """The command was not done: ``explanation`` has the exit code, why, and what to do."""

    def __init__(self, code: ExitCode, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.explanation = Explanation(code, message, hint)


@dataclass(frozen=True, slots=True)
class Target:
    """A server of this machine: ``path`` is its socket; without one ``url`` and ``token`` are needed.

    ``tls_name`` is the name in its certificate, by default the host of ``url``; ``ca_file`` is trusted
    instead of the system's certificates. ``timeout`` is in seconds.
    """

    path: Path | None = None
    url: ServerUrl | None = None
    token: str = field(default="", repr=False)
    tls_name: str | None = None
    ca_file: Path | None = None
    timeout: float = 10.0

    def __str__(self) -> str:
        return str(self.path or self.url)


def local_url(text: str) -> ServerUrl:
    """``text`` as the URL of a server on this machine; raises InvalidServerUrl on any other.

    The token is not to be sent anywhere else, and the server would not take it from elsewhere.
    """
    url = ServerUrl.parse(text)
    try:
        here = url.host == "localhost" or ip_address(url.host).is_loopback
    except ValueError:
        here = False
    if not here:
        raise InvalidServerUrl(
            f"{url.host} is not this machine: admin commands are for http://127.0.0.1:PORT, or the socket"
        )
    return url


def ask(target: Target, method: str, what: str, body: bytes = b"") -> tuple[int, bytes]:
    """Status and body of the answer to ``method`` on ``/v1/admin/`` and ``what``; raises AdminFailed."""
    prefix = "" if target.url is None else target.url.path
    headers = {"Authorization": f"Bearer {target.token}"} if target.token else {}
    connection = _connection(target)
    try:
        connection.request(method, f"{prefix}/v1/admin/{what}", body or None, headers)
        response = connection.getresponse()
        status, answer = response.status, response.read(_MOST + 1)
    except TimeoutError:
        raise AdminFailed(
            ExitCode.TIMEOUT, f"{target} has not answered in time", "raise --timeout, or look at its log"
        ) from None
    except PermissionError as error:
        raise AdminFailed(
            ExitCode.AUTHENTICATION_FAILED,
            f"this user may not use {target}: {error.strerror}",
            "run it as the server's user, or as root",
        ) from None
    except ssl.SSLCertVerificationError as error:
        raise AdminFailed(
            ExitCode.AUTHENTICATION_FAILED,
            f"the certificate of {target} is not to be trusted: {error.verify_message}",
            "give the name in it with --tls-name and its CA with --ca-file, or use --socket",
        ) from None
    except (OSError, HTTPException) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise AdminFailed(
            ExitCode.SERVER_UNAVAILABLE, f"no server can be reached at {target}: {reason}", _hint(target)
        ) from None
    finally:
        connection.close()
    if len(answer) > _MOST:
        raise AdminFailed(ExitCode.FAILED, f"{target} answers with more than 16 MiB", "is that a natwalk?")
    if status == 404:
        raise _nothing_there(target)
    return status, answer


class _SocketConnection(HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the path instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _TlsConnection(HTTPSConnection):
    """HTTPS to this machine, to a server whose certificate has the name ``tls_name``."""

    def __init__(self, url: ServerUrl, context: ssl.SSLContext, tls_name: str, timeout: float) -> None:
        super().__init__(url.host, url.port, timeout=timeout)
        self._tls = context
        self._tls_name = tls_name

    def connect(self) -> None:
        """Connect, then check the certificate for the name that was given."""
        HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._tls_name)


def _connection(target: Target) -> HTTPConnection:
    if target.path is not None:
        return _SocketConnection(target.path, target.timeout)
    url = target.url
    assert url is not None
    if url.scheme == "http":
        return HTTPConnection(url.host, url.port, timeout=target.timeout)
    try:
        context = ssl.create_default_context(cafile=target.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise AdminFailed(
            ExitCode.USAGE, f"{target.ca_file} cannot be used: {error}", "it has certificates in PEM"
        ) from None
    return _TlsConnection(url, context, target.tls_name or url.host, target.timeout)


def _hint(target: Target) -> str:
    if target.path is not None:
        return "is it running, and is that admin.socket in its natwalk.toml?"
    return "is it running, and is that its http.port? With [tls] the URL begins with https://"


def _nothing_there(target: Target) -> AdminFailed:
    if target.path is not None:
        return AdminFailed(ExitCode.FAILED, f"{target} knows no such command", "is it another natwalk?")
    return AdminFailed(
        ExitCode.AUTHENTICATION_FAILED,
        f"{target} does not take the token, or has no admin.token-file",
        "compare the token with the file that its natwalk.toml names",
    )
