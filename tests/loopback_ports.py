"""Ports for a server of behaviour discovery on loopback."""

from __future__ import annotations

import contextlib
import socket
from typing import Final

A1: Final = "127.0.0.1"
A2: Final = "127.0.0.2"


def two_free_ports() -> tuple[int, int]:
    """Two UDP ports that are free at both addresses."""
    for _ in range(100):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            first, second = (
                stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)
            )
            first.bind((A1, 0))
            second.bind((A1, 0))
            ports = (first.getsockname()[1], second.getsockname()[1])
            for port in ports:
                stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)).bind((A2, port))
            return ports
    raise AssertionError("no two ports are free at both addresses")
