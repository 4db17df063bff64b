"""Settings of coturn in, a ``natwalk.toml`` and a remark for each setting out; reads and writes no file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import ip_address
from typing import Final

from natwalk.server.coturn import ranges
from natwalk.server.coturn.keys import NEEDLESS, UNSUPPORTED, VALUES
from natwalk.server.coturn.parse import Setting
from natwalk.server.coturn.toml import TomlValue, tables
from natwalk.server.secret import SHORTEST_PASSWORD, SHORTEST_SECRET, is_weak
from natwalk.turn import PeerPolicy

SECRET_FILE: Final = "turn.secret"  # noqa: S105
_TlsCheck = Callable[[str, str], str | None]


class Verdict(Enum):
    """What became of a setting."""

    CONVERTED = "converted"
    NEEDLESS = "needs nothing"
    UNSUPPORTED = "not supported"
    UNKNOWN = "unknown"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Remark:
    """What is said of one line; ``text`` never repeats a value that may be a secret."""

    line: int
    key: str
    verdict: Verdict
    text: str
    times: int = 1
    """On how many lines the same is said."""

    @property
    def lines(self) -> str:
        """The line, and how many more there are like it."""
        return str(self.line) if self.times == 1 else f"{self.line} (+{self.times - 1})"


def merged(remarks: Iterable[Remark]) -> list[Remark]:
    """``remarks`` with those that say the same of the same key made one, at the first of their lines."""
    found: dict[tuple[str, Verdict, str], Remark] = {}
    for each in remarks:
        known = found.get((each.key, each.verdict, each.text))
        first = each if known is None else replace(known, times=known.times + 1)
        found[each.key, each.verdict, each.text] = first
    return list(found.values())


@dataclass(slots=True)
class Conversion:
    """The outcome: the TOML, the remarks in the order of the lines, and secret files to write beside it."""

    remarks: list[Remark] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    """Name of a file: the TURN REST secret that goes into it."""
    users: dict[str, str] = field(default_factory=dict, repr=False)
    toml: str = field(default="", repr=False)

    @property
    def wrong(self) -> list[Remark]:
        """Settings whose value cannot be; with any of these there is no ``toml`` to rely on."""
        return [remark for remark in self.remarks if remark.verdict is Verdict.WRONG]


def convert(settings: Iterable[Setting], *, tls_check: _TlsCheck = lambda cert, key: None) -> Conversion:
    """Convert ``settings``; ``tls_check`` says of two paths why they cannot be used, or None."""
    converter = _Converter(tls_check)
    for setting in settings:
        converter.take(setting)
    return converter.finish()


class _Converter:
    """Collects keys of natwalk.toml, setting by setting."""

    def __init__(self, tls_check: _TlsCheck) -> None:
        self.out = Conversion()
        self._tls_check = tls_check
        self._keys: dict[str, TomlValue] = {"turn.channels": "rfc5766"}
        self._allowed: list[tuple[Setting, ranges.Span]] = []
        self._denied: list[tuple[Setting, ranges.Span]] = []
        self._ports: dict[str, int] = {}
        self._public: dict[str, tuple[str, Setting]] = {}
        self._files: dict[str, Setting] = {}
        self._bps: Setting | None = None
        self._stun_only = False

    def take(self, setting: Setting) -> None:
        """Convert one setting, or say why it is not."""
        key = setting.key
        if not key:
            self._say(setting, Verdict.UNKNOWN, "this line is no key with a value: correct or remove it")
        elif handler := _HANDLERS.get(key):
            try:
                handler(self, setting)
            except ValueError as error:
                self._say(setting, Verdict.WRONG, f"{error}: correct it")
        elif key in VALUES:
            self._one_value(setting)
        elif key in UNSUPPORTED and not (setting.is_off and setting.value):
            self._say(setting, Verdict.UNSUPPORTED, UNSUPPORTED[key])
        elif key in NEEDLESS or key in UNSUPPORTED:
            self._say(setting, Verdict.NEEDLESS, NEEDLESS.get(key, "it is off, as natwalk has it"))
        else:
            self._say(
                setting, Verdict.UNKNOWN, "coturn documents no such key: check its spelling, or remove it"
            )

    def finish(self) -> Conversion:
        """Put together what needs more than one line, and write the TOML."""
        self._finish_ports()
        self._finish_public()
        self._finish_tls()
        self._finish_peers()
        if self._stun_only:
            self._keys["turn.relay-addresses"] = []
        if self._bps is not None:
            self._keys["turn.limits.bandwidth-per-user"] = 2 * int(self._bps.value)
        if any(is_weak(secret, SHORTEST_SECRET) for secret in self.out.secrets.values()) or any(
            is_weak(password, SHORTEST_PASSWORD) or password == name
            for name, password in self.out.users.items()
        ):
            self._keys["turn.allow-weak-secrets"] = True
            self.out.notes.append(
                "a secret or a password is well known or short, so whoever sees one request can guess it: "
                "replace it, then remove allow-weak-secrets"
            )
        names = list(self.out.secrets)
        if names:
            self._keys["turn.auth-secret-file"] = names[0]
        if names[1:]:
            self._keys["turn.auth-secret-files"] = names[1:]
        self.out.notes += _NOTES
        self.out.remarks.sort(key=lambda remark: remark.line)
        self.out.toml = _toml(self._keys, self.out)
        return self.out

    # what the handlers share

    def _say(self, setting: Setting, verdict: Verdict, text: str) -> None:
        self.out.remarks.append(Remark(setting.line, setting.key or "(no key)", verdict, text))

    def _set(self, setting: Setting, key: str, value: TomlValue, remark: str = "") -> None:
        self._keys[key] = value
        self._say(setting, Verdict.CONVERTED, f"{key}{': ' + remark if remark else ''}")

    def _append(self, setting: Setting, key: str, value: str) -> None:
        values = self._keys.setdefault(key, [])
        assert isinstance(values, list)
        if value not in values:
            values.append(value)
        self._say(setting, Verdict.CONVERTED, key)

    def _one_value(self, setting: Setting) -> None:
        ours, reason = VALUES[setting.key]
        same = setting.value in {ours, ""}
        self._say(setting, Verdict.NEEDLESS if same else Verdict.UNSUPPORTED, reason)

    # handlers, one a kind of key

    def port(self, setting: Setting) -> None:
        number = _number(setting, 0, 65535)
        if number or setting.key != "alt-listening-port":
            self._set(setting, _PORTS[setting.key], number)
        else:
            self._say(setting, Verdict.NEEDLESS, "the port after the first one is what natwalk uses, too")

    def address(self, setting: Setting) -> None:
        key = "server.listen" if setting.key == "listening-ip" else "turn.relay-addresses"
        self._append(setting, key, str(ip_address(setting.value)))

    def external(self, setting: Setting) -> None:
        public, slash, private = setting.value.partition("/")
        told = ip_address(public.strip())
        bound = ip_address(private.strip()) if slash else ip_address("::" if told.version == 6 else 0)
        if bound.version != told.version:
            raise ValueError("the two addresses are not of one IP version")
        if str(bound) in self._public:
            self._say(setting, Verdict.UNSUPPORTED, "a line before gives this address another one")
        else:
            self._public[str(bound)] = (str(told), setting)

    def relay_port(self, setting: Setting) -> None:
        self._ports[setting.key] = _number(setting, 1, 65535)
        self._say(setting, Verdict.CONVERTED, "turn.relay-ports")

    def realm(self, setting: Setting) -> None:
        if setting.value:
            self._set(setting, "server.realm", setting.value)
        else:
            self._say(setting, Verdict.NEEDLESS, "without a name the realm is natwalk")

    def server_name(self, setting: Setting) -> None:
        self._set(setting, "turn.third-party-authorization", setting.value, "used with [[turn.oauth-keys]]")

    def secret(self, setting: Setting) -> None:
        if not setting.value:
            raise ValueError("the secret is empty")
        number = len(self.out.secrets) + 1
        name = SECRET_FILE if number == 1 else f"turn-{number}.secret"
        self.out.secrets[name] = setting.value
        self._say(setting, Verdict.CONVERTED, f"the secret goes into the file {name}")

    def user(self, setting: Setting) -> None:
        name, colon, password = setting.value.partition(":")
        if not colon or not name or not password:
            raise ValueError("it is not user=NAME:PASSWORD")
        if password.startswith("0x") and len(password) in {34, 66}:
            self._say(
                setting,
                Verdict.UNSUPPORTED,
                f"the user {name!r} has a key instead of a password, which SHA-256 cannot be made of: put "
                "the password itself into turn.users or turn.users-file",
            )
            return
        self.out.users[name] = password
        self._say(setting, Verdict.CONVERTED, f"turn.users: {name!r}")

    def quota(self, setting: Setting) -> None:
        number = _number(setting, 0, 2**31)
        key = _QUOTAS[setting.key]
        if number:
            self._set(setting, key, min(number, 1_000_000))
        else:
            self._say(setting, Verdict.NEEDLESS, f"natwalk has always a limit; {key} changes it")

    def bandwidth(self, setting: Setting) -> None:
        number = _number(setting, 0, 2**60)
        if not number:
            self._say(setting, Verdict.NEEDLESS, "without a key there is no limit")
        elif setting.key == "bps-capacity":
            self._set(
                setting, "turn.limits.bandwidth", 2 * number, "both directions together, so twice as much"
            )
        else:
            self._bps = setting
            self._say(
                setting,
                Verdict.CONVERTED,
                "turn.limits.bandwidth-per-user: both directions together, so twice as much, and for all "
                "allocations of a user, so raise it when users have several",
            )

    def off_switch(self, setting: Setting) -> None:
        key = _OFF_SWITCHES[setting.key]
        if setting.is_off and setting.value:
            self._say(
                setting, Verdict.NEEDLESS, f"{key} is on by itself" if key != "turn.tcp-relays" else _TCP
            )
        else:
            self._set(setting, key, False)

    def switch(self, setting: Setting) -> None:
        self._set(setting, _SWITCHES[setting.key], not (setting.is_off and setting.value))

    def stun_only(self, setting: Setting) -> None:
        if setting.is_off and setting.value:
            self._say(setting, Verdict.NEEDLESS, "it is off, as natwalk has it")
        else:
            self._stun_only = True
            self._say(setting, Verdict.CONVERTED, "turn.relay-addresses is empty: no relays, so STUN alone")

    def nonce(self, setting: Setting) -> None:
        number = _number(setting, 0, 10_000_000) if setting.value else 600
        if number:
            self._set(setting, "turn.nonce-lifetime", number)
        else:
            self._say(setting, Verdict.UNSUPPORTED, "a nonce always ends; the default is 600 seconds")

    def tls_file(self, setting: Setting) -> None:
        self._files[setting.key] = setting

    def log_level(self, setting: Setting) -> None:
        self._set(setting, "log.level", "debug")

    def prometheus(self, setting: Setting) -> None:
        self._keys.setdefault("metrics.listen", "127.0.0.1:9641")
        host, _, port = str(self._keys["metrics.listen"]).rpartition(":")
        match setting.key:
            case "prometheus-port":
                port = str(_number(setting, 1, 65535))
            case "prometheus-address":
                ip = ip_address(setting.value)
                host = f"[{ip}]" if ip.version == 6 else str(ip)
        self._set(
            setting,
            "metrics.listen",
            f"{host}:{port}",
            "metrics.allow names who may read it, this machine alone by default",
        )

    def loopback(self, setting: Setting) -> None:
        if setting.is_off and setting.value:
            self._say(setting, Verdict.NEEDLESS, "loopback peers are refused by default")
            return
        for entry in ("127.0.0.0/8", "::1"):
            self._allowed.append((setting, ranges.span(entry)))
        self._say(setting, Verdict.CONVERTED, "turn.peers.allow: for tests only")

    def peers(self, setting: Setting) -> None:
        entry = setting.value
        each = ranges.span(entry)
        try:
            PeerPolicy([entry])
        except ValueError:
            self._say(
                setting,
                Verdict.NEEDLESS,
                "an IPv4 address is judged the same in whatever IPv6 address it is written",
            )
            return
        (self._allowed if setting.key == "allowed-peer-ip" else self._denied).append((setting, each))
        self._say(setting, Verdict.CONVERTED, f"turn.peers.{'allow' if 'allow' in setting.key else 'deny'}")

    # what needs more than one line

    def _finish_ports(self) -> None:
        if self._ports:
            low = max(self._ports.get("min-port", 49152), 1024)
            self._keys["turn.relay-ports"] = f"{low}-{self._ports.get('max-port', 65535)}"

    def _finish_public(self) -> None:
        relays = self._keys.get("turn.relay-addresses") or self._keys.get("server.listen", [])
        assert isinstance(relays, list)
        mapped: dict[str, str] = {}
        for bound, (told, setting) in self._public.items():
            version = ip_address(told).version
            mine = [host for host in relays if ip_address(host).version == version]
            if told == bound or (ip_address(bound).is_unspecified and mine == [told]):
                self._say(setting, Verdict.NEEDLESS, "relays are bound to this address itself")
            elif ip_address(bound).is_unspecified and len(mine) > 1:
                self._say(
                    setting,
                    Verdict.UNSUPPORTED,
                    "several relay addresses cannot share one public address: write each with its own in "
                    "server.public-addresses",
                )
            elif told in mapped.values():
                self._say(setting, Verdict.UNSUPPORTED, "another address has this public address already")
            else:
                mapped[bound] = told
                self._say(setting, Verdict.CONVERTED, "server.public-addresses")
        if mapped:
            self._keys["server.public-addresses"] = mapped

    def _finish_tls(self) -> None:
        cert, key = self._files.get("cert"), self._files.get("pkey")
        for setting, name, other in ((cert, "cert", key), (key, "key", cert)):
            if setting is None:
                continue
            if not setting.value:
                self._say(setting, Verdict.WRONG, "the name of the file is missing: add it")
            elif other is None:
                self._say(
                    setting,
                    Verdict.UNSUPPORTED,
                    "a certificate and its key are needed both (cert and pkey): no TLS",
                )
            elif reason := self._tls_check(other.value if name == "key" else setting.value, _key(key)):
                self._say(
                    setting, Verdict.UNSUPPORTED, f"{reason}: put it in place, then take the # from [tls]"
                )
            else:
                self._say(setting, Verdict.CONVERTED, f"tls.{name}")
        if cert is not None and key is not None and cert.value and key.value:
            usable = self._tls_check(cert.value, key.value) is None
            prefix = "tls" if usable else "#tls"
            self._keys |= {f"{prefix}.cert": cert.value, f"{prefix}.key": key.value}

    def _finish_peers(self) -> None:
        allowed = [each for _, each in self._allowed]
        denied = ranges.without([each for _, each in self._denied], allowed)
        if allowed:
            self._keys["turn.peers.allow"] = [ranges.text(each) for each in dict.fromkeys(allowed)]
        if denied:
            self._keys["turn.peers.deny"] = [ranges.text(each) for each in dict.fromkeys(denied)]


def _key(setting: Setting | None) -> str:
    return "" if setting is None else setting.value


def _number(setting: Setting, low: int, high: int) -> int:
    if not setting.value.isascii() or not setting.value.isdigit() or not low <= int(setting.value) <= high:
        raise ValueError(f"{setting.value[:40]!r} is not a number from {low} to {high}")
    return int(setting.value)


_TCP: Final = "TCP relays are off by default: turn.tcp-relays = true turns them on"
_PORTS: Final = {
    "listening-port": "stun.port",
    "tls-listening-port": "stun.tls-port",
    "alt-listening-port": "stun.alternate-port",
}
_QUOTAS: Final = {
    "user-quota": "turn.limits.allocations-per-user",
    "total-quota": "turn.limits.allocations",
}
_OFF_SWITCHES: Final = {
    "no-tcp": "stun.tcp",
    "no-tls": "turn.tls",
    "no-dtls": "turn.dtls",
    "no-tcp-relay": "turn.tcp-relays",
}
_SWITCHES: Final = {"mobility": "turn.mobility", "software-attribute": "turn.software"}
_HANDLERS: Final[dict[str, Callable[[_Converter, Setting], None]]] = {
    **dict.fromkeys(_PORTS, _Converter.port),
    **dict.fromkeys(("listening-ip", "relay-ip"), _Converter.address),
    **dict.fromkeys(("min-port", "max-port"), _Converter.relay_port),
    **dict.fromkeys(_QUOTAS, _Converter.quota),
    **dict.fromkeys(("max-bps", "bps-capacity"), _Converter.bandwidth),
    **dict.fromkeys(_OFF_SWITCHES, _Converter.off_switch),
    **dict.fromkeys(_SWITCHES, _Converter.switch),
    **dict.fromkeys(("cert", "pkey"), _Converter.tls_file),
    **dict.fromkeys(("prometheus", "prometheus-port", "prometheus-address"), _Converter.prometheus),
    **dict.fromkeys(("allowed-peer-ip", "denied-peer-ip"), _Converter.peers),
    "realm": _Converter.realm,
    "server-name": _Converter.server_name,
    "external-ip": _Converter.external,
    "static-auth-secret": _Converter.secret,
    "user": _Converter.user,
    "stun-only": _Converter.stun_only,
    "stale-nonce": _Converter.nonce,
    "Verbose": _Converter.log_level,
    "allow-loopback-peers": _Converter.loopback,
}
KNOWN: Final = frozenset({*_HANDLERS, *NEEDLESS, *UNSUPPORTED, *VALUES})
"""Every key that is converted or spoken of."""

_NOTES: Final = [
    "channel numbers up to 0x7FFF are taken, as old clients choose them; remove turn.channels when yours "
    "know RFC 8656",
    "coturn relays to private networks unless they are denied, natwalk only when turn.peers.allow names them",
    f"{_TCP} (coturn has them on)",
]


def _toml(keys: dict[str, TomlValue], out: Conversion) -> str:
    """The file: tables in the order of the reference, what is not supported said at its head."""
    lines = ["# Made from a turnserver.conf by natwalk convert-coturn."]
    missing = [r for r in out.remarks if r.verdict in {Verdict.UNSUPPORTED, Verdict.UNKNOWN}]
    if missing:
        lines += ["#", "# Not converted:"]
        lines += [f"#   line {r.lines}, {r.key}: {r.text}" for r in merged(missing)]
    return "\n".join([*lines, *tables(keys, out.users)]) + "\n"
