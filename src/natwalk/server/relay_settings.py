"""``[relay]`` made into what the relay server takes; the server's key is kept beside its other secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from natwalk.relay import KEY_LENGTH, RelayServerConfig, is_usable
from natwalk.relay.keys import SEED_LENGTH
from natwalk.server.document import FIX
from natwalk.server.errors import ConfigError
from natwalk.server.schema import RelaySection
from natwalk.server.secret import kept_seed

_KEY: Final = re.compile(rf"[0-9a-fA-F]{{{2 * KEY_LENGTH}}}")


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """Of the relay; ``seed`` is that of its key, None for one that is made at each start."""

    enabled: bool = True
    config: RelayServerConfig = field(default_factory=RelayServerConfig)
    seed: bytes | None = field(default=None, repr=False)


def relay_settings(section: RelaySection, state_dir: Path | None, where: str) -> RelaySettings:
    """What ``section`` says; makes the key in ``state_dir`` the first time. Raises ConfigError."""
    config = RelayServerConfig(
        connections=section.connections,
        connections_per_source=section.connections_per_source,
        rate=float(section.rate),
        burst=float(section.burst),
        allow=frozenset(_key(text, where) for text in section.allow),
    )
    kept = section.enabled and state_dir is not None
    seed = kept_seed(state_dir, SEED_LENGTH) if kept and state_dir is not None else None
    return RelaySettings(section.enabled, config, seed)


def _key(text: str, where: str) -> bytes:
    if not _KEY.fullmatch(text) or not is_usable(key := bytes.fromhex(text)):
        raise ConfigError(
            f"relay.allow has {text!r}, which is not a public key of {2 * KEY_LENGTH} hexadecimal digits",
            FIX.format(where=where),
        )
    return key
