"""What can go wrong with a lab."""

from __future__ import annotations

from natwalk.core import NatError


class LabError(NatError):
    """A lab could not do what was asked of it."""


class LabUnavailable(LabError):
    """There can be no lab on this machine: ``reason`` says why, ``hint`` what would help."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(f"{reason} ({hint})")
        self.reason = reason
        self.hint = hint
