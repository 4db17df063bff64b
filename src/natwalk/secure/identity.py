"""Who we are to the peer of one session: an Ed25519 key and the certificate QUIC wants around it.

The peer knows us by the SHA-256 of the certificate, which it learned over an authenticated channel (the
PAKE mailbox, or a stored public key later); no authority signs anything. Names and dates therefore mean
nothing: the certificate is valid from 1970 to the end of the year 9999 (RFC 5280 §4.1.2.5 gives that date
to certificates without a good expiration date), so a core needs no wall clock to make or check one.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

from natwalk.core import IntegrityError

FINGERPRINT_LENGTH: Final = 32
SIGNATURE_LENGTH: Final = 64
CERTIFICATE_LIMIT: Final = 1024

_NOT_BEFORE: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER: Final = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class Identity:
    """An Ed25519 key pair and its self-signed certificate.

    ``certificate`` is DER; the private key never shows in ``repr``.
    """

    certificate: bytes
    private_key: Ed25519PrivateKey = field(repr=False, compare=False)

    @classmethod
    def generate(cls) -> Identity:
        """A new identity, from the cryptography library's own secure randomness."""
        return cls.from_private_key(Ed25519PrivateKey.generate())

    @classmethod
    def from_private_key(cls, private_key: Ed25519PrivateKey) -> Identity:
        """The identity of a key that the caller keeps; the same key always gives the same certificate."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "natwalk")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(private_key.public_key())
            .serial_number(1)
            .not_valid_before(_NOT_BEFORE)
            .not_valid_after(_NOT_AFTER)
            .sign(private_key, None)
        )
        return cls(certificate.public_bytes(serialization.Encoding.DER), private_key)

    @property
    def fingerprint(self) -> bytes:
        """The SHA-256 of the certificate, 32 bytes: what the peer pins."""
        return fingerprint(self.certificate)

    def sign(self, message: bytes) -> bytes:
        """An Ed25519 signature of ``message``, 64 bytes (RFC 8032 §5.1.6)."""
        return self.private_key.sign(message)

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as PEM."""
        return x509.load_der_x509_certificate(self.certificate).public_bytes(serialization.Encoding.PEM)

    @property
    def private_key_pem(self) -> bytes:
        """The private key as unencrypted PKCS #8 PEM: for the TLS engine only."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def fingerprint(certificate: bytes) -> bytes:
    """The SHA-256 of a DER certificate."""
    return hashlib.sha256(certificate).digest()


def verify_signature(certificate: bytes, expected: bytes, signature: bytes, message: bytes) -> None:
    """Check that the holder of the certificate with fingerprint ``expected`` signed ``message``.

    Raises IntegrityError when the certificate is another one, holds no Ed25519 key, or did not sign.
    """
    if not hmac.compare_digest(fingerprint(certificate), expected):
        raise IntegrityError("the peer's certificate is not the expected one")
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except ValueError as error:
        raise IntegrityError("the peer's certificate cannot be read") from error
    if not isinstance(key, Ed25519PublicKey):
        raise IntegrityError("the peer's certificate holds no Ed25519 key")
    try:
        key.verify(signature, message)
    except InvalidSignature as error:
        raise IntegrityError("the peer did not sign with its certificate's key") from error
