"""Identity keys, and QUIC over whatever path there is: encrypted streams and datagrams to one peer."""

from natwalk.secure.connection import BACKLOG_LIMIT, SecureConnection, State
from natwalk.secure.events import (
    APPLICATION_CODE_LIMIT,
    CloseCode,
    DatagramReceived,
    SecureClosed,
    SecureConnected,
    SecureEvent,
    StreamData,
    StreamReset,
    StreamStopped,
)
from natwalk.secure.identity import Identity, fingerprint

__all__ = [
    "APPLICATION_CODE_LIMIT",
    "BACKLOG_LIMIT",
    "CloseCode",
    "DatagramReceived",
    "Identity",
    "SecureClosed",
    "SecureConnected",
    "SecureConnection",
    "SecureEvent",
    "State",
    "StreamData",
    "StreamReset",
    "StreamStopped",
    "fingerprint",
]
