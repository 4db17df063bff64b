"""TURN under asyncio: relayed addresses on TURN servers (the shell of :mod:`natwalk.turn`)."""

from natwalk.aio.client_tls import CertificateMismatch, ClientTls
from natwalk.aio.turn_allocation import RECEIVE_QUEUE_LIMIT, RelayLost, TurnAllocation
from natwalk.aio.turn_race import FailedAttempt, NoAllocation, open_allocation
from natwalk.aio.turn_streams import PeerStream

__all__ = [
    "RECEIVE_QUEUE_LIMIT",
    "CertificateMismatch",
    "ClientTls",
    "FailedAttempt",
    "NoAllocation",
    "PeerStream",
    "RelayLost",
    "TurnAllocation",
    "open_allocation",
]
