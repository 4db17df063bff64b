"""The keys of ``natwalk.toml`` and their types; meanings are checked by :mod:`natwalk.server.config`.

One struct a table of the file. The docstring or comment of a field is not the reference:
``docs/reference/configuration.md`` is, and a test compares the two.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Bytes = Annotated[int, Meta(ge=1, le=1 << 62)]
Seconds = Annotated[float, Meta(gt=0, le=10_000_000)]
Rate = Annotated[float, Meta(ge=1, le=1_000_000)]
Text = Annotated[str, Meta(min_length=1, max_length=1024)]
Pairs = Annotated[dict[Text, Text], Meta(max_length=64, extra={"variable": "pairs"})]
"""A small table without secrets, which an environment variable can hold: ``NAME=VALUE NAME=VALUE``."""


class Section(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """A table of the file: keys in kebab-case, unknown keys refused."""


class ServerSection(Section, frozen=True):
    """``[server]``: where it listens, how it is called, how it ends."""

    listen: list[Text] | None = None
    realm: Text = "natwalk"
    state_dir: Text | None = None
    public_host: Text | None = None
    public_addresses: Pairs = field(default_factory=dict)
    alternate: Text | None = None
    drain_seconds: Annotated[float, Meta(ge=0, le=604_800)] = 3.0


class StunSection(Section, frozen=True):
    """``[stun]``: ports and NAT behaviour discovery (RFC 5780)."""

    port: Port = 3478
    alternate_port: Port | None = None
    alternate_address: Text | None = None
    partner: Text | None = None
    partner_secret_file: Text | None = None
    tls_port: Port | None = None
    tcp: bool = True
    classic: bool = True


class PeersSection(Section, frozen=True):
    """``[turn.peers]``: whom relays may talk to."""

    allow: list[Text] = field(default_factory=list)
    deny: list[Text] = field(default_factory=list)


class TurnLimitsSection(Section, frozen=True):
    """``[turn.limits]``: bounds; bytes, seconds, or a number of things."""

    allocations: Count = 4096
    allocations_per_user: Count = 12
    permissions_per_allocation: Count = 256
    channels_per_allocation: Count = 256
    connections_per_allocation: Count = 64
    bandwidth: Bytes | None = None
    bandwidth_per_user: Bytes | None = None
    bytes_per_user_per_day: Bytes | None = None
    new_peers_rate: Rate = 20.0
    new_peers_burst: Rate = 200.0
    refusals_rate: Rate = 10.0
    refusals_burst: Rate = 20.0
    failures_per_user: Count = 5
    failures_per_source: Count = 50
    tracked_sources: Count = 4096


class OAuthKeySection(Section, frozen=True):
    """An entry of ``[[turn.oauth-keys]]`` (RFC 7635): times are Unix seconds or TOML dates."""

    kid: Text
    key_file: Text
    not_before: Annotated[float, Meta(ge=0)] = 0.0
    not_after: Annotated[float, Meta(ge=0)] = float("inf")


class TurnSection(Section, frozen=True):
    """``[turn]``: what relays are and who may have one."""

    relay_addresses: list[Text] | None = None
    relay_ports: Text = "49152-65535"
    auth_secret_file: Text | None = None
    auth_secret_files: list[Text] = field(default_factory=list)
    users_file: Text | None = None
    allow_weak_secrets: bool = False
    tls: bool = True
    dtls: bool = True
    tcp_relays: bool = False
    mobility: bool = True
    password_algorithms: Annotated[list[Literal["sha-256", "md5"]], Meta(min_length=1, max_length=2)] = field(
        default_factory=lambda: ["sha-256", "md5"]
    )
    oauth_keys: Annotated[list[OAuthKeySection], Meta(max_length=64)] = field(default_factory=list)
    third_party_authorization: Annotated[str, Meta(max_length=255)] = ""
    denied_ports: Annotated[list[Port], Meta(max_length=65536)] | None = None
    channels: Literal["rfc8656", "rfc5766"] = "rfc8656"
    nonce_lifetime: Seconds = 600.0
    software: bool = False
    users: dict[Text, Text] = field(default_factory=dict)
    peers: PeersSection = PeersSection()
    limits: TurnLimitsSection = TurnLimitsSection()


class HttpSection(Section, frozen=True):
    """``[http]``: the HTTP API and the rendezvous service."""

    port: Port = 8478
    listen: list[Text] | None = None


class TlsSection(Section, frozen=True):
    """``[tls]``: the certificate of every TLS and DTLS port; ``port`` is shared by TURN and HTTPS."""

    cert: Text
    key: Text
    port: Port | None = None


class ProxyProtocolSection(Section, frozen=True):
    """``[proxy-protocol]``: proxies whose word about a client's address is taken."""

    from_: list[Text] = field(default_factory=list, name="from")


class LogSection(Section, frozen=True):
    """``[log]``: how it is logged and whether addresses may be in it."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"
    addresses: bool = False
    usage: bool = True


class MetricsSection(Section, frozen=True):
    """``[metrics]``: who may read ``/metrics``, and where."""

    allow: list[Text] = field(default_factory=lambda: ["127.0.0.0/8", "::1"])
    listen: Text | None = None


class AdminSection(Section, frozen=True):
    """``[admin]``: the commands of the operator; off unless one of the two is given."""

    socket: Text | None = None
    token_file: Text | None = None


class RendezvousSection(Section, frozen=True):
    """``[rendezvous]``: how long codes live and how many one source may ask for."""

    nameplate_ttl: Seconds = 3600.0
    idle_timeout: Seconds = 660.0
    resume_idle_timeout: Seconds = 86_400.0
    allocations_per_minute: Count = 30
    claims_per_minute: Count = 30
    mailboxes_per_source: Count = 32


class StreamLimitsSection(Section, frozen=True):
    """``[streams]``: bounds of TCP, TLS and DTLS connections before and after they have authenticated."""

    connections: Count = 8192
    connections_per_source: Count = 256
    handshake_timeout: Seconds = 15.0
    idle_timeout: Seconds = 60.0


class RelaySection(Section, frozen=True):
    """``[relay]``: packets by public key over the HTTP port, for when nothing else passes."""

    enabled: bool = True
    connections: Count = 16_384
    connections_per_source: Count = 256
    rate: Bytes = 4_194_304
    burst: Bytes = 1_048_576
    allow: Annotated[list[Text], Meta(max_length=100_000)] = field(default_factory=list)


class Document(Section, frozen=True):
    """The whole file."""

    server: ServerSection = ServerSection()
    stun: StunSection = StunSection()
    turn: TurnSection = TurnSection()
    streams: StreamLimitsSection = StreamLimitsSection()
    http: HttpSection = HttpSection()
    tls: TlsSection | None = None
    proxy_protocol: ProxyProtocolSection = ProxyProtocolSection()
    log: LogSection = LogSection()
    metrics: MetricsSection = MetricsSection()
    admin: AdminSection = AdminSection()
    rendezvous: RendezvousSection = RendezvousSection()
    relay: RelaySection = RelaySection()
