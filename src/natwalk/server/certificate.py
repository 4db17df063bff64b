"""The certificate of the TLS and DTLS ports: a pair that fits together, and when it ends."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from natwalk.server.errors import ConfigError

_HINT: Final = "give the PEM files of a certificate and its key, without a password, or remove [tls]"
_SOON: Final = 14 * 86_400
_LONGEST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files of a certificate chain and key; ``not_after`` is the Unix time the certificate ends at."""

    cert: Path
    key: Path
    not_after: float
    port: int | None = None
    """A port that TURN over TLS and HTTPS share, or None."""

    def warning(self, wall_now: float) -> str | None:
        """What there is to say about the time the certificate has left, or None."""
        left = self.not_after - wall_now
        if left <= 0:
            return f"the certificate {self.cert} has expired: clients will refuse it, renew it"
        if left < _SOON:
            return f"the certificate {self.cert} expires in {left / 86_400:.1f} days: renew it"
        return None


def read_tls(cert: Path, key: Path, port: int | None) -> Tls:
    """The pair in the two files, tried; raises ConfigError that names the file that is at fault."""
    for name, file in (("cert", cert), ("key", key)):
        if not file.is_file():
            raise ConfigError(f"tls.{name} {file} is not a file", _HINT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
        with cert.open("rb") as chain:
            certificate = x509.load_pem_x509_certificate(chain.read(_LONGEST))
    except _Encrypted:
        raise ConfigError(f"tls.key {key} is protected by a password", _HINT) from None
    except OSError as error:  # ssl.SSLError is one
        reason = getattr(error, "reason", None) or error.strerror or "it is not PEM"
        what = str(reason).lower().replace("_", " ")
        raise ConfigError(f"tls.cert {cert} and tls.key {key} cannot be used: {what}", _HINT) from error
    except ValueError as error:
        raise ConfigError(f"tls.cert {cert} is no certificate in PEM", _HINT) from error
    return Tls(cert, key, _timestamp(certificate), port)


def _timestamp(certificate: x509.Certificate) -> float:
    end: datetime = certificate.not_valid_after_utc
    return end.timestamp()


class _Encrypted(Exception):
    """The key asks for a password, and nobody is there to type one."""


def _no_password() -> str:
    raise _Encrypted
