"""What becomes of coturn's keys that have no counterpart: nothing is needed, or why it is not supported."""

from __future__ import annotations

from typing import Final

NEEDLESS: Final[dict[str, str]] = {
    "udp-self-balance": "one process serves all clients of a port",
    "relay-threads": "natwalk serves all clients on one event loop",
    "cpus": "natwalk serves all clients on one event loop",
    "ne": "natwalk chooses how it reads sockets itself",
    "verbose": "log.level is info, which is as much",
    "log-binding": "natwalk logs no line a packet",
    "fingerprint": "clients need none in answers, and ICE puts it where it belongs",
    "lt-cred-mech": "long-term credentials are always required for TURN",
    "use-auth-secret": "TURN REST credentials are on as soon as there is a secret",
    "check-origin-consistency": "there is one realm, and ORIGIN changes nothing",
    "no-stdout-log": "the log goes to stderr, which systemd keeps in the journal",
    "log-file": "the log goes to stderr, which systemd keeps in the journal",
    "syslog": "the log goes to stderr, which systemd keeps in the journal",
    "syslog-facility": "the log goes to stderr, which systemd keeps in the journal",
    "simple-log": "the log goes to stderr; journald rotates it",
    "new-log-timestamp": "times are ISO 8601 in UTC always",
    "new-log-timestamp-format": "times are ISO 8601 in UTC always",
    "no-software-attribute": "natwalk sends no SOFTWARE unless turn.software = true",
    "no-multicast-peers": "multicast and broadcast peers are refused always",
    "max-allocate-timeout": "streams.handshake-timeout bounds what has not authenticated",
    "pidfile": "systemd knows the process; packaging/natwalk.service",
    "proc-user": "the service manager sets the user; packaging/natwalk.service has DynamicUser",
    "proc-group": "the service manager sets the group; packaging/natwalk.service has DynamicUser",
    "daemon": "the service manager runs it; packaging/natwalk.service",
    "no-cli": "there is no telnet console; [admin] has the operator's commands, and is off by default",
    "cli-ip": "there is no telnet console; [admin] has the operator's commands",
    "cli-port": "there is no telnet console; [admin] has the operator's commands",
    "cli-password": "there is no telnet console; [admin] token-file takes its place",
    "cli-max-output-sessions": "there is no telnet console; [admin] lists allocations",
    "web-admin-ip": "there are no web pages for the operator; see web-admin",
    "web-admin-port": "there are no web pages for the operator; see web-admin",
    "web-admin-listen-on-workers": "there are no web pages for the operator; see web-admin",
    "no-tlsv1": "TLS 1.0 is never spoken",
    "no-tlsv1_1": "TLS 1.1 is never spoken",
    "dh566": "keys are exchanged over elliptic curves, never with such short ones",
    "dh1066": "keys are exchanged over elliptic curves, never with such short ones",
    "dh2066": "keys are exchanged over elliptic curves",
    "dh-file": "keys are exchanged over elliptic curves",
    "ec-curve-name": "the library agrees on a curve with each client",
    "alt-tls-listening-port": "behaviour discovery runs over UDP alone (RFC 5780)",
    "no-rfc5780": "behaviour discovery is off unless [stun] names a second address",
    "no-stun-backward-compatibility": "MAPPED-ADDRESS goes only to clients that know nothing newer",
    "response-origin-only-with-rfc5780": "RESPONSE-ORIGIN is sent only in behaviour discovery",
    "prometheus-path": "the path is /metrics",
    "prometheus-username-labels": "labels are bounded: what users do is in the usage records of the log",
}
"""Keys that need nothing, and why."""

_DATABASE: Final = "no database is read: export the users to turn.users-file, or use TURN REST credentials"
_BALANCE: Final = (
    "clients are sent elsewhere only while this server drains (server.alternate): balance with DNS SRV "
    "records (RFC 5928)"
)

UNSUPPORTED: Final[dict[str, str]] = {
    "listening-device": "sockets are bound to addresses: name them in server.listen",
    "relay-device": "relays are bound to addresses: name them in turn.relay-addresses",
    "tcp-proxy-port": "the ordinary TCP and TLS ports speak it: name the proxies in [proxy-protocol] from",
    "aux-server": "there is one port a protocol: run a second natwalk, or redirect the port in the firewall",
    "no-auth": "nobody may relay anonymously: clients get short-lived credentials from /v1/ice-servers",
    "oauth": "keys come from files, not from a database: add a [[turn.oauth-keys]] table for each",
    "userdb": _DATABASE,
    "db": _DATABASE,
    "psql-userdb": _DATABASE,
    "mysql-userdb": _DATABASE,
    "mongo-userdb": _DATABASE,
    "redis-userdb": _DATABASE,
    "sql-userdb": _DATABASE,
    "redis-statsdb": "nothing is written to Redis: read /metrics, and the usage records in the log",
    "secret-key-file": "there is no MySQL password to decrypt",
    "no-udp": "UDP is always served: close the port in the firewall if nobody may use it",
    "no-udp-relay": "UDP relays are what TURN is for; turn.relay-addresses = [] turns all relays off",
    "pkey-pwd": "the key is read without a password: openssl pkey -in OLD -out NEW, and chmod 600 NEW",
    "cipher-list": "ciphers are those of TLS 1.3 and the forward-secret ones of TLS 1.2",
    "CA-file": "client certificates are not asked for: clients prove themselves with TURN credentials",
    "alternate-server": _BALANCE,
    "tls-alternate-server": _BALANCE,
    "no-stun": "Binding requests are always answered, with less than a refused TURN request gets",
    "secure-stun": "Binding requests are answered without authentication, as every STUN client expects",
    "server-relay": "packets of peers without a permission are never let through, which keeps a relay safe",
    "web-admin": "there are no web pages for the operator: use [admin], /metrics and the log",
    "acme-redirect": "let the ACME client use port 80 or DNS; natwalk takes up a new certificate by itself",
    "keep-address-family": "without a wish of the client relays are IPv4 (RFC 8656 §7.2)",
    "no-tlsv1_2": "TLS 1.2 stays on beside 1.3, because DTLS 1.2 and many phones need it",
}
"""Keys that are not supported, why, and what to do instead."""

VALUES: Final[dict[str, tuple[str, str]]] = {
    "max-allocate-lifetime": (
        "3600",
        "an allocation lasts at most an hour without a refresh (RFC 8656 §7.2)",
    ),
    "channel-lifetime": ("600", "channels last 10 minutes (RFC 8656 §12)"),
    "permission-lifetime": ("300", "permissions last 5 minutes (RFC 8656 §9)"),
    "allocation-default-address-family": (
        "ipv4",
        "without a wish of the client relays are IPv4 (RFC 8656 §7.2)",
    ),
    "rest-api-separator": (":", "the time and the name in TURN REST users are parted by a colon"),
}
"""Keys with one value that natwalk has always: needless with it, unsupported with another."""
