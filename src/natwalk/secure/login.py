"""What happens on the control stream: each end's part in the mutual proof, as a small state machine."""

from __future__ import annotations

from natwalk.core import MalformedMessage, RandomBytes
from natwalk.secure.auth import (
    CLIENT_PROOF_LIMIT,
    SERVER_PROOF_LENGTH,
    ClientProof,
    prove_client,
    prove_server,
    verify_client,
    verify_server,
)
from natwalk.secure.identity import Identity


class Login:
    """One end's proof and its check of the other end's; ``done`` when the peer is proven."""

    def __init__(
        self,
        is_client: bool,
        identity: Identity,
        peer_fingerprint: bytes,
        auth_key: bytes,
        random_bytes: RandomBytes,
    ) -> None:
        self.done = False
        self._identity = identity
        self._peer_fingerprint = peer_fingerprint
        self._auth_key = auth_key
        self._received = bytearray()
        self._limit = SERVER_PROOF_LENGTH if is_client else CLIENT_PROOF_LIMIT
        self._proof = prove_client(identity, peer_fingerprint, auth_key, random_bytes) if is_client else None

    @property
    def opening(self) -> bytes:
        """What a client sends first; nothing for a server."""
        return self._proof.encode() if self._proof is not None else b""

    def receive(self, data: bytes, fin: bool) -> bytes:
        """Take bytes of the control stream; returns what to answer, and sets ``done`` when all is well.

        Raises MalformedMessage or IntegrityError when the peer is not who it should be.
        """
        self._received += data
        if self.done or len(self._received) > self._limit:
            raise MalformedMessage("too much on the control stream")
        if not fin:
            return b""
        received = bytes(self._received)
        ours, theirs = self._identity.fingerprint, self._peer_fingerprint
        if self._proof is not None:
            verify_server(received, self._proof.nonce, ours, theirs, self._auth_key)
            answer = b""
        else:
            proof = ClientProof.decode(received)
            verify_client(proof, theirs, ours, self._auth_key)
            answer = prove_server(proof.nonce, theirs, ours, self._auth_key)
        self.done = True
        return answer
