"""Identities: keys, certificates, fingerprints, signatures."""

from __future__ import annotations

import datetime
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from natwalk.core import IntegrityError
from natwalk.secure import Identity, fingerprint
from natwalk.secure.identity import CERTIFICATE_LIMIT, SIGNATURE_LENGTH, verify_signature


def test_identities_differ_and_are_small() -> None:
    a, b = Identity.generate(), Identity.generate()
    assert a.fingerprint != b.fingerprint
    assert len(a.certificate) < CERTIFICATE_LIMIT
    assert a.fingerprint == hashlib.sha256(a.certificate).digest() == fingerprint(a.certificate)


def test_same_key_same_certificate() -> None:
    """Ed25519 is deterministic and the certificate holds no time or random number."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    assert Identity.from_private_key(key).fingerprint == Identity.from_private_key(key).fingerprint


def test_certificate_never_expires() -> None:
    certificate = x509.load_der_x509_certificate(Identity.generate().certificate)
    assert certificate.not_valid_after_utc == datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
    assert certificate.not_valid_before_utc.year == 1970


def test_pem_forms_hold_the_same_key() -> None:
    identity = Identity.generate()
    certificate = x509.load_pem_x509_certificate(identity.certificate_pem)
    key = serialization.load_pem_private_key(identity.private_key_pem, None)
    assert certificate.public_bytes(serialization.Encoding.DER) == identity.certificate
    assert certificate.public_key() == key.public_key()


def test_signature_of_the_right_key_verifies() -> None:
    identity = Identity.generate()
    signature = identity.sign(b"message")
    assert len(signature) == SIGNATURE_LENGTH
    verify_signature(identity.certificate, identity.fingerprint, signature, b"message")


def test_every_changed_part_is_refused() -> None:
    identity, other = Identity.generate(), Identity.generate()
    signature = identity.sign(b"message")
    with pytest.raises(IntegrityError, match="expected one"):
        verify_signature(other.certificate, identity.fingerprint, signature, b"message")
    with pytest.raises(IntegrityError, match="did not sign"):
        verify_signature(identity.certificate, identity.fingerprint, signature, b"massage")
    with pytest.raises(IntegrityError, match="did not sign"):
        verify_signature(other.certificate, other.fingerprint, signature, b"message")
    with pytest.raises(IntegrityError, match="cannot be read"):
        verify_signature(b"junk", fingerprint(b"junk"), signature, b"message")


def test_a_certificate_with_another_kind_of_key_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "natwalk")])
    der = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    with pytest.raises(IntegrityError, match="no Ed25519"):
        verify_signature(der, fingerprint(der), b"", b"message")


def test_private_key_is_not_shown() -> None:
    assert "key" not in repr(Identity.generate()).lower()
