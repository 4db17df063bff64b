"""Forming pairs as candidates of either side appear, in any order (RFC 8445 §6.1.2, RFC 8838 §12)."""

from __future__ import annotations

from collections.abc import Callable

from natwalk.core import Address, Path
from natwalk.ice.address_filter import is_public
from natwalk.ice.candidate import Candidate, CandidateType
from natwalk.ice.checklist import Checklist
from natwalk.ice.config import HostCandidates
from natwalk.ice.pair import CandidatePair
from natwalk.ice.remote_filter import RemoteCandidates, pairable
from natwalk.ice.session import Session

_PAIRED: frozenset[CandidateType] = frozenset({CandidateType.HOST, CandidateType.RELAYED})


class Pairing:
    """Our candidates, the peer's, and the checklist of their pairs.

    ``find`` gives our candidate at an address with a base, as gathering knows it.
    """

    __slots__ = ("_discovered", "_find", "_locals", "_session", "checklist", "remotes")

    def __init__(
        self, session: Session, find: Callable[[Address, Address], Candidate | None], *, first_id: int = 0
    ) -> None:
        self.checklist = Checklist(session.config.max_pairs, first_id=first_id)
        self.remotes = RemoteCandidates(session.config, session.drops)
        self._session = session
        self._find = find
        self._locals: dict[Address, Candidate] = {}
        self._discovered = 0

    def add_local(self, candidate: Candidate) -> None:
        """Pair a new candidate of ours; a reflexive one is its base's (RFC 8445 §6.1.2.4)."""
        if candidate.type not in _PAIRED:
            return
        self._locals[candidate.base] = candidate
        for remote in self.remotes:
            self._pair(candidate, remote)

    def renewed(self, session: Session) -> Pairing:
        """Our candidates without any of the peer's, for the ICE restart that ``session`` begins."""
        new = Pairing(session, self._find, first_id=self.checklist.last_id)
        new._locals.update(self._locals)
        return new

    def drop_local(self, base: Address) -> list[CandidatePair]:
        """Forget a local candidate whose address is gone; its pairs, already removed."""
        self._locals.pop(base, None)
        pairs = [pair for pair in self.checklist if pair.base == base]
        for pair in pairs:
            self.checklist.remove(pair)
        return pairs

    def add_remote(self, candidate: Candidate) -> list[CandidatePair]:
        """Pair a candidate the peer signalled; the pairs removed because policy refuses it after all."""
        known = self.remotes.signalled(candidate)
        if known is None:
            return self._drop_refused()
        for pair in self.checklist:
            if pair.path.remote == known.address:
                pair.remote = known
                pair.note_types()
        self.checklist.reprioritise(controlling=self._session.controlling)
        for local in self._locals.values():
            self._pair(local, known)
        return []

    def discover(self, path: Path, priority: int) -> CandidatePair | None:
        """The pair an authentic check came in on, made if need be (RFC 8445 §7.3.1.3, §7.3.1.4).

        A peer-reflexive candidate is paired with all our other candidates too, beyond what RFC 8445
        asks: after a NAT has forgotten the peer, a check that still gets through by the relay tells us
        the mapping to punch to. None when there can be no such pair.
        """
        if (pair := self.checklist.pairs.get(path)) is not None:
            return pair
        local = self._locals.get(path.local)
        if local is None or not self._allowed(local, path.remote):
            self._session.drops.add("a check that fits no pair")
            return None
        remote = self.remotes.get(path.remote)
        if remote is None:
            self._discovered += 1
            by_relay = local.type is CandidateType.RELAYED
            remote = self.remotes.discovered(path.remote, priority, f"p{self._discovered}", by_relay=by_relay)
            if remote is None:
                return None
        found = self._pair(local, remote, needed=True)
        for other in self._locals.values():
            self._pair(other, remote)
        return found

    def valid_local(self, pair: CandidatePair, mapped: Address, priority: int) -> Candidate:
        """The local candidate of the valid pair, peer-reflexive if unknown (RFC 8445 §7.2.5.3.1)."""
        if pair.local.type is CandidateType.RELAYED or mapped == pair.base:
            return pair.local
        known = self._find(mapped, pair.base)
        return known or Candidate(
            foundation=pair.local.foundation,
            priority=priority,
            address=mapped,
            type=CandidateType.PEER_REFLEXIVE,
            related=pair.base,
            base=pair.base,
        )

    def is_local(self, address: Address) -> bool:
        """True for the address of one of our sockets or relays that takes part."""
        return address in self._locals

    def refusal(self, path: Path) -> str | None:
        """Why a check that came in on ``path`` is not even answered, in a fixed phrase; None if it is."""
        if reason := self.remotes.refusal(path.remote):
            return reason
        local = self._locals.get(path.local)
        if local is None:
            return "no candidate of ours is there"
        return "it would see an address we hide" if self._hides(local, path.remote) else None

    def _pair(self, local: Candidate, remote: Candidate, *, needed: bool = False) -> CandidatePair | None:
        if not self._allowed(local, remote.address):
            return None
        pair = self.checklist.add(local, remote, controlling=self._session.controlling, needed=needed)
        if pair is None:
            self._session.drops.add("the checklist is full of better pairs")
        return pair

    def _allowed(self, local: Candidate, remote: Address) -> bool:
        if self._hides(local, remote):
            return False
        return pairable(local.address, remote) and remote not in self._locals

    def _hides(self, local: Candidate, remote: Address) -> bool:
        """Whether a datagram from ``local`` would show ``remote``, a private address, one that we hide."""
        hidden = self._session.config.hosts is HostCandidates.HIDDEN
        return hidden and local.type is CandidateType.HOST and not is_public(remote)

    def _drop_refused(self) -> list[CandidatePair]:
        pairs = [pair for pair in self.checklist if self.remotes.is_refused(pair.path.remote)]
        for pair in pairs:
            self.checklist.remove(pair)
        return pairs
