from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certificates import write_certificate
from natwalk.core import Address
from natwalk.server import ConfigError, ServeConfig, load
from natwalk.server.behaviour import behaviour
from natwalk.server.config import StreamLimits
from natwalk.server.options import options
from natwalk.server.ports import Ports
from natwalk.stun import Algorithm

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
[relay]
enabled = true
connections = 100
connections-per-source = 10
rate = 1000000
burst = 100000
allow = ["3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"]
[rendezvous]
nameplate-ttl = 60
"""


RELAYS = '[turn]\nrelay-addresses = ["127.0.0.1", "127.0.0.2"]\n[server.public-addresses]\n'


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
        relay = config.relay.config
        assert (relay.connections, relay.connections_per_source) == (100, 10)
        assert (relay.rate, relay.burst, len(relay.allow)) == (1e6, 1e5, 1)
        assert config.tls is None
        [warning] = config.warnings
        assert "tls-port" in warning

    def test_a_partner_has_a_public_address_too_and_is_not_this_machine(self, tmp_path: Path) -> None:
        """Its relays are peers like others, so the TURN server is not told; behaviour discovery is."""
        secret_file(tmp_path)
        public = '"127.0.0.1" = "192.0.2.1", "10.0.0.6" = "192.0.2.2"'
        config = load(
            write(
                tmp_path,
                f'[server]\nlisten = ["127.0.0.1"]\npublic-addresses = {{ {public} }}\n'
                '[stun]\npartner = "10.0.0.6"\npartner-secret-file = "turn.secret"\n',
            )
        )
        assert config.turn.public_addresses == {"127.0.0.1": "192.0.2.1"}
        found = behaviour(config, Ports(3478, 3479))
        assert found is not None
        assert found.public == ("192.0.2.1", "192.0.2.2")

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
        write_certificate(tmp_path, cert_file="c.pem", key_file="k.pem")
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
            ('[server]\npublic-addresses = "192.0.2.1"\n', "server.public-addresses is '192.0.2.1'"),
            (
                '[server.public-addresses]\n"10.0.0.5" = "me"\n',
                "public-addresses has '10.0.0.5' = 'me'",
            ),
            ('[server.public-addresses]\n"10.0.0.5" = "::1"\n', "10.0.0.5 and its public address ::1"),
            (f'{RELAYS}"0.0.0.0" = "192.0.2.1"\n', "every relay address of IPv4, and there are 2"),
            (f'{RELAYS}"::" = "2001:db8::1"\n', "every relay address of IPv6, and there are 0"),
            (f'{RELAYS}"127.0.0.1" = "127.0.0.2"\n', "127.0.0.2 is a relay address and the public address"),
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


WHOLE = """
[server]
listen = ["127.0.0.1"]
alternate = "192.0.2.7:3478"
drain-seconds = 60
public-addresses = { "127.0.0.2" = "192.0.2.8", "::" = "2001:db8::8", "0.0.0.0" = "192.0.2.7" }
[stun]
port = 0
alternate-address = "127.0.0.2"
tls-port = 15349
tcp = false
classic = false
[turn]
relay-addresses = ["127.0.0.1", "::1"]
auth-secret-file = "turn.secret"
auth-secret-files = ["old.secret"]
users-file = "users"
tls = true
dtls = false
tcp-relays = true
mobility = false
password-algorithms = ["md5"]
third-party-authorization = "auth.example.net"
denied-ports = [25]
channels = "rfc5766"
nonce-lifetime = 90
software = true
[[turn.oauth-keys]]
kid = "k1"
key-file = "oauth.key"
not-after = 4000000000
[turn.users]
alice = "correct horse"
[turn.limits]
bandwidth = 125000000
bandwidth-per-user = 1250000
bytes-per-user-per-day = 10000000000
connections-per-allocation = 5
refusals-rate = 3
[streams]
connections = 100
connections-per-source = 10
handshake-timeout = 5
idle-timeout = 20
[http]
port = 0
listen = ["127.0.0.2"]
[tls]
cert = "cert.pem"
key = "key.pem"
port = 443
[proxy-protocol]
from = ["192.0.2.0/24", "::1"]
[log]
format = "json"
level = "warning"
addresses = true
usage = false
[metrics]
allow = ["10.0.0.0/8"]
listen = "127.0.0.1:9641"
[admin]
socket = "admin.sock"
token-file = "admin.token"
"""


class TestEveryKey:
    @pytest.fixture
    def config(self, tmp_path: Path) -> ServeConfig:
        write_certificate(tmp_path)
        secret_file(tmp_path)
        for name, text in (
            ("old.secret", "the one before this one"),
            ("users", "# people\nbob:another long one\n\n"),
            ("oauth.key", "MDEyMzQ1Njc4OWFiY2RlZg=="),
            ("admin.token", "a long token of the operator"),
        ):
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o600)
        return load(write(tmp_path, WHOLE))

    def test_it_is_read(self, config: ServeConfig, tmp_path: Path) -> None:
        assert config.alternate == Address("192.0.2.7", 3478)
        assert config.drain_seconds == 60
        assert (config.stun_alternate_address, config.stun_partner) == ("127.0.0.2", None)
        assert (config.tls_port, config.stun_tcp) == (15349, False)
        assert config.turn.classic_stun is False
        assert (config.turn_tls, config.turn_dtls) == (True, False)
        assert config.streams == StreamLimits(100, 10, 5, 20)
        assert config.http_hosts == ("127.0.0.2",)
        assert config.tls is not None
        assert config.tls.port == 443
        assert [str(network) for network in config.proxy_from] == ["192.0.2.0/24", "::1/128"]
        assert (config.log.format, config.log.level, config.log.addresses, config.log.usage) == (
            "json",
            "warning",
            True,
            False,
        )
        assert config.metrics.listen == Address("127.0.0.1", 9641)
        assert config.admin.socket == tmp_path / "admin.sock"
        assert not config.generated_secret

    def test_the_turn_server_is_told(self, config: ServeConfig) -> None:
        turn = config.turn
        assert dict(turn.public_addresses) == {
            "127.0.0.1": "192.0.2.7",
            "127.0.0.2": "192.0.2.8",
            "::1": "2001:db8::8",
        }
        assert (config.known_as("127.0.0.2"), config.known_as("192.0.2.1")) == ("192.0.2.8", "192.0.2.1")
        assert turn.auth_secrets == (SECRET, "the one before this one")
        assert dict(turn.users) == {"alice": "correct horse", "bob": "another long one"}
        assert (turn.tcp_relays, turn.mobility, turn.rfc5766_channels) == (True, False, True)
        assert turn.password_algorithms == (Algorithm.MD5,)
        assert turn.third_party_authorization == "auth.example.net"
        assert (turn.nonce_lifetime, turn.software) == (90, "natwalk")
        [key] = turn.oauth_keys
        assert (key.kid, key.key, key.not_after) == ("k1", b"0123456789abcdef", 4e9)
        assert turn.policy.check(Address("8.8.8.8", 25)) is not None
        assert turn.policy.check(Address("8.8.8.8", 53)) is None
        limits = turn.limits
        assert (limits.bandwidth, limits.bandwidth_per_user) == (125_000_000, 1_250_000)
        assert (limits.bytes_per_user_per_day, limits.connections_per_allocation) == (10**10, 5)
        assert limits.refusals_rate == 3

    def test_the_files_are_known_to_whoever_watches_them(self, config: ServeConfig) -> None:
        assert {path.name for path in config.files} == {
            "natwalk.toml",
            "turn.secret",
            "old.secret",
            "users",
            "oauth.key",
            "admin.token",
            "cert.pem",
            "key.pem",
        }

    def test_no_secret_is_in_a_repr(self, config: ServeConfig) -> None:
        shown = repr(config)
        for secret in (*config.secrets, "MDEyMzQ1Njc4OWFiY2RlZg==", "0123456789abcdef"):
            assert secret not in shown
        assert len(config.secrets) == 5

    def test_none_of_the_defaults_is_missing_from_the_whole(self) -> None:
        """Every option of the schema is in the files above: a new one has to be tested, too."""
        written = set()
        table = ""
        for line in (EXAMPLE + WHOLE).splitlines():
            if line.startswith("["):
                table = line.strip("[]")
            elif "=" in line:
                written.add(f"{table}.{line.partition(' =')[0]}")
        plain = {
            "turn.limits.allocations",
            "turn.limits.permissions-per-allocation",
            "turn.limits.channels-per-allocation",
            "turn.limits.new-peers-rate",
            "turn.limits.new-peers-burst",
            "turn.limits.refusals-burst",
            "turn.limits.failures-per-user",
            "turn.limits.failures-per-source",
            "turn.limits.tracked-sources",
            "turn.allow-weak-secrets",
            "turn.users",
            "turn.oauth-keys",
            "stun.alternate-port",
            "stun.partner",
            "stun.partner-secret-file",
        }
        rendezvous = {option.key for option in options() if option.key.startswith("rendezvous.")}
        assert {option.key for option in options()} - written - plain == rendezvous - {
            "rendezvous.nameplate-ttl"
        }


class TestEnvironment:
    def test_every_option_but_tables_has_a_variable_of_its_own(self) -> None:
        names = [option.variable for option in options() if option.variable is not None]
        assert len(set(names)) == len(names) > 50
        assert all(name.startswith("NATWALK_") and name.isupper() for name in names)
        assert {option.key for option in options() if option.variable is None} == {
            "turn.users",
            "turn.oauth-keys",
        }

    def test_variables_override_the_file_and_flags_override_them(self, tmp_path: Path) -> None:
        secret_file(tmp_path)
        environ = {
            "NATWALK_HTTP_PORT": "1",
            "NATWALK_TURN_MOBILITY": "no",
            "NATWALK_TURN_LIMITS_REFUSALS_RATE": "2.5",
            "NATWALK_TURN_PEERS_DENY": "198.51.100.0/24 192.0.2.1",
            "NATWALK_TURN_DENIED_PORTS": "25 53",
            "NATWALK_SERVER_PUBLIC_ADDRESSES": "127.0.0.1=192.0.2.1 127.0.0.2=192.0.2.2",
            "NATWALK_LOG_FORMAT": "json",
            "NATWALK_STUN_PORT": "7",
        }
        config = load(write(tmp_path, EXAMPLE), {"stun.port": 8}, environ)
        assert (config.http_port, config.stun_port) == (1, 8)
        assert not config.turn.mobility
        assert config.turn.limits.refusals_rate == 2.5
        assert config.turn.policy.check(Address("198.51.100.1", 5000)) is not None
        assert config.turn.policy.check(Address("8.8.8.8", 53)) is not None
        assert config.turn.public_addresses == {"127.0.0.1": "192.0.2.1", "127.0.0.2": "192.0.2.2"}
        assert config.log.format == "json"

    @pytest.mark.parametrize(
        ("name", "value", "says"),
        [
            ("NATWALK_TURN_LIMITS_ALLOCATIONS", "many", "turn.limits.allocations is 'many'"),
            ("NATWALK_STUN_TCP", "perhaps", "stun.tcp is 'perhaps'"),
            ("NATWALK_TURN_DENIED_PORTS", "25 x", "turn.denied-ports is 'x'"),
            ("NATWALK_LOG_FORMAT", "xml", "log.format is 'xml'"),
            ("NATWALK_SERVER_PUBLIC_ADDRESSES", "192.0.2.1", "server.public-addresses is '192.0.2.1'"),
            ("NATWALK_TURN_PEERS_ALLOW", "10.0.0.0/33", "10.0.0.0/33"),
        ],
    )
    def test_a_wrong_one_is_refused_like_a_key(self, name: str, value: str, says: str) -> None:
        with pytest.raises(ConfigError) as caught:
            load(None, {}, {name: value})
        assert says in str(caught.value)

    def test_one_that_is_no_option_is_warned_about(self) -> None:
        environ = {
            "NATWALK_TURN_REALY_PORTS": "1",
            "NATWALK_SERVER": "http://x",
            "NATWALK_CODE": "x",
            "PATH": "",
        }
        [warning] = load(None, {}, environ).warnings
        assert warning.endswith(
            "NATWALK_TURN_REALY_PORTS, which is no option of the server, "
            "did you mean NATWALK_TURN_RELAY_PORTS?"
        )


class TestPeerEntries:
    @pytest.mark.parametrize("key", ["allow", "deny"])
    @pytest.mark.parametrize(
        "entry",
        ["10.0.0.0-8", "10.0.0.0/33", "300.1.1.1", "10.0.0.5/8", "", "10.0.0.9-10.0.0.1", "10.0.0.1-::1"],
    )
    def test_a_wrong_one_is_fatal_and_shown(self, tmp_path: Path, key: str, entry: str) -> None:
        """FAULTS 11: what cannot be an address, a network or a range never starts a server with a hole."""
        error = refused(tmp_path, f'[turn.peers]\n{key} = ["198.51.100.0/24", "{entry}"]\n')
        assert repr(entry) in str(error)


class TestWeakSecrets:
    @pytest.mark.parametrize(
        "password", ["kurz", "password1234", "PassWord1234", "aaaaaaaaaaaaaaaa", "alice-alice-alice"]
    )
    def test_a_password_that_a_word_list_finds_is_refused_unless_forced(
        self, tmp_path: Path, password: str
    ) -> None:
        """FAULTS 50: static secrets that are short or known are refused; the user is named, not the word."""
        text = f'[turn.users]\n"alice-alice-alice" = "{password}"\n'
        error = refused(tmp_path, text)
        assert "'alice-alice-alice'" in str(error)
        if password != "alice-alice-alice":
            assert password not in f"{error}{error.hint}"
        config = load(write(tmp_path, f"[turn]\nallow-weak-secrets = true\n{text}"))
        assert config.turn.users
        assert any("allow-weak-secrets" in warning for warning in config.warnings)

    def test_a_short_shared_secret_too(self, tmp_path: Path) -> None:
        """FAULTS 67."""
        secret_file(tmp_path, "north")
        refused(tmp_path, '[turn]\nauth-secret-file = "turn.secret"')
        text = '[turn]\nauth-secret-file = "turn.secret"\nallow-weak-secrets = true'
        assert load(write(tmp_path, text)).auth_secret == "north"
        secret_file(tmp_path, "")
        refused(tmp_path, text)

    def test_what_is_made_has_256_bits(self) -> None:
        """FAULTS 50: shipped secrets have 128 bits or more."""
        assert len(load(None).auth_secret) >= 43


class TestUsersFile:
    CONFIG = '[turn]\nusers-file = "users"'

    def users(self, folder: Path, text: str, mode: int = 0o600) -> None:
        (folder / "users").write_text(text)
        (folder / "users").chmod(mode)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("alice\n", "line 1 is not name:password"),
            ("# x\n\n:pass pass pass\n", "line 3 is not"),
            ("alice:\n", "line 1"),
            ("alice:one long word\nalice:one long word\n", "line 2 names a user for the second time"),
            ("alice:short\n", "'alice'"),
        ],
    )
    def test_a_wrong_line_is_named_and_not_shown(self, tmp_path: Path, text: str, says: str) -> None:
        self.users(tmp_path, text)
        error = refused(tmp_path, self.CONFIG)
        assert says in str(error)
        assert "one long word" not in str(error)

    def test_passwords_may_have_colons(self, tmp_path: Path) -> None:
        self.users(tmp_path, "alice:a:b:c:d:e:f:g\n")
        assert dict(load(write(tmp_path, self.CONFIG)).turn.users) == {"alice": "a:b:c:d:e:f:g"}

    def test_one_that_everyone_may_read_is_refused(self, tmp_path: Path) -> None:
        self.users(tmp_path, "alice:one long word\n", 0o644)
        assert "0644" in str(refused(tmp_path, self.CONFIG))

    def test_a_user_in_both_places_is_refused(self, tmp_path: Path) -> None:
        self.users(tmp_path, "alice:one long word\n")
        assert "'alice'" in str(refused(tmp_path, f'{self.CONFIG}\n[turn.users]\nalice = "another long one"'))


class TestCertificates:
    CONFIG = '[tls]\ncert = "cert.pem"\nkey = "key.pem"'

    def test_a_key_of_another_certificate_is_refused(self, tmp_path: Path) -> None:
        write_certificate(tmp_path)
        write_certificate(tmp_path, cert_file="other.pem")
        assert "key values mismatch" in str(refused(tmp_path, self.CONFIG))

    def test_what_is_no_certificate_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "cert.pem").write_text("nothing")
        (tmp_path / "key.pem").write_text("nothing")
        assert "cert.pem" in str(refused(tmp_path, self.CONFIG))

    @pytest.mark.parametrize(("days", "says"), [(-1, "has expired"), (6, "expires in 6.0 days"), (30, "")])
    def test_one_that_ends_soon_is_warned_about(self, tmp_path: Path, days: int, says: str) -> None:
        """FAULTS 158: the alarm comes before the certificate ends."""
        write_certificate(tmp_path, days=days)
        warnings = " ".join(load(write(tmp_path, self.CONFIG)).warnings)
        assert says in warnings
        assert bool(says) == bool(warnings)


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
