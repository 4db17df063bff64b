"""What several tests of shells need."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import Files, write_certificate
from natwalk.aio.tls import ServerTls


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return write_certificate(tmp_path)


@pytest.fixture
def tls(files: Files) -> ServerTls:
    return ServerTls(files.cert, files.key)


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        yield sock
