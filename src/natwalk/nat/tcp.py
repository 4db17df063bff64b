"""What a NAT remembers of a TCP connection: the states of RFC 6146 §3.5.2 without its sequence numbers.

A table says everything: :data:`TRANSITIONS`. Deviates from RFC 6146 §3.5.2.2 in one thing: a SYN from inside
on a connection that is over opens it anew, as reused ports do in the field, and is not just traffic.
"""

from __future__ import annotations

from enum import Enum
from itertools import product
from types import MappingProxyType
from typing import Final

from natwalk.nat.packet import FIN, RST, SYN, Segment


class TcpState(Enum):
    """Where a connection is, as far as the NAT saw."""

    CLOSED = "closed"
    INTERNAL_SYN = "SYN from inside"
    EXTERNAL_SYN = "SYN from outside"
    ESTABLISHED = "established"
    INTERNAL_FIN = "FIN from inside"
    EXTERNAL_FIN = "FIN from outside"
    BOTH_FINS = "FIN from both"
    TRANSITORY = "reset"


class TcpEvent(Enum):
    """What a segment means; the first that applies."""

    RST = "RST"
    SYN = "SYN"
    FIN = "FIN"
    DATA = "anything else"


_S = TcpState
_E = TcpEvent
_CHANGES: Final[dict[tuple[TcpState, TcpEvent, bool], TcpState]] = {
    (_S.CLOSED, _E.SYN, True): _S.INTERNAL_SYN,
    (_S.CLOSED, _E.SYN, False): _S.EXTERNAL_SYN,
    (_S.CLOSED, _E.DATA, True): _S.ESTABLISHED,  # picked up: see FlowConfig.tcp_pickup
    (_S.CLOSED, _E.FIN, True): _S.INTERNAL_FIN,
    (_S.INTERNAL_SYN, _E.SYN, False): _S.ESTABLISHED,
    (_S.EXTERNAL_SYN, _E.SYN, True): _S.ESTABLISHED,
    (_S.ESTABLISHED, _E.FIN, True): _S.INTERNAL_FIN,
    (_S.ESTABLISHED, _E.FIN, False): _S.EXTERNAL_FIN,
    (_S.ESTABLISHED, _E.RST, True): _S.TRANSITORY,
    (_S.ESTABLISHED, _E.RST, False): _S.TRANSITORY,
    (_S.INTERNAL_FIN, _E.FIN, False): _S.BOTH_FINS,
    (_S.EXTERNAL_FIN, _E.FIN, True): _S.BOTH_FINS,
    (_S.TRANSITORY, _E.SYN, True): _S.INTERNAL_SYN,
    (_S.TRANSITORY, _E.SYN, False): _S.ESTABLISHED,
    (_S.TRANSITORY, _E.FIN, True): _S.ESTABLISHED,
    (_S.TRANSITORY, _E.FIN, False): _S.ESTABLISHED,
    (_S.TRANSITORY, _E.DATA, True): _S.ESTABLISHED,
    (_S.TRANSITORY, _E.DATA, False): _S.ESTABLISHED,
    (_S.BOTH_FINS, _E.SYN, True): _S.INTERNAL_SYN,
}
TRANSITIONS: Final = MappingProxyType(
    {key: _CHANGES.get(key, key[0]) for key in product(TcpState, TcpEvent, (True, False))}
)
"""(state, event, from inside) to the next state, for every combination; most change nothing."""

LONG_LIVED: Final = frozenset({TcpState.ESTABLISHED, TcpState.INTERNAL_FIN, TcpState.EXTERNAL_FIN})
"""States with the timer of established connections; the others have the transitory one."""

OVER: Final = frozenset({TcpState.BOTH_FINS, TcpState.TRANSITORY})
"""States whose timer runs from when they were entered: what still passes does not refresh it."""

_BY_FLAGS: Final = tuple(
    _E.RST if flags & RST else _E.SYN if flags & SYN else _E.FIN if flags & FIN else _E.DATA
    for flags in range(8)
)


def event_of(segment: Segment) -> TcpEvent:
    """What ``segment`` means to the state."""
    return _BY_FLAGS[segment.flags & 7]


class TcpSession:
    """One connection through a mapping: its state, and when it is forgotten (monotonic seconds)."""

    __slots__ = ("deadline", "state")

    def __init__(self) -> None:
        self.state = TcpState.CLOSED
        self.deadline = 0.0

    def step(self, event: TcpEvent, inside: bool, transitory: float, established: float, now: float) -> None:
        """Follow one segment: next state and deadline; the two timers are in seconds."""
        before = self.state
        after = self.state = TRANSITIONS[before, event, inside]
        if after in LONG_LIVED:
            self.deadline = now + established
        elif after is not before or after not in OVER:
            self.deadline = now + transitory
