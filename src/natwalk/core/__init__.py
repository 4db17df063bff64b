"""What every room shares: addresses, the core contract, timers, errors. Knows nothing else."""

from natwalk.core.address import Address, IPAddress
from natwalk.core.canonical import Reach, canonical, reach
from natwalk.core.contract import Core, Drops, Outbox, Path, RandomBytes, Transmit, Transport
from natwalk.core.deadlines import Deadlines
from natwalk.core.errors import (
    ErrorResponse,
    IntegrityError,
    LocalProtocolError,
    MalformedMessage,
    NatError,
    ProtocolError,
    RemoteProtocolError,
    TransactionTimeout,
)
from natwalk.core.timers import Timers, earliest

__all__ = [
    "Address",
    "Core",
    "Deadlines",
    "Drops",
    "ErrorResponse",
    "IPAddress",
    "IntegrityError",
    "LocalProtocolError",
    "MalformedMessage",
    "NatError",
    "Outbox",
    "Path",
    "ProtocolError",
    "RandomBytes",
    "Reach",
    "RemoteProtocolError",
    "Timers",
    "TransactionTimeout",
    "Transmit",
    "Transport",
    "canonical",
    "earliest",
    "reach",
]
