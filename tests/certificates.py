"""Certificates made on the fly for servers on the loopback interface."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Files:
    """A self-signed certificate and its key on the disk."""

    cert: Path
    key: Path
    serial: int


def write_certificate(
    folder: Path,
    *,
    name: str = "localhost",
    more_names: Sequence[str] = (),
    days: float = 30,
    cert_file: str = "cert.pem",
    key_file: str = "key.pem",
) -> Files:
    """Write a certificate that ends in ``days``, and its key, to ``folder``, replacing those there are."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    addresses = [x509.IPAddress(ip_address(host)) for host in ("127.0.0.1", "::1")]
    alternatives = [*(x509.DNSName(each) for each in (name, *more_names)), *addresses]
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=40))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = Files(folder / cert_file, folder / key_file, cert.serial_number)
    files.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


def client_context(files: Files, *alpn: str) -> ssl.SSLContext:
    """A client's context that trusts the certificate of ``files`` alone."""
    context = ssl.create_default_context(cafile=files.cert)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def serial_of(ssl_object: ssl.SSLObject | ssl.SSLSocket) -> int:
    """The serial number of the certificate the other side showed."""
    der = ssl_object.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).serial_number
