"""The user name fragment and password of one side (RFC 8445 §5.3)."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Final

from natwalk.core import RandomBytes
from natwalk.ice.candidate import ICE_CHAR

UFRAG_BYTES: Final = 6  # 48 bits in 8 characters; RFC 8445 §5.3 asks for 24
PWD_BYTES: Final = 24  # 192 bits in 32 characters; RFC 8445 §5.3 asks for 128

_UFRAG: Final = re.compile(ICE_CHAR + r"{4,256}", re.ASCII)
_PWD: Final = re.compile(ICE_CHAR + r"{22,256}", re.ASCII)


@dataclass(frozen=True, slots=True)
class IceParameters:
    """One side's ``ufrag`` (4 to 256 ice-chars) and ``pwd`` (22 to 256), as RFC 8839 §5.4 writes them.

    Raises :class:`ValueError` on anything else, without quoting it: a password is a secret.
    """

    ufrag: str
    pwd: str = field(repr=False)

    def __post_init__(self) -> None:
        if not _UFRAG.fullmatch(self.ufrag):
            raise ValueError("an ICE ufrag is 4 to 256 letters, digits, + or /")
        if not _PWD.fullmatch(self.pwd):
            raise ValueError("an ICE password is 22 to 256 letters, digits, + or /")

    @staticmethod
    def generate(random_bytes: RandomBytes) -> IceParameters:
        """Fresh parameters for one session, all of whose bits are random."""
        return IceParameters(_text(random_bytes(UFRAG_BYTES)), _text(random_bytes(PWD_BYTES)))


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
