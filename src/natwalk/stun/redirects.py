"""Whether to go where a server points (RFC 8489 §10): addresses in messages come from outside."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from natwalk.core import Address, Reach, reach

MAX_REDIRECTS: Final = 3
"""How many servers in a row may send a client on."""


def refuse_redirect(target: Address, source: Address, visited: Collection[Address] = ()) -> str | None:
    """Why a client of ``source`` does not go to ``target``, as a phrase; None when it may.

    A server on the internet has no say about this machine, its networks or the metadata service of its
    cloud; one in a private network may name others there. Nobody is asked twice (``visited``).
    """
    if target in visited or target == source:
        return "which was asked already"
    if target.version != source.version or not target.port:
        return "which cannot be asked from the same socket"
    if len(visited) > MAX_REDIRECTS:
        return "after too many others"
    far, near = reach(target.ip), reach(source.ip)
    if far is not Reach.GLOBAL and far is not near:
        return "which does not reach as far"
    return None
