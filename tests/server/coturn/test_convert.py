"""coturn's settings: each converted, or said why not, and the outcome starts a server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from natwalk.core import Address
from natwalk.server import ServeConfig, load
from natwalk.server.coturn import Conversion, Remark, Verdict, convert, merged, parse
from natwalk.server.coturn.convert import KNOWN
from natwalk.server.coturn.keys import NEEDLESS, UNSUPPORTED, VALUES
from natwalk.server.coturn.ranges import span, text, without

DEBIAN = Path("/usr/share/doc/coturn/examples/etc/turnserver.conf")
_SETTING = re.compile(r'#?([A-Za-z][A-Za-z0-9_-]*)(=.*| ".*)?|# ([a-z][a-z0-9-]*)=\S+')


def converted(conf: str) -> Conversion:
    return convert(parse(conf))


def only(conf: str) -> Remark:
    [remark] = converted(conf).remarks
    return remark


def started(conversion: Conversion, folder: Path, more: str = "") -> ServeConfig:
    """What ``natwalk serve`` reads from the outcome."""
    for name, secret in conversion.secrets.items():
        (folder / name).write_text(secret)
        (folder / name).chmod(0o600)
    path = folder / "natwalk.toml"
    path.write_text(conversion.toml + more)
    path.chmod(0o600)
    return load(path)


class TestParsing:
    def test_the_forms_a_line_has(self) -> None:
        conf = (
            "# comment\n\n  realm=a.example  \nrealm = b.example\nrealm c.example\nverbose\n"
            "cipher-list=\"A:B # C\"\npidfile='/x y'\nmin-port=5000 # why\nuser=a:p#q #r\nno-tcp=0\nx=\n=\n"
        )
        found = [(s.line, s.key, s.value) for s in parse(conf)]
        assert found == [
            (3, "realm", "a.example"),
            (4, "realm", "b.example"),
            (5, "realm", "c.example"),
            (6, "verbose", ""),
            (7, "cipher-list", "A:B # C"),
            (8, "pidfile", "/x y"),
            (9, "min-port", "5000"),
            (10, "user", "a:p#q #r"),
            (11, "no-tcp", "0"),
            (12, "x", ""),
            (13, "", ""),
        ]

    def test_values_are_in_no_repr(self) -> None:
        [setting] = parse("static-auth-secret=canary")
        assert "canary" not in repr(setting)


class TestTable:
    def test_every_key_has_one_place(self) -> None:
        assert not set(NEEDLESS) & set(UNSUPPORTED)
        assert not set(VALUES) & (set(NEEDLESS) | set(UNSUPPORTED))

    @pytest.mark.skipif(not DEBIAN.exists(), reason="Debian's coturn is not installed")
    def test_every_key_of_debians_example_is_known(self) -> None:
        """Each line of the example that is a setting, commented out or not, is spoken of."""
        keys = set()
        for line in DEBIAN.read_text().splitlines():
            if match := _SETTING.fullmatch(line):
                keys.add(match[1] or match[3])
        assert len(keys) > 100
        assert keys - KNOWN == set()

    @pytest.mark.skipif(not DEBIAN.exists(), reason="Debian's coturn is not installed")
    def test_the_whole_example_switched_on_converts_and_starts(self, tmp_path: Path) -> None:
        conf = re.sub(r"(?m)^#(?=[A-Za-z])(?!OR:|Local )", "", DEBIAN.read_text())
        conversion = convert(parse(conf), tls_check=lambda *_: "not here")
        assert conversion.wrong == []
        assert not [r for r in conversion.remarks if r.verdict is Verdict.UNKNOWN]
        assert len(conversion.remarks) > 100
        started(conversion, tmp_path)


class TestExternalAddresses:
    @pytest.mark.parametrize(
        ("conf", "public"),
        [
            ("external-ip=192.0.2.1\nrelay-ip=127.0.0.1", {"127.0.0.1": "192.0.2.1"}),
            ("external-ip=192.0.2.1\nlistening-ip=127.0.0.1", {"127.0.0.1": "192.0.2.1"}),
            ("external-ip=192.0.2.1/127.0.0.1\nrelay-ip=127.0.0.1", {"127.0.0.1": "192.0.2.1"}),
            (
                "external-ip=192.0.2.1/127.0.0.1\nexternal-ip=192.0.2.2/127.0.0.2\n"
                "relay-ip=127.0.0.1\nrelay-ip=127.0.0.2",
                {"127.0.0.1": "192.0.2.1", "127.0.0.2": "192.0.2.2"},
            ),
            (
                "external-ip=192.0.2.1\nexternal-ip=2001:db8::1\nrelay-ip=127.0.0.1\nrelay-ip=::1",
                {"127.0.0.1": "192.0.2.1", "::1": "2001:db8::1"},
            ),
        ],
        ids=["relay-ip", "listening-ip", "pair", "two pairs", "both versions"],
    )
    def test_both_forms(self, conf: str, public: dict[str, str], tmp_path: Path) -> None:
        conversion = converted(conf)
        assert {remark.verdict for remark in conversion.remarks} == {Verdict.CONVERTED}
        assert started(conversion, tmp_path).turn.public_addresses == public

    @pytest.mark.parametrize("conf", ["external-ip=192.0.2.1/192.0.2.1", "external-ip=::1\nrelay-ip=::1"])
    def test_an_address_mapped_to_itself_needs_nothing(self, conf: str) -> None:
        conversion = converted(conf)
        assert conversion.remarks[0].verdict is Verdict.NEEDLESS
        assert "public-addresses" not in conversion.toml

    @pytest.mark.parametrize(
        ("conf", "says"),
        [
            ("relay-ip=127.0.0.1\nrelay-ip=127.0.0.2\nexternal-ip=192.0.2.1", "cannot share"),
            ("external-ip=192.0.2.1/127.0.0.1\nexternal-ip=192.0.2.1/127.0.0.2", "already"),
            ("external-ip=192.0.2.1\nexternal-ip=192.0.2.2", "a line before"),
        ],
    )
    def test_what_is_not_one_to_one_is_not_supported(self, conf: str, says: str) -> None:
        last = converted(conf).remarks[-1]
        assert last.verdict is Verdict.UNSUPPORTED
        assert says in last.text

    @pytest.mark.parametrize("value", ["", "here", "192.0.2.1/", "192.0.2.1/eth0", "192.0.2.1/::1"])
    def test_what_is_no_address_is_wrong(self, value: str) -> None:
        assert only(f"external-ip={value}").verdict is Verdict.WRONG


class TestConverted:
    def test_a_common_file(self, tmp_path: Path) -> None:
        conversion = converted(
            "listening-port=13478\nlistening-ip=127.0.0.1\nrelay-ip=127.0.0.1\nmin-port=50000\nmax-port=50999\n"
            "realm=example.net\nuse-auth-secret\nstatic-auth-secret=0f1e2d3c4b5a69788796a5b4c3d2e1f0\n"
            "user=alice:correct horse\ntotal-quota=100\nuser-quota=5\nmax-bps=1000\nbps-capacity=9000\n"
            "stale-nonce\nno-tcp\nmobility\nno-multicast-peers\n"
        )
        config = started(conversion, tmp_path)
        assert not conversion.wrong
        assert (config.stun_port, config.listen, config.stun_tcp) == (13478, ("127.0.0.1",), False)
        turn = config.turn
        assert (turn.realm, turn.port_range, turn.nonce_lifetime) == ("example.net", (50000, 50999), 600)
        assert turn.auth_secrets == ("0f1e2d3c4b5a69788796a5b4c3d2e1f0",)
        assert dict(turn.users) == {"alice": "correct horse"}
        assert turn.rfc5766_channels
        limits = turn.limits
        assert (limits.allocations, limits.allocations_per_user) == (100, 5)
        assert (limits.bandwidth_per_user, limits.bandwidth) == (2000, 18000)

    def test_several_secrets_rotate(self, tmp_path: Path) -> None:
        one, two = "a-secret-with-enough-letters", "another-secret-of-many-letters"
        config = started(converted(f"static-auth-secret={one}\nstatic-auth-secret={two}"), tmp_path)
        assert config.turn.auth_secrets == (one, two)

    def test_what_is_allowed_wins_as_it_did(self, tmp_path: Path) -> None:
        """FAULTS 13: coturn lets an allowed entry win, natwalk a denied one: the outcome is the same."""
        conf = (
            "denied-peer-ip=198.51.0.0-198.51.255.255\nallowed-peer-ip=198.51.5.5\nallowed-peer-ip=10.0.0.5\n"
        )
        policy = started(converted(conf), tmp_path).turn.policy
        for host, allowed in (
            ("198.51.5.5", True),
            ("198.51.5.4", False),
            ("198.51.5.6", False),
            ("198.52.0.1", True),
            ("10.0.0.5", True),
            ("10.0.0.6", False),
        ):
            assert (policy.check(Address(host, 5000)) is None) is allowed, host

    def test_loopback_peers_for_tests(self, tmp_path: Path) -> None:
        policy = started(converted("allow-loopback-peers"), tmp_path).turn.policy
        assert policy.check(Address("127.0.0.9", 5000)) is None
        assert policy.check(Address("::1", 5000)) is None

    def test_stun_alone(self, tmp_path: Path) -> None:
        for conf in ("stun-only\nrelay-ip=127.0.0.1", "relay-ip=127.0.0.1\nstun-only"):
            assert started(converted(conf), tmp_path).turn.relay_addresses == ()

    def test_names_and_passwords_of_any_kind_survive_the_toml(self, tmp_path: Path) -> None:
        conf = 'user=a"b\\c:pass"word\\with # signs\nuser=ü.ß:päss wörter long enough\n'
        assert dict(started(converted(conf), tmp_path).turn.users) == {
            'a"b\\c': 'pass"word\\with # signs',
            "ü.ß": "päss wörter long enough",
        }

    def test_weak_ones_go_on_and_are_spoken_of(self, tmp_path: Path) -> None:
        conversion = converted("static-auth-secret=north\nuser=a:b")
        assert any("allow-weak-secrets" in note for note in conversion.notes)
        assert started(conversion, tmp_path).auth_secret == "north"

    def test_prometheus(self) -> None:
        assert 'listen = "127.0.0.1:9641"' in converted("prometheus").toml
        assert 'listen = "[::1]:9000"' in converted("prometheus-address=::1\nprometheus-port=9000").toml


class TestSaid:
    @pytest.mark.parametrize("key", sorted(UNSUPPORTED))
    def test_what_is_not_supported_has_a_reason_and_is_in_the_file(self, key: str) -> None:
        conversion = converted(key)
        [remark] = conversion.remarks
        assert remark.verdict is Verdict.UNSUPPORTED
        assert len(remark.text) > 25
        assert f"#   line 1, {key}: {remark.text}" in conversion.toml

    @pytest.mark.parametrize("key", sorted(NEEDLESS))
    def test_what_needs_nothing_has_a_reason(self, key: str) -> None:
        assert only(key).verdict is Verdict.NEEDLESS

    def test_a_flag_that_is_off_needs_nothing(self) -> None:
        for conf in (
            "no-auth=0",
            "server-relay=off",
            "allow-loopback-peers=false",
            "no-tcp=no",
            "stun-only=f",
        ):
            assert only(conf).verdict is Verdict.NEEDLESS, conf

    def test_fixed_values(self) -> None:
        assert only("channel-lifetime=600").verdict is Verdict.NEEDLESS
        assert only("channel-lifetime=700").verdict is Verdict.UNSUPPORTED
        assert only("rest-api-separator=:").verdict is Verdict.NEEDLESS
        assert only("stale-nonce=0").verdict is Verdict.UNSUPPORTED

    def test_an_unknown_key_and_a_line_that_is_none(self) -> None:
        assert only("lisening-port=1").verdict is Verdict.UNKNOWN
        assert only("???").verdict is Verdict.UNKNOWN

    def test_a_key_made_with_turnadmin_cannot_be_used(self) -> None:
        remark = only("user=bob:0xbc807ee29df3c9ffa736523fb2c4e8ee")
        assert remark.verdict is Verdict.UNSUPPORTED
        assert "'bob'" in remark.text

    def test_disguised_ipv4_needs_no_entry(self) -> None:
        assert only("denied-peer-ip=::ffff:10.0.0.0-::ffff:10.255.255.255").verdict is Verdict.NEEDLESS

    @pytest.mark.parametrize(
        "conf",
        [
            "denied-peer-ip=10.0.0.0-8",
            "denied-peer-ip=10.0.0.0/33",
            "allowed-peer-ip=300.1.1.1",
            "allowed-peer-ip=10.0.0.5/8",
            "denied-peer-ip=",
            "denied-peer-ip=10.0.0.9-10.0.0.1",
            "listening-port=many",
            "listening-port=70000",
            "listening-ip=eth0",
            "user=alice",
            "static-auth-secret=",
            "min-port=0",
            "total-quota=-1",
        ],
    )
    def test_a_value_that_cannot_be_is_wrong(self, conf: str) -> None:
        """FAULTS 11: a rule that means nothing is never passed over."""
        assert only(conf).verdict is Verdict.WRONG

    def test_certificates_that_are_not_here_are_left_for_later(self) -> None:
        conversion = convert(
            parse("cert=a.pem\npkey=b.pem"), tls_check=lambda cert, key: f"{cert} is no file"
        )
        assert [r.verdict for r in conversion.remarks] == [Verdict.UNSUPPORTED] * 2
        assert '# [tls]\n# cert = "a.pem"' in conversion.toml
        assert '\n[tls]\ncert = "a.pem"\nkey = "b.pem"' in converted("cert=a.pem\npkey=b.pem").toml
        assert only("cert=a.pem").verdict is Verdict.UNSUPPORTED

    def test_no_secret_is_in_a_remark_or_a_repr(self) -> None:
        """FAULTS 173."""
        conversion = converted(
            "static-auth-secret=canary-1\nuser=a:canary-2\nuser=canary-3\ncli-password=canary-4\n"
            'pkey-pwd=canary-5\npsql-userdb="password=canary-6"\ncanary-7 x?\nuser=:canary-8\n'
        )
        said = repr(conversion) + " ".join(r.text for r in conversion.remarks) + " ".join(conversion.notes)
        assert not re.findall(r"canary-[1-68]", said)

    def test_the_same_said_twice_is_one_line(self) -> None:
        [remark] = merged(converted("aux-server=1.2.3.4:5\nverbose\naux-server=1.2.3.4:6").remarks[::2])
        assert (remark.line, remark.times, remark.lines) == (1, 2, "1 (+1)")


class TestRanges:
    def test_cutting_out(self) -> None:
        assert [text(s) for s in without([span("10.0.0.0/29")], [span("10.0.0.2-10.0.0.3")])] == [
            "10.0.0.0/31",
            "10.0.0.4/30",
        ]
        assert without([span("10.0.0.0/8")], [span("0.0.0.0/0")]) == []
        assert without([span("10.0.0.0/8")], [span("::/0")]) == [span("10.0.0.0/8")]
        assert text(span("10.0.0.1")) == "10.0.0.1"
        assert text(span("2001:db8::1-2001:db8::3")) == "2001:db8::1-2001:db8::3"
