"""Relay sockets held for a later Allocate: the odd port of a pair (RFC 8656 §7.2, §18.10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from natwalk.core import Address, Deadlines, RandomBytes

RESERVATION_LIFETIME: Final = 30.0
"""Seconds a reserved socket is held (RFC 8656 §7.2: at least 30)."""
TOKEN_LENGTH: Final = 8


@dataclass(frozen=True, slots=True)
class Reservation:
    """An open socket without an allocation, that counts against ``account`` meanwhile."""

    address: Address
    account: str
    expires: float


class Reservations:
    """The reserved sockets by token; a token is random, good once, and for whoever shows it."""

    def __init__(self, random_bytes: RandomBytes) -> None:
        self._random_bytes = random_bytes
        self._by_token: dict[bytes, Reservation] = {}
        self._deadlines: Deadlines[bytes] = Deadlines()

    def __len__(self) -> int:
        return len(self._by_token)

    def hold(self, address: Address, account: str, now: float) -> bytes:
        """Keep the socket at ``address`` for 30 seconds; returns the token."""
        token = self._random_bytes(TOKEN_LENGTH)
        self._by_token[token] = Reservation(address, account, now + RESERVATION_LIFETIME)
        self._deadlines.set(token, now + RESERVATION_LIFETIME)
        return token

    def get(self, token: bytes, now: float) -> Reservation | None:
        """What ``token`` stands for, or None."""
        reservation = self._by_token.get(token)
        return reservation if reservation is not None and reservation.expires > now else None

    def redeem(self, token: bytes) -> None:
        """The socket of ``token`` has an allocation now; nobody gets it twice."""
        del self._by_token[token]
        self._deadlines.cancel(token)

    def abandon(self) -> list[Reservation]:
        """Forget every reservation; returns them."""
        reservations = list(self._by_token.values())
        self._by_token.clear()
        self._deadlines.clear()
        return reservations

    def handle_timeout(self, now: float) -> list[Reservation]:
        """Forget what was held long enough; returns it."""
        return [self._by_token.pop(token) for token in self._deadlines.due(now)]

    def next_timeout(self) -> float | None:
        """When the next reservation ends, or None."""
        return self._deadlines.next_timeout()
