"""What systemd and a service tell each other: sockets handed over, readiness, reloads, the watchdog.

The two interfaces are sd_listen_fds(3) and sd_notify(3): environment variables and one datagram socket.
Without systemd there is nothing in the environment and all of this does nothing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping
from typing import Final

from natwalk.server.errors import StartError

_FIRST_DESCRIPTOR: Final = 3
_MOST_SOCKETS: Final = 256


def activated_sockets(environ: Mapping[str, str], pid: int) -> list[tuple[str, socket.socket]]:
    """The sockets systemd opened for process ``pid``, each with its name, not inherited by children.

    Raises StartError when what it says cannot be.
    """
    count = environ.get("LISTEN_FDS")
    if count is None or environ.get("LISTEN_PID") != str(pid):
        return []
    if not count.isascii() or not count.isdigit() or int(count) > _MOST_SOCKETS:
        raise StartError(f"LISTEN_FDS is {count[:20]!r}, not a number of sockets", "correct the .socket unit")
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: list[tuple[str, socket.socket]] = []
    for number in range(int(count)):
        descriptor = _FIRST_DESCRIPTOR + number
        try:
            sock = socket.socket(fileno=descriptor)
        except OSError as error:
            raise StartError(
                f"descriptor {descriptor} from systemd is no socket: {error.strerror}",
                "correct the .socket unit",
            ) from error
        os.set_inheritable(descriptor, False)
        sock.setblocking(False)
        found.append((names[number] if number < len(names) else "", sock))
    return found


class Notifier:
    """Tells systemd how the service is; does nothing when nobody asked (no NOTIFY_SOCKET)."""

    def __init__(self, environ: Mapping[str, str], pid: int) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        self._path = f"\0{path[1:]}" if path.startswith("@") else path
        self._socket: socket.socket | None = None
        self.watchdog_interval = _watchdog_interval(environ, pid)
        """Seconds between two signs of life, half of what systemd waits for; None when it does not wait."""

    def ready(self, status: str) -> None:
        """The service serves, or a reload is done."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """A reload has begun; ``ready`` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """The service drains or ends."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def alive(self) -> None:
        """A sign of life for the watchdog."""
        self._send("WATCHDOG=1")

    def more_time(self, seconds: float) -> None:
        """Ask for ``seconds`` more before systemd loses its patience with a stop."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def close(self) -> None:
        """Close the socket; harmless when repeated."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, state: str) -> None:
        if not self._path:
            return
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        with contextlib.suppress(OSError):  # a manager that does not listen must not stop the service
            self._socket.sendto(state.encode(), self._path)


def _watchdog_interval(environ: Mapping[str, str], pid: int) -> float | None:
    text = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid) or not (text.isascii() and text.isdigit()):
        return None
    return int(text) / 2_000_000 or None
