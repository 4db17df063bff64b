"""What one side tells the other of a session, as lines of SDP (RFC 8839 §5) and as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from natwalk.core import MalformedMessage
from natwalk.ice.candidate import Candidate, NamedCandidate, read_candidate
from natwalk.ice.parameters import IceParameters

MAX_TEXT: Final = 65_536
"""Longest description we read, in characters."""
MAX_CANDIDATES: Final = 256
_MAX_OPTIONS: Final = 32
_OPTION: Final = re.compile(r"[A-Za-z0-9+/-]{1,64}", re.ASCII)

TRICKLE: Final = "trickle"
"""The ice-option of those who send and take candidates one by one (RFC 8838 §3)."""
RENOMINATION: Final = "renomination"
"""The ice-option of those who let the controlling side nominate again (draft-thatcher-ice-renomination)."""
ICE2: Final = "ice2"
"""The ice-option of those who follow RFC 8445, not what was before it (RFC 8839 §5.6)."""


@dataclass(frozen=True, slots=True)
class IceDescription:
    """One side's credentials, candidates so far, and what it says of itself.

    ``complete`` means that no more candidates follow (RFC 8838 §13). ``skipped`` counts candidate lines
    that were read and cannot be used: other transports, other components' syntax, names outside ``.local``.
    Raises :class:`ValueError` for an option that is no token.
    """

    parameters: IceParameters
    candidates: tuple[Candidate | NamedCandidate, ...] = ()
    options: tuple[str, ...] = (ICE2, TRICKLE)
    lite: bool = False
    complete: bool = False
    skipped: int = 0

    def __post_init__(self) -> None:
        if not all(_OPTION.fullmatch(option) for option in self.options):
            raise ValueError("an ice-option is letters, digits, + / or -")

    def to_sdp(self) -> str:
        """The attribute lines, each with ``a=`` before and CRLF after it."""
        lines = [f"ice-ufrag:{self.parameters.ufrag}", f"ice-pwd:{self.parameters.pwd}"]
        if self.lite:
            lines.insert(0, "ice-lite")
        if self.options:
            lines.append("ice-options:" + " ".join(self.options))
        lines += [candidate.to_sdp() for candidate in self.candidates]
        if self.complete:
            lines.append("end-of-candidates")
        return "".join(f"a={line}\r\n" for line in lines)

    @staticmethod
    def from_sdp(text: str) -> IceDescription:
        """Read the attributes wherever they are in ``text``, a whole session description or a part of one.

        The first of each counts, lines about other things are left alone. Raises MalformedMessage when the
        text is too long or has no ufrag and password.
        """
        if len(text) > MAX_TEXT:
            raise MalformedMessage(f"a description of {len(text)} characters")
        found: dict[str, str] = {}
        lines: list[str] = []
        for line in text.splitlines():
            if not line.startswith("a="):
                continue
            name, _, value = line[2:].partition(":")
            if name == "candidate":
                lines.append(line[2:])
            else:
                found.setdefault(name, value)
        candidates, skipped = _candidates(lines)
        return IceDescription(
            parameters=_parameters(found.get("ice-ufrag"), found.get("ice-pwd")),
            candidates=candidates,
            options=_options(found.get("ice-options", "").split()),
            lite="ice-lite" in found,
            complete="end-of-candidates" in found,
            skipped=skipped,
        )

    def to_json(self) -> dict[str, object]:
        """The description as values for JSON, the candidates as in SDP."""
        return {
            "usernameFragment": self.parameters.ufrag,
            "password": self.parameters.pwd,
            "iceLite": self.lite,
            "options": list(self.options),
            "candidates": [candidate.to_sdp() for candidate in self.candidates],
            "complete": self.complete,
        }

    @staticmethod
    def from_json(value: object) -> IceDescription:
        """Read what :meth:`to_json` gives; raise MalformedMessage on anything else. More keys do no harm."""
        if not isinstance(value, Mapping):
            raise MalformedMessage("a description in JSON is an object")
        candidates, skipped = _candidates(_texts(value, "candidates"))
        return IceDescription(
            parameters=_parameters(value.get("usernameFragment"), value.get("password")),
            candidates=candidates,
            options=_options(_texts(value, "options")),
            lite=value.get("iceLite") is True,
            complete=value.get("complete") is True,
            skipped=skipped,
        )


def candidate_to_json(candidate: Candidate | NamedCandidate, parameters: IceParameters) -> dict[str, object]:
    """A candidate as browsers trickle it: the W3C's RTCIceCandidateInit, for the first media section."""
    return {
        "candidate": candidate.to_sdp(),
        "sdpMid": "0",
        "sdpMLineIndex": 0,
        "usernameFragment": parameters.ufrag,
    }


def candidate_from_json(value: object) -> Candidate | NamedCandidate | None:
    """A candidate as browsers trickle it; None for the empty one, which says that no more follow.

    Raises MalformedMessage on anything else.
    """
    line = value.get("candidate") if isinstance(value, Mapping) else None
    if not isinstance(line, str):
        raise MalformedMessage("a candidate in JSON is an object with a text called candidate")
    return read_candidate(line) if line else None


def _parameters(ufrag: object, pwd: object) -> IceParameters:
    if not isinstance(ufrag, str) or not isinstance(pwd, str):
        raise MalformedMessage("a description without a ufrag and a password")
    try:
        return IceParameters(ufrag, pwd)
    except ValueError as error:
        raise MalformedMessage(f"description: {error}") from None


def _options(texts: list[str]) -> tuple[str, ...]:
    """The options that are tokens; what else is there tells nothing to anybody."""
    return tuple(text for text in texts[:_MAX_OPTIONS] if _OPTION.fullmatch(text))


def _texts(value: Mapping[object, object], key: str) -> list[str]:
    texts = value.get(key, [])
    if not isinstance(texts, list):
        raise MalformedMessage(f"{key} of a description in JSON is a list of texts")
    found = [text for text in texts if isinstance(text, str)]
    if len(found) != len(texts) or sum(map(len, found)) > MAX_TEXT:
        raise MalformedMessage(f"{key} of a description in JSON is a list of texts, and not too long")
    return found


def _candidates(lines: list[str]) -> tuple[tuple[Candidate | NamedCandidate, ...], int]:
    """The candidates of ``lines``, and how many lines were left out."""
    candidates: list[Candidate | NamedCandidate] = []
    for line in lines[:MAX_CANDIDATES]:
        try:
            candidates.append(read_candidate(line))
        except MalformedMessage:
            continue  # RFC 8839 §5.1: what is not understood is ignored; the caller is told how many
    return tuple(candidates), len(lines) - len(candidates)
