"""Secrets: those behind TURN REST credentials, users' passwords, OAuth keys and the operator's token.

They come from files that others may not read, or one is made and kept in such a file. One that can be
guessed is refused: whoever saw one signed request can try a word list against it (RFC 8656 §21.1.2).
"""

from __future__ import annotations

import binascii
import os
import secrets
import stat
from base64 import b64decode
from pathlib import Path
from typing import Final

from natwalk.server.errors import ConfigError

SHORTEST_SECRET: Final = 16
"""Characters: 128 bits where they are hexadecimal pairs or better."""
SHORTEST_PASSWORD: Final = 12
"""Characters of a user's password."""
_LONGEST: Final = 1024
_LONGEST_FILE: Final = 1 << 20
_MOST_USERS: Final = 10_000
_WELL_KNOWN: Final = frozenset(
    {
        "north",
        "secret",
        "changeme",
        "change-me",
        "password",
        "your-secret",
        "youhavetoberealistic",
        "your_auth_secret",
        "password1234",
        "passwordpassword",
        "0123456789abcdef",
        "123456789012",
        "1234567890123456",
    }
)
"""What examples use and what everyone tries first."""
_FILE_NAME: Final = "turn.secret"
_RELAY_FILE_NAME: Final = "relay.key"
_FORCE: Final = "or, for a test only, set turn.allow-weak-secrets = true"


def read_secret(path: Path, key: str = "turn.auth-secret-file", *, weak: bool = False) -> str:
    """The secret in ``path``, without surrounding white space; ``key`` is what errors call it.

    Raises ConfigError when others may read the file (permissions, not contents, are named), and when the
    secret is empty, or, but for ``weak``, short or one that examples use.
    """
    fresh = f"make one with: (umask 077; head -c 32 /dev/urandom | base64 > {path})"
    text = read_private(path, key, fresh).strip()
    if not text or len(text) > _LONGEST or (not weak and is_weak(text, SHORTEST_SECRET)):
        raise ConfigError(
            f"the secret in {key} {path} is empty, well known or not "
            f"{SHORTEST_SECRET} to {_LONGEST} characters long",
            f"{fresh}, {_FORCE}",
        )
    return text


def read_private(path: Path, key: str, hint: str) -> str:
    """The text of the file ``path``; ConfigError when it cannot be read, or may be read by everyone."""
    try:
        with path.open(encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(_LONGEST_FILE + 1)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"{key} {path} cannot be read: {reason}", hint) from error
    if mode & 0o007:
        raise ConfigError(
            f"{key} {path} may be read by everyone on this machine (mode {mode:04o})",
            f"run: chmod 600 {path}",
        )
    if len(text) > _LONGEST_FILE:
        raise ConfigError(f"{key} {path} is longer than 1 MiB", hint)
    return text


def read_users(path: Path) -> dict[str, str]:
    """The users in ``path``, one ``name:password`` a line; blank lines and those with ``#`` first are none.

    Raises ConfigError that names the line and never what is on it.
    """
    key, hint = "turn.users-file", "write one name:password a line, and chmod 600 the file"
    users: dict[str, str] = {}
    for number, line in enumerate(read_private(path, key, hint).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, password = line.strip().partition(":")
        if not colon or not name or not password:
            raise ConfigError(f"{key} {path}: line {number} is not name:password", hint)
        if name in users:
            raise ConfigError(f"{key} {path}: line {number} names a user for the second time", hint)
        if len(users) >= _MOST_USERS:
            raise ConfigError(
                f"{key} {path} has more than {_MOST_USERS} users", "use TURN REST credentials instead"
            )
        users[name] = password
    return users


def check_passwords(users: dict[str, str], *, weak: bool) -> None:
    """Raise ConfigError when the password of one of ``users`` can be guessed, unless ``weak`` ones may be."""
    if weak:
        return
    for name, password in users.items():
        if is_weak(password, SHORTEST_PASSWORD) or password == name:
            raise ConfigError(
                f"the password of the TURN user {name!r} is well known or shorter than "
                f"{SHORTEST_PASSWORD} characters",
                f"make one with: head -c 18 /dev/urandom | base64; {_FORCE}",
            )


def read_key(path: Path, key: str) -> bytes:
    """The 16 or 32 bytes that ``path`` has in base64; raises ConfigError."""
    fresh = f"write it in base64: (umask 077; head -c 32 /dev/urandom | base64 > {path})"
    text = read_private(path, key, fresh).strip()
    try:
        data = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) not in {16, 32}:
        raise ConfigError(f"{key} {path} does not hold 16 or 32 bytes in base64", fresh)
    return data


def is_weak(text: str, shortest: int) -> bool:
    """True when ``text`` is shorter than ``shortest`` characters, one of the known, or all one character."""
    return len(text) < shortest or text.lower() in _WELL_KNOWN or len(set(text)) < 4


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


def kept_seed(state_dir: Path, size: int) -> bytes:
    """The ``size`` random bytes kept in ``state_dir`` for the relay's key, made there the first time.

    Raises ConfigError.
    """
    path, key = state_dir / _RELAY_FILE_NAME, "the relay's key"
    fresh = f"remove {path}, and a new key is made"
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        text = read_private(path, key, fresh).strip()
        try:
            seed = bytes.fromhex(text)
        except ValueError:
            seed = b""
        if len(seed) != size:
            raise ConfigError(f"{key} {path} does not hold {size} bytes in hexadecimal", fresh) from None
        return seed
    except OSError as error:
        raise ConfigError(
            f"server.state-dir {state_dir} cannot be written: {error.strerror}",
            "choose a folder that this user may write to",
        ) from error
    seed = secrets.token_bytes(size)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(seed.hex() + "\n")
    return seed


def kept_file(state_dir: Path) -> Path:
    """Where :func:`kept_secret` keeps it."""
    return state_dir / _FILE_NAME


def new_secret() -> str:
    """A fresh secret of 256 random bits."""
    return secrets.token_urlsafe(32)
