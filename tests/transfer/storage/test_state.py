"""State: private, replaced in one step, found again by the code, ignored when damaged, foreign or old."""

import os
import stat
from pathlib import Path

import msgspec
import pytest

from natwalk.transfer.storage import ReceiveState, ResumeRecord, SendState, SendStateFile, find_receive_state
from natwalk.transfer.storage.state import LIFETIME, STATE_FILE, default_state_folder, write_private

NOW = 1_800_000_000.0
RECORD = ResumeRecord("mailbox-1", b"s" * 32, "http://h:1", "7-crossover-clockwork", NOW)
STATE = SendState("a" * 32, "mailbox-1", b"s" * 32, "http://h:1", "7-x-y", NOW)


def part(output: Path, state: ReceiveState, name: str = "f.natwalk-part") -> Path:
    folder = output / name
    folder.mkdir(exist_ok=True)
    write_private(str(folder / STATE_FILE), msgspec.json.encode(state))
    return folder


def test_the_same_code_finds_its_state(tmp_path: Path) -> None:
    state = ReceiveState.new("a" * 32, "ff", RECORD, b"salt")
    part(tmp_path, state)
    found = find_receive_state(str(tmp_path), " 7-Crossover-clockwork", "http://h:1/", NOW + 5)
    assert found == state
    assert found.record("c") == ResumeRecord("mailbox-1", b"s" * 32, "http://h:1", "c", NOW)


@pytest.mark.parametrize(
    ("code", "server", "now"),
    [
        ("8-crossover-clockwork", "http://h:1", NOW),
        ("7-crossover-clockwork", "http://other:1", NOW),
        ("7-crossover-clockwork", "http://h:1", NOW + LIFETIME + 1),
        ("7-crossover-clockwork", "http://h:1", NOW - 10),
    ],
)
def test_other_codes_servers_and_times_do_not(tmp_path: Path, code: str, server: str, now: float) -> None:
    part(tmp_path, ReceiveState.new("a" * 32, "ff", RECORD, b"salt"))
    assert find_receive_state(str(tmp_path), code, server, now) is None


def test_the_file_holds_no_code_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    folder = part(tmp_path, ReceiveState.new("a" * 32, "ff", RECORD, b"salt"))
    assert b"clockwork" not in (folder / STATE_FILE).read_bytes()
    assert stat.S_IMODE((folder / STATE_FILE).stat().st_mode) == 0o600
    assert os.listdir(folder) == [STATE_FILE]
    assert "clockwork" not in repr(RECORD)
    assert "sss" not in repr(RECORD)


def test_state_without_a_way_back_is_never_found(tmp_path: Path) -> None:
    part(tmp_path, ReceiveState.new("a" * 32, "ff", None, b"salt"))
    assert find_receive_state(str(tmp_path), "", "", 0.0) is None
    assert find_receive_state(str(tmp_path / "missing"), "", "", 0.0) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b'{"transfer_id":3}', b'{"format":9}', b"[" * 60_000])
def test_damaged_state_counts_as_absent(tmp_path: Path, damage: bytes) -> None:
    folder = part(tmp_path, ReceiveState.new("a" * 32, "ff", RECORD, b"salt"))
    (folder / STATE_FILE).write_bytes(damage)
    assert find_receive_state(str(tmp_path), RECORD.code, RECORD.server, NOW) is None


def test_a_state_of_a_later_format_is_left_alone(tmp_path: Path) -> None:
    later = msgspec.structs.replace(ReceiveState.new("a" * 32, "ff", RECORD, b"salt"), format=2)
    part(tmp_path, later)
    assert find_receive_state(str(tmp_path), RECORD.code, RECORD.server, NOW) is None


def test_linked_state_is_not_followed(tmp_path: Path) -> None:
    folder = part(tmp_path, ReceiveState.new("a" * 32, "ff", RECORD, b"salt"))
    (folder / STATE_FILE).rename(tmp_path / "elsewhere")
    (folder / STATE_FILE).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link.natwalk-part").symlink_to(folder)
    assert find_receive_state(str(tmp_path), RECORD.code, RECORD.server, NOW) is None


def test_foreign_state_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part(tmp_path, ReceiveState.new("a" * 32, "ff", RECORD, b"salt"))
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert find_receive_state(str(tmp_path), RECORD.code, RECORD.server, NOW) is None


def test_the_senders_state_survives_and_is_locked_while_in_use(tmp_path: Path) -> None:
    folder = str(tmp_path / "state")
    first = SendStateFile(["a", "b"], "http://h:1/", folder)
    assert first.acquire()
    assert first.load(NOW) is None
    first.save(STATE)
    second = SendStateFile(["a", "b"], "http://h:1", folder)
    assert not second.acquire()
    first.release()
    first.release()
    assert second.acquire()
    assert second.load(NOW + 1) == STATE
    assert second.load(NOW + LIFETIME + 1) is None
    second.delete()
    second.delete()
    assert second.load(NOW) is None
    second.release()
    assert os.listdir(folder) == []
    assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700


def test_other_paths_and_servers_have_states_of_their_own(tmp_path: Path) -> None:
    folder = str(tmp_path)
    saved = SendStateFile(["a"], "http://h:1", folder)
    saved.save(STATE)
    assert SendStateFile(["a"], "http://h:2", folder).load(NOW) is None
    assert SendStateFile(["b"], "http://h:1", folder).load(NOW) is None
    assert SendStateFile([os.path.abspath("a")], "http://h:1", folder).load(NOW) == STATE


def test_the_state_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/x")
    assert default_state_folder() == "/x/natwalk/send"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert default_state_folder() == "/h/.local/state/natwalk/send"
