"""``natwalk convert-coturn`` as a user runs it: what it writes, what it says, what it refuses."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from natwalk.cli.convert_coturn import convert_coturn
from natwalk.cli.serve import serve

SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
DEBIAN = Path("/usr/share/doc/coturn/examples/etc/turnserver.conf")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(convert_coturn, [str(each) for each in arguments])


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "turnserver.conf"
    path.write_text(f"realm=example.net\nstatic-auth-secret={SECRET}\nserver-relay\nverbose\nspelling=1\n")
    return path


def test_the_file_and_the_secret_beside_it_are_private_and_pass_the_check(conf: Path, tmp_path: Path) -> None:
    out = tmp_path / "natwalk.toml"
    result = run(conf, "-o", out)
    assert result.exit_code == 0
    assert result.stdout == ""
    for path in (out, tmp_path / "turn.secret"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SECRET not in out.read_text() + result.stderr
    assert "2 settings converted, 1 need nothing, 1 not supported, 1 unknown" in result.stderr
    assert "spelling" in result.stderr
    checked = CliRunner().invoke(serve, ["--check-config", "--config", str(out)])
    assert checked.exit_code == 0, checked.stderr


def test_without_a_place_the_file_goes_to_stdout_and_the_secret_nowhere(conf: Path, tmp_path: Path) -> None:
    result = run(conf)
    assert result.exit_code == 0
    assert 'realm = "example.net"' in result.stdout
    assert SECRET not in result.stdout + result.stderr
    assert "Put the secret into turn.secret" in result.stderr
    assert not (tmp_path / "turn.secret").exists()


def test_what_is_there_is_not_replaced_unasked(conf: Path, tmp_path: Path) -> None:
    (tmp_path / "turn.secret").write_text("mine")
    result = run(conf, "-o", tmp_path / "natwalk.toml")
    assert result.exit_code == 1
    assert "turn.secret is there already" in result.stderr
    assert (tmp_path / "turn.secret").read_text() == "mine"
    assert not (tmp_path / "natwalk.toml").exists()
    assert run(conf, "-o", tmp_path / "natwalk.toml", "--force").exit_code == 0
    assert (tmp_path / "turn.secret").read_text() == f"{SECRET}\n"


def test_a_wrong_value_writes_nothing(conf: Path, tmp_path: Path) -> None:
    """FAULTS 11."""
    conf.write_text("denied-peer-ip=10.0.0.0-8\n")
    result = run(conf, "-o", tmp_path / "natwalk.toml")
    assert result.exit_code == 78
    assert "line 1, denied-peer-ip: '8' does not appear to be an IPv4 or IPv6 address" in result.stderr
    assert not (tmp_path / "natwalk.toml").exists()


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    result = run(tmp_path / "none.conf")
    assert result.exit_code == 1
    assert "No such file" in result.stderr
    (tmp_path / "binary.conf").write_bytes(b"\xff\xfe\x00")
    assert run(tmp_path / "binary.conf").exit_code == 78


def test_quiet_says_only_what_is_missing(conf: Path) -> None:
    result = run(conf, "--quiet")
    assert "Not supported:" in result.stderr
    assert "Converted:" not in result.stderr


@pytest.mark.skipif(not DEBIAN.exists(), reason="Debian's coturn is not installed")
def test_debians_file_converts_and_passes_the_check(tmp_path: Path) -> None:
    out = tmp_path / "natwalk.toml"
    assert run(DEBIAN, "-o", out).exit_code == 0
    assert CliRunner().invoke(serve, ["--check-config", "--config", str(out)]).exit_code == 0
