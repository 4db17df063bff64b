"""How much of what quotas limit each account holds."""

from __future__ import annotations


class Accounts:
    """A counter by account that forgets accounts with nothing; ``total`` is over all of them."""

    __slots__ = ("_held", "total")

    def __init__(self) -> None:
        self._held: dict[str, int] = {}
        self.total = 0

    def __getitem__(self, account: str) -> int:
        return self._held.get(account, 0)

    def __len__(self) -> int:
        return len(self._held)

    def add(self, account: str, number: int = 1) -> None:
        """``account`` holds ``number`` more."""
        self._held[account] = self[account] + number
        self.total += number

    def release(self, account: str, number: int = 1) -> None:
        """``account`` holds ``number`` fewer, which it has."""
        left = self[account] - number
        self.total -= number
        if left > 0:
            self._held[account] = left
        else:
            del self._held[account]
