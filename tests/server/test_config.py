from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from natwalk.core import Address
from natwalk.server import ConfigError, ServeConfig, load

SECRET = "0123456789abcdef0123456789abcdef"

EXAMPLE = """
[server]
listen = ["127.0.0.1"]
realm = "example"
state-dir = "state"
public-host = "turn.example.net"
[stun]
port = 13478
tls-port = 5349
[turn]
relay-addresses = ["127.0.0.1"]
relay-ports = "50000-50100"
auth-secret-file = "turn.secret"
[turn.users]
alice = "correct horse"
[turn.peers]
allow = ["203.0.113.0/24"]
deny = ["203.0.113.9"]
[turn.limits]
allocations-per-user = 3
[http]
port = 18478
[rendezvous]
nameplate-ttl = 60
"""


def write(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "natwalk.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def secret_file(folder: Path, text: str = SECRET, mode: int = 0o600) -> Path:
    path = folder / "turn.secret"
    path.write_text(text)
    path.chmod(mode)
    return path


def refused(folder: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(write(folder, text))
    assert caught.value.hint
    return caught.value


class TestGood:
    def test_no_file_runs_on_defaults(self) -> None:
        config = load(None)
        assert (config.stun_port, config.http_port) == (3478, 8478)
        assert "0.0.0.0" in config.http_hosts
        assert config.turn.realm == "natwalk"
        assert config.turn.port_range == (49152, 65535)
        assert config.turn.auth_secrets == (config.auth_secret,)
        assert len(config.auth_secret) >= 32
        assert config.auth_secret != load(None).auth_secret
        assert config.turn.relay_addresses
        assert config.warnings == ()

    def test_every_documented_key_is_read(self, tmp_path: Path) -> None:
        secret_file(tmp_path)
        config = load(write(tmp_path, EXAMPLE))
        assert config.listen == config.http_hosts == ("127.0.0.1",)
        assert (config.stun_port, config.http_port) == (13478, 18478)
        assert config.public_host == "turn.example.net"
        assert config.auth_secret == SECRET
        turn = config.turn
        assert (turn.realm, turn.relay_addresses, turn.port_range) == (
            "example",
            ("127.0.0.1",),
            (50000, 50100),
        )
        assert dict(turn.users) == {"alice": "correct horse"}
        assert turn.limits.allocations_per_user == 3
        assert turn.policy.check(Address("203.0.113.8", 5000)) is None
        assert turn.policy.check(Address("203.0.113.9", 5000)) is not None
        assert config.rendezvous.nameplate_ttl == 60
        assert config.tls is None
        [warning] = config.warnings
        assert "tls-port" in warning

    def test_flags_override_the_file(self, tmp_path: Path) -> None:
        secret_file(tmp_path)
        config = load(
            write(tmp_path, EXAMPLE),
            {"http.port": 1, "server.realm": None, "turn.peers.allow": ["198.51.100.0/24"], "stun.port": 0},
        )
        assert (config.http_port, config.stun_port, config.turn.realm) == (1, 0, "example")
        assert config.turn.policy.check(Address("203.0.113.8", 5000)) is not None

    def test_secrets_are_in_no_repr(self, tmp_path: Path) -> None:
        secret_file(tmp_path)
        shown = repr(load(write(tmp_path, EXAMPLE)))
        assert SECRET not in shown
        assert "correct horse" not in shown

    def test_passwords_in_a_file_others_may_read_are_warned_about(self, tmp_path: Path) -> None:
        secret_file(tmp_path)
        warnings = load(write(tmp_path, EXAMPLE, 0o644)).warnings
        assert any("chmod 640" in warning for warning in warnings)

    def test_a_secret_is_kept_in_the_state_folder(self, tmp_path: Path) -> None:
        path = write(tmp_path, '[server]\nstate-dir = "a/b"')
        first, second = load(path), load(path)
        assert first.auth_secret == second.auth_secret
        kept = tmp_path / "a" / "b" / "turn.secret"
        assert kept.stat().st_mode & 0o777 == 0o600
        assert kept.parent.stat().st_mode & 0o777 == 0o700

    def test_tls_files_are_relative_to_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "c.pem").touch()
        (tmp_path / "k.pem").touch()
        config = load(write(tmp_path, '[tls]\ncert = "c.pem"\nkey = "k.pem"'))
        assert config.tls is not None
        assert config.tls.cert == tmp_path / "c.pem"


class TestRefused:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("[sevrer]\n", "unknown key sevrer"),
            ("[stun]\nprot = 1\n", "unknown key stun.prot"),
            ("[turn.limits]\nallocations_per_user = 1\n", "unknown key turn.limits.allocations_per_user"),
            ('[stun]\nport = "x"\n', "stun.port is 'x'"),
            ("[stun]\nport = 70000\n", "stun.port is '70000'"),
            ("[http]\nport = -1\n", "http.port is '-1'"),
            ("stun = 7\n", "stun is '7'"),
            ('[server]\nlisten = "127.0.0.1"\n', "server.listen is '127.0.0.1'"),
            ("[server]\nlisten = [7]\n", "server.listen is '7'"),
            ('[server]\nlisten = ["localhost"]\n', "server.listen has 'localhost'"),
            ('[server]\npublic-host = "a b"\n', "server.public-host is 'a b'"),
            ('[server]\npublic-host = "-x.example"\n', "server.public-host"),
            ('[server]\nrealm = ""\n', "server.realm is ''"),
            ('[server]\nrealm = "a\\nb"\n', "realm"),
            ('[turn]\nrelay-addresses = ["here"]\n', "turn.relay-addresses has 'here'"),
            ('[turn]\nrelay-addresses = ["0.0.0.0"]\n', "0.0.0.0"),
            ('[turn]\nrelay-ports = "many"\n', "turn.relay-ports is 'many'"),
            ('[turn]\nrelay-ports = "60000-50000"\n', "60000-50000"),
            ('[turn]\nrelay-ports = "80-90"\n', "80-90"),
            ('[turn.peers]\nallow = ["10.0.0.0/33"]\n', "10.0.0.0/33"),
            ('[turn.peers]\nallow = ["10.1.0.0/8"]\n', "10.1.0.0/8"),
            ('[turn.peers]\ndeny = ["example.net"]\n', "example.net"),
            ("[turn.limits]\nallocations-per-user = 0\n", "allocations-per-user is '0'"),
            ("[rendezvous]\nnameplate-ttl = 0\n", "nameplate-ttl is '0'"),
            ('[tls]\ncert = "x"\n', "key"),
            ('[tls]\ncert = "none.pem"\nkey = "none.pem"\n', "none.pem is not a file"),
            ("[server\n", "is not TOML"),
            ("a = 1\na = 2\n", "is not TOML"),
        ],
    )
    def test_the_key_and_the_value_are_named(self, tmp_path: Path, text: str, says: str) -> None:
        assert says in str(refused(tmp_path, text))

    def test_the_nearest_key_is_suggested(self, tmp_path: Path) -> None:
        assert refused(tmp_path, "[stun]\nprot = 1\n").hint == "did you mean port?"

    def test_a_password_is_never_shown(self, tmp_path: Path) -> None:
        error = refused(tmp_path, "[turn.users]\nalice = 12345\n")
        assert "turn.users" in str(error)
        assert "12345" not in f"{error}{error.hint}"

    def test_a_file_that_is_not_there_or_too_long_or_binary(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="No such file"):
            load(tmp_path / "none.toml")
        with pytest.raises(ConfigError, match="Is a directory"):
            load(tmp_path)
        assert "longer than 1 MiB" in str(refused(tmp_path, "#" * (1 << 20) + "\n"))
        path = tmp_path / "binary.toml"
        path.write_bytes(b"\xff\x00")
        with pytest.raises(ConfigError, match="is not TOML"):
            load(path)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        key=st.sampled_from(
            [
                "server.listen",
                "server.realm",
                "stun.port",
                "turn.relay-ports",
                "turn.peers.allow",
                "http.port",
            ]
        ),
        value=st.text(max_size=9) | st.integers() | st.lists(st.text(max_size=9), max_size=2),
    )
    def test_any_flag_is_good_or_refused_in_words(self, key: str, value: str | int | list[str]) -> None:
        with contextlib.suppress(ConfigError):
            assert isinstance(load(None, {key: value}), ServeConfig)


