"""The keys of ``natwalk.toml`` and their types; meanings are checked by :mod:`natwalk.server.config`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=10_000_000)]
Text = Annotated[str, Meta(min_length=1, max_length=1024)]


class _Section(Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True):
    """A table of the file: keys in kebab-case, unknown keys refused."""


class ServerSection(_Section, frozen=True):
    """``[server]``."""

    listen: list[Text] | None = None
    realm: Text = "natwalk"
    state_dir: Text | None = None
    public_host: Text | None = None


class StunSection(_Section, frozen=True):
    """``[stun]``."""

    port: Port = 3478
    alternate_port: Port | None = None
    tls_port: Port | None = None


class PeersSection(_Section, frozen=True):
    """``[turn.peers]``."""

    allow: list[Text] = field(default_factory=list)
    deny: list[Text] = field(default_factory=list)


class TurnLimitsSection(_Section, frozen=True):
    """``[turn.limits]``."""

    allocations: Count = 4096
    allocations_per_user: Count = 12
    permissions_per_allocation: Count = 256
    channels_per_allocation: Count = 256


class TurnSection(_Section, frozen=True):
    """``[turn]``."""

    relay_addresses: list[Text] | None = None
    relay_ports: Text = "49152-65535"
    auth_secret_file: Text | None = None
    users: dict[Text, Text] = field(default_factory=dict)
    peers: PeersSection = PeersSection()
    limits: TurnLimitsSection = TurnLimitsSection()


class HttpSection(_Section, frozen=True):
    """``[http]``."""

    port: Port = 8478


class TlsSection(_Section, frozen=True):
    """``[tls]``."""

    cert: Text
    key: Text


class RendezvousSection(_Section, frozen=True):
    """``[rendezvous]``: how long codes live and how many one source may ask for."""

    nameplate_ttl: Seconds = 3600.0
    idle_timeout: Seconds = 660.0
    resume_idle_timeout: Seconds = 86_400.0
    allocations_per_minute: Count = 30
    claims_per_minute: Count = 30
    mailboxes_per_source: Count = 32


class Document(_Section, frozen=True):
    """The whole file."""

    server: ServerSection = ServerSection()
    stun: StunSection = StunSection()
    turn: TurnSection = TurnSection()
    http: HttpSection = HttpSection()
    rendezvous: RendezvousSection = RendezvousSection()
    tls: TlsSection | None = None
