"""How a client checks the TLS or DTLS server it talks to (RFC 8489 §6.2.3)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509

from natwalk.core import IPAddress, NatError

ALPN_TURN: Final = "stun.turn"
"""The application protocol of TURN over TLS and DTLS (RFC 7443)."""


class CertificateMismatch(NatError):
    """The server's certificate is trusted, but not for the name it was reached by."""


@dataclass(frozen=True, slots=True)
class ClientTls:
    """What certificates to accept: those the system trusts, or those that ``ca_file`` (PEM) vouches for.

    ``verify=False`` accepts any certificate, and with it anyone in between. ``alpn`` is what is offered.
    """

    ca_file: Path | None = None
    verify: bool = True
    alpn: tuple[str, ...] = (ALPN_TURN,)

    def context(self) -> ssl.SSLContext:
        """A context for TLS 1.2 and later; raises OSError when ``ca_file`` cannot be read."""
        context = ssl.create_default_context(cafile=self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(list(self.alpn))
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def check_name(certificate: x509.Certificate, name: str) -> None:
    """Return if ``certificate`` is for ``name``, a DNS name or an IP address.

    Only subject alternative names count, and a wildcard stands for one whole left-most label
    (RFC 6125 §6.4). Raises :class:`CertificateMismatch` if it is not.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise CertificateMismatch("the server's certificate has no subject alternative name") from None
    ip = _as_ip(name)
    if ip is not None:
        fits = ip in names.get_values_for_type(x509.IPAddress)
    else:
        fits = any(_matches(pattern, name) for pattern in names.get_values_for_type(x509.DNSName))
    if not fits:
        raise CertificateMismatch(f"the server's certificate is not for {name}")


def _as_ip(name: str) -> IPAddress | None:
    try:
        return ip_address(name)
    except ValueError:
        return None


def _matches(pattern: str, name: str) -> bool:
    pattern, name = pattern.rstrip(".").lower(), name.rstrip(".").lower()
    if not pattern.startswith("*."):
        return pattern == name
    first, _, rest = name.partition(".")
    return bool(first) and rest == pattern[2:] and "." in rest
