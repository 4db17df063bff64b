"""The mutual proof on the control stream, bound to the server certificate that TLS has verified.

The engine knows no client certificates and exports no keying material, so the dialler proves itself inside
the connection. What it proves with is the *auth key*, which only the two ends of the PAKE share, and the
key of its own certificate, whose fingerprint came through the PAKE channel. Both messages are a few hundred
bytes on the first bidirectional stream (id 0), and neither costs a round trip: the client's goes out behind
its TLS Finished with application data right after it, the server's behind its first acknowledgement.

    client -> server   magic, nonce, certificate, Ed25519 signature, HMAC(auth key, ...)
    server -> client   magic, HMAC(auth key, ...)

Everything signed or authenticated covers both fingerprints, the client's nonce and a label for the
direction. The server's TLS key is proven before the client says a word, so only the pinned server ever sees
a proof; as the proof names that server's fingerprint, it is of no use towards another one, and as every
session makes new certificates, of none in another session.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from natwalk.core import IntegrityError, MalformedMessage, RandomBytes
from natwalk.secure.identity import CERTIFICATE_LIMIT, SIGNATURE_LENGTH, Identity, verify_signature

MAGIC: Final = b"NWA1"
NONCE_LENGTH: Final = 32
MAC_LENGTH: Final = 32
MINIMUM_KEY_LENGTH: Final = 16
CLIENT_PROOF_LIMIT: Final = len(MAGIC) + NONCE_LENGTH + 2 + CERTIFICATE_LIMIT + SIGNATURE_LENGTH + MAC_LENGTH
SERVER_PROOF_LENGTH: Final = len(MAGIC) + MAC_LENGTH

_CLIENT_LABEL: Final = b"natwalk secure 1 client\0"
_SERVER_LABEL: Final = b"natwalk secure 1 server\0"


@dataclass(frozen=True, slots=True)
class ClientProof:
    """What the client sends first; ``nonce`` is what the server's answer is bound to."""

    nonce: bytes
    certificate: bytes
    signature: bytes
    mac: bytes

    def encode(self) -> bytes:
        """The bytes of the control stream."""
        length = len(self.certificate).to_bytes(2, "big")
        return b"".join((MAGIC, self.nonce, length, self.certificate, self.signature, self.mac))

    @classmethod
    def decode(cls, data: bytes) -> ClientProof:
        """Read what ``encode`` wrote; raises MalformedMessage on anything else."""
        at = len(MAGIC)
        if data[:at] != MAGIC:
            raise MalformedMessage("the control stream does not start with a proof")
        nonce = data[at : at + NONCE_LENGTH]
        at += NONCE_LENGTH
        length = int.from_bytes(data[at : at + 2], "big")
        at += 2
        if length > CERTIFICATE_LIMIT or len(data) != at + length + SIGNATURE_LENGTH + MAC_LENGTH:
            raise MalformedMessage("the client's proof has the wrong length")
        certificate, signature = data[at : at + length], data[at + length : -MAC_LENGTH]
        return cls(nonce, certificate, signature, data[-MAC_LENGTH:])


def prove_client(
    identity: Identity, server_fingerprint: bytes, auth_key: bytes, random_bytes: RandomBytes
) -> ClientProof:
    """The proof of the client ``identity`` towards the server with that fingerprint."""
    nonce = random_bytes(NONCE_LENGTH)
    transcript = _transcript(_CLIENT_LABEL, nonce, identity.fingerprint, server_fingerprint)
    signature = identity.sign(transcript)
    return ClientProof(nonce, identity.certificate, signature, _mac(auth_key, transcript + signature))


def verify_client(
    proof: ClientProof, client_fingerprint: bytes, server_fingerprint: bytes, auth_key: bytes
) -> None:
    """Check a client's proof; raises IntegrityError when it is not the expected client's."""
    transcript = _transcript(_CLIENT_LABEL, proof.nonce, client_fingerprint, server_fingerprint)
    if not hmac.compare_digest(proof.mac, _mac(auth_key, transcript + proof.signature)):
        raise IntegrityError("the peer does not know the session's key")
    verify_signature(proof.certificate, client_fingerprint, proof.signature, transcript)


def prove_server(
    nonce: bytes, client_fingerprint: bytes, server_fingerprint: bytes, auth_key: bytes
) -> bytes:
    """The server's answer to the proof that carried ``nonce``."""
    return MAGIC + _mac(auth_key, _transcript(_SERVER_LABEL, nonce, client_fingerprint, server_fingerprint))


def verify_server(
    data: bytes, nonce: bytes, client_fingerprint: bytes, server_fingerprint: bytes, auth_key: bytes
) -> None:
    """Check the server's answer; raises IntegrityError when it is not the right one."""
    if not hmac.compare_digest(data, prove_server(nonce, client_fingerprint, server_fingerprint, auth_key)):
        raise IntegrityError("the peer does not know the session's key")


def _transcript(label: bytes, nonce: bytes, client_fingerprint: bytes, server_fingerprint: bytes) -> bytes:
    """All fields have fixed lengths, so no two inputs give the same bytes."""
    return b"".join((label, nonce, client_fingerprint, server_fingerprint))


def _mac(auth_key: bytes, message: bytes) -> bytes:
    return hmac.digest(auth_key, message, hashlib.sha256)