class TestSecretFile:
    """FAULTS 67."""

    CONFIG = '[turn]\nauth-secret-file = "turn.secret"'

    @pytest.mark.parametrize("mode", [0o604, 0o644, 0o602, 0o601, 0o777])
    def test_one_that_everyone_may_read_is_refused(self, tmp_path: Path, mode: int) -> None:
        secret_file(tmp_path, mode=mode)
        error = refused(tmp_path, self.CONFIG)
        assert f"{mode:04o}" in str(error)
        assert error.hint.startswith("run: chmod 600")
        assert SECRET not in f"{error}"

    @pytest.mark.parametrize("mode", [0o400, 0o600, 0o640])
    def test_one_for_the_owner_and_a_group_is_read(self, tmp_path: Path, mode: int) -> None:
        secret_file(tmp_path, SECRET + "\n", mode)
        assert load(write(tmp_path, self.CONFIG)).auth_secret == SECRET

    @pytest.mark.parametrize("text", ["", "  \n", "too little", "changeme", "x" * 2000], ids=len)
    def test_an_empty_short_or_well_known_secret_is_refused(self, tmp_path: Path, text: str) -> None:
        secret_file(tmp_path, text)
        error = refused(tmp_path, self.CONFIG)
        assert "umask 077" in error.hint
        if text.strip():
            assert text not in str(error)

    def test_one_that_is_missing_or_no_text_is_refused(self, tmp_path: Path) -> None:
        assert "No such file" in str(refused(tmp_path, self.CONFIG))
        secret_file(tmp_path).write_bytes(b"\xff" * 40)
        assert "not text" in str(refused(tmp_path, self.CONFIG))

    def test_a_state_folder_that_cannot_be_made_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert "cannot be written" in str(refused(tmp_path, '[server]\nstate-dir = "file/x"'))

    def test_a_kept_secret_that_became_readable_is_refused(self, tmp_path: Path) -> None:
        path = write(tmp_path, '[server]\nstate-dir = "s"')
        load(path)
        os.chmod(tmp_path / "s" / "turn.secret", 0o644)
        with pytest.raises(ConfigError, match="0644"):
            load(path)
