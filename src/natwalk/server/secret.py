"""The secret behind TURN REST credentials: read from a file that is private, or made and kept in one."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from natwalk.server.errors import ConfigError

_SHORTEST: Final = 16
_LONGEST: Final = 1024
_WELL_KNOWN: Final = frozenset({"north", "secret", "changeme", "change-me", "password", "your-secret"})
_FILE_NAME: Final = "turn.secret"


def read_secret(path: Path) -> str:
    """The secret in ``path``, without surrounding white space.

    Raises ConfigError when others may read the file (permissions, not contents, are named), and when the
    secret is empty, short or one that examples use.
    """
    fresh = f"make one with: (umask 077; head -c 32 /dev/urandom | base64 > {path})"
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(_LONGEST + 1).strip()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"turn.auth-secret-file {path} cannot be read: {reason}", fresh) from error
    if mode & 0o007:
        raise ConfigError(
            f"turn.auth-secret-file {path} may be read by everyone on this machine (mode {mode:04o})",
            f"run: chmod 600 {path}",
        )
    if not _SHORTEST <= len(text) <= _LONGEST or text.lower() in _WELL_KNOWN:
        raise ConfigError(
            f"the secret in turn.auth-secret-file {path} is empty, well known or not "
            f"{_SHORTEST} to {_LONGEST} characters long",
            fresh,
        )
    return text


def kept_secret(state_dir: Path) -> str:
    """The secret kept in ``state_dir``, made there the first time; raises ConfigError when it cannot be."""
    path = state_dir / _FILE_NAME
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return read_secret(path)
    except OSError as error:
        raise ConfigError(
            f"server.state-dir {state_dir} cannot be written: {error.strerror}",
            "choose a folder that this user may write to",
        ) from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        secret = new_secret()
        file.write(secret + "\n")
    return secret


def new_secret() -> str:
    """A fresh secret of 256 random bits."""
    return secrets.token_urlsafe(32)
