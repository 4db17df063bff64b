"""natwalk connects two programs on any two machines over the best path there is, encrypted end to end.

``connect`` is the beginning; everything else here is what it returns, raises and takes. The cores underneath
are packages of their own: :mod:`natwalk.stun`, :mod:`natwalk.turn`, :mod:`natwalk.ice`,
:mod:`natwalk.rendezvous`, :mod:`natwalk.path`, :mod:`natwalk.secure`, :mod:`natwalk.peer`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

__version__ = "0.1.0"

if TYPE_CHECKING:
    from natwalk.aio.connect import PathPolicy, connect
    from natwalk.aio.connection import Connection, Stream
    from natwalk.aio.errors import ConnectionEnded, StreamEnded
    from natwalk.aio.server_url import InvalidServerUrl, ServerUnavailable
    from natwalk.core import NatError
    from natwalk.path import PathInfo, PathKind
    from natwalk.peer import Failure, ResumeToken
    from natwalk.rendezvous import InvalidCode

__all__ = [
    "Connection",
    "ConnectionEnded",
    "Failure",
    "InvalidCode",
    "InvalidServerUrl",
    "NatError",
    "PathInfo",
    "PathKind",
    "PathPolicy",
    "ResumeToken",
    "ServerUnavailable",
    "Stream",
    "StreamEnded",
    "__version__",
    "connect",
]

_HOMES: Final = {
    "Connection": "natwalk.aio.connection",
    "ConnectionEnded": "natwalk.aio.errors",
    "Failure": "natwalk.peer",
    "InvalidCode": "natwalk.rendezvous",
    "InvalidServerUrl": "natwalk.aio.server_url",
    "NatError": "natwalk.core",
    "PathInfo": "natwalk.path",
    "PathKind": "natwalk.path",
    "PathPolicy": "natwalk.aio.connect",
    "ResumeToken": "natwalk.peer",
    "ServerUnavailable": "natwalk.aio.server_url",
    "Stream": "natwalk.aio.connection",
    "StreamEnded": "natwalk.aio.errors",
    "connect": "natwalk.aio.connect",
}
"""Imported on first use: ``natwalk --version`` and a program that wants one core load nothing else."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'natwalk' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
