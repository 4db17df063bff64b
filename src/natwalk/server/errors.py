"""Why a server does not start."""

from __future__ import annotations

from natwalk.core import NatError


class ConfigError(NatError):
    """The configuration cannot be used: what is wrong, and in ``hint`` what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class StartError(NatError):
    """The configuration is good and the machine does not allow it, such as a port that is taken."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint
