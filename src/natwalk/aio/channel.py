"""What only the two ends of one TLS connection know of it."""

from __future__ import annotations

import asyncio
import ssl


def channel_binding(transport: asyncio.BaseTransport) -> bytes:
    """Bytes that are the same at both ends of this TLS connection alone; empty without TLS.

    ``tls-unique`` (RFC 5929 §3), which Python has for TLS 1.3, too: the first Finished message, a MAC over
    the whole handshake under a key of it. An exporter is to take its place once Python has one.
    """
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    binding = None if tls is None else tls.get_channel_binding("tls-unique")
    return binding or b""
