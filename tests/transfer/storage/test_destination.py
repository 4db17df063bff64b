"""The receiving disk: partial files of its own, hashes before names, and every way a disk can refuse."""

import errno
import hashlib
import os
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from natwalk.transfer import (
    Entry,
    EntryKind,
    FailureKind,
    FileBegun,
    FileData,
    FileDone,
    FileOmitted,
    Have,
    Offer,
    TransferError,
)
from natwalk.transfer.storage import Destination, Outcome, ReceiveState
from natwalk.transfer.storage import destination as module

ID = "a" * 32
OFFER = Offer(
    ID,
    (
        Entry("d", EntryKind.FOLDER, 0, 0o750, 10**18),
        Entry("d/a", size=3, mode=0o640, mtime_ns=1_234_567_890_123_456_789),
        Entry("d/run", size=0, mode=0o755),
        Entry("top", size=5, mode=0o400),
    ),
)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


WHOLE = [
    FileBegun(1, 0),
    FileData(b"aa"),
    FileData(memoryview(b"a")),
    FileDone(sha(b"aaa")),
    FileBegun(2, 0),
    FileDone(sha(b"")),
    FileBegun(3, 0),
    FileData(b"bbbbb"),
    FileDone(sha(b"bbbbb")),
]


def opened(output: Path, offer: Offer = OFFER) -> Destination:
    destination = Destination.open(str(output), offer)
    while not destination.check_held(1):
        pass
    destination.prepare()
    return destination


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_everything_lands_under_its_name_with_mode_and_time(tmp_path: Path) -> None:
    output = tmp_path / "new" / "out"
    destination = opened(output)
    destination.apply(WHOLE)
    assert os.listdir(output) == ["d.natwalk-part"]
    placed = destination.place()
    destination.close()
    assert [(p.saved_as, p.outcome) for p in placed] == [("d", Outcome.NEW), ("top", Outcome.NEW)]
    assert sorted(os.listdir(output)) == ["d", "top"]
    assert (output / "d/a").read_bytes() == b"aaa"
    assert (output / "d/a").stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert (output / "d").stat().st_mtime_ns == 10**18
    modes = [stat.S_IMODE((output / p).stat().st_mode) for p in ("d", "d/a", "d/run", "top")]
    assert modes == [0o750, 0o640, 0o755, 0o400]


def test_partial_files_are_private_and_survive_for_the_same_transfer(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.save_state(ReceiveState.new(ID, OFFER.fingerprint(), None, b""))
    first.apply(WHOLE[:2])
    first.close()
    part = tmp_path / "d.natwalk-part"
    assert stat.S_IMODE(part.stat().st_mode) == 0o700
    assert stat.S_IMODE((part / "state.json").stat().st_mode) == 0o600

    second = opened(tmp_path)
    assert second.agreed == OFFER.fingerprint()
    assert second.have == {1: Have(2, sha(b"aa"))}
    second.apply([FileBegun(1, 2), *WHOLE[2:]])
    second.place()
    second.close()
    assert (tmp_path / "d/a").read_bytes() == b"aaa"
    assert not part.exists()


def test_another_transfer_of_the_same_name_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.save_state(ReceiveState.new(ID, "", None, b""))
    other = opened(tmp_path, Offer("b" * 32, OFFER.entries))
    assert sorted(os.listdir(tmp_path)) == ["d (1).natwalk-part", "d.natwalk-part"]
    other.discard()
    other.close()
    first.close()
    assert os.listdir(tmp_path) == ["d.natwalk-part"]


def test_two_receivers_of_one_transfer_do_not_mix(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.save_state(ReceiveState.new(ID, "", None, b""))
    with pytest.raises(TransferError, match="right now"):
        Destination.open(str(tmp_path), OFFER)
    first.close()


def test_a_planted_folder_or_link_is_not_used(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    output = tmp_path / "out"
    output.mkdir()
    (output / "d.natwalk-part").symlink_to(outside)
    destination = opened(output)
    destination.apply(WHOLE)
    destination.place()
    destination.close()
    assert os.listdir(outside) == []
    assert (output / "d/a").exists()


def test_links_planted_while_receiving_stop_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    destination = Destination.open(str(tmp_path / "out"), OFFER)
    (tmp_path / "out/d.natwalk-part/data/d").symlink_to(outside)
    with pytest.raises(TransferError, match="symbolic link") as caught:
        destination.prepare()
    assert caught.value.kind is FailureKind.STORAGE
    with pytest.raises(TransferError, match="symbolic link"):
        destination.apply(WHOLE)
    destination.close()
    assert os.listdir(outside) == []


def test_existing_names_are_reported_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "top").write_bytes(b"mine!")
    destination = opened(tmp_path)
    assert destination.conflicts() == ("top",)
    destination.apply(WHOLE)
    placed = destination.place()
    destination.close()
    assert placed[1].saved_as == "top (1)"
    assert (tmp_path / "top").read_bytes() == b"mine!"


def test_a_wrong_hash_keeps_nothing(tmp_path: Path) -> None:
    destination = opened(tmp_path)
    destination.save_state(ReceiveState.new(ID, "", None, b""))
    with pytest.raises(TransferError, match="damaged") as caught:
        destination.apply([FileBegun(1, 0), FileData(b"xyz"), FileDone(sha(b"aaa"))])
    assert caught.value.kind is FailureKind.INTEGRITY
    destination.close()
    again = opened(tmp_path)
    assert again.have == {}
    again.close()


def test_an_omitted_file_leaves_nothing_and_the_rest_is_kept(tmp_path: Path) -> None:
    destination = opened(tmp_path)
    destination.apply([*WHOLE[:6], FileBegun(3, 0), FileData(b"bb"), FileOmitted(3, "changed")])
    placed = destination.place()
    destination.close()
    assert [p.name for p in placed] == ["d"]
    assert os.listdir(tmp_path) == ["d"]


def test_an_omitted_file_that_never_began_is_harmless(tmp_path: Path) -> None:
    destination = opened(tmp_path)
    destination.apply([FileOmitted(1, "gone")])
    destination.close()


def test_a_partial_file_longer_than_offered_is_not_counted(tmp_path: Path) -> None:
    destination = opened(tmp_path)
    destination.save_state(ReceiveState.new(ID, "", None, b""))
    destination.close()
    (tmp_path / "d.natwalk-part/data/top").write_bytes(b"b" * 50)
    again = opened(tmp_path)
    assert again.have == {}
    again.apply(WHOLE)
    again.place()
    again.close()
    assert (tmp_path / "top").read_bytes() == b"bbbbb"


def test_a_restart_from_zero_forgets_the_prefix(tmp_path: Path) -> None:
    destination = opened(tmp_path)
    destination.save_state(ReceiveState.new(ID, "", None, b""))
    destination.close()
    (tmp_path / "d.natwalk-part/data/top").write_bytes(b"zzz")
    again = opened(tmp_path)
    assert 3 in again.have
    again.apply(WHOLE)
    again.place()
    again.close()
    assert (tmp_path / "top").read_bytes() == b"bbbbb"


def test_a_disk_too_small_is_known_before_the_first_byte(tmp_path: Path) -> None:
    destination = Destination.open(str(tmp_path), Offer(ID, (Entry("huge", size=2**60),)))
    with pytest.raises(TransferError, match=r"disk is full: \d+ bytes are needed, \d+ are free"):
        destination.prepare()
    destination.discard()
    destination.close()
    assert os.listdir(tmp_path) == []


def test_a_disk_that_fills_up_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    destination = opened(tmp_path)
    destination.save_state(ReceiveState.new(ID, "", None, b""))
    real, writes = os.write, iter([3, errno.ENOSPC])

    def tight(fd: int, buffers: Sequence[memoryview]) -> int:
        step = next(writes)
        if step == errno.ENOSPC:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, b"".join(buffers)[:step])

    monkeypatch.setattr(module.os, "writev", tight)
    with pytest.raises(TransferError, match=r"disk is full \(top\)"):
        destination.apply([FileBegun(3, 0), FileData(b"bbbbb")])
    destination.close()
    monkeypatch.undo()
    again = opened(tmp_path)
    assert again.have[3] == Have(3, sha(b"bbb"))
    again.close()


def test_a_disk_that_writes_nothing_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    destination = opened(tmp_path)
    monkeypatch.setattr(module.os, "writev", lambda fd, buffers: 0)
    with pytest.raises(TransferError, match="full"):
        destination.apply([FileBegun(3, 0), FileData(b"bbbbb")])
    destination.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_real_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=True)
    destination = opened(disk, Offer(ID, (Entry("f", size=100_000),)))
    try:
        filler = disk / "filler"
        with pytest.raises(OSError, match="space"):
            filler.write_bytes(bytes(300_000))
        with pytest.raises(TransferError, match="disk is full"):
            destination.apply([FileBegun(0, 0), FileData(bytes(100_000))])
        with pytest.raises(TransferError, match="disk is full"):
            destination.prepare()
        filler.unlink()
        destination.apply([FileBegun(0, 0), FileData(bytes(100_000)), FileDone(sha(bytes(100_000)))])
        destination.place()
        assert os.listdir(disk) == ["f"]
    finally:
        destination.close()
        subprocess.run(["umount", disk], check=True)


def test_an_output_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TransferError, match="cannot write"):
        Destination.open(str(tmp_path / "file"), OFFER)


def test_too_many_unfinished_transfers_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_STAGES", 2)
    for name in ("d.natwalk-part", "d (1).natwalk-part"):
        (tmp_path / name).mkdir()
    with pytest.raises(TransferError, match="in the way"):
        Destination.open(str(tmp_path), OFFER)


def test_errors_of_the_disk_become_errors_of_the_transfer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = opened(tmp_path)
    destination.apply(WHOLE)

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_private", broken)
        with pytest.raises(TransferError, match="output error"):
            destination.save_state(ReceiveState.new(ID, "", None, b""))
    with monkeypatch.context() as patch:
        patch.setattr(module, "remove_tree", broken)
        with pytest.raises(TransferError, match="output error"):
            destination.discard()
    with monkeypatch.context() as patch:
        patch.setattr(module, "place", broken)
        with pytest.raises(TransferError, match="output error"):
            destination.place()
    destination.close()


def test_a_long_name_leaves_room_for_the_suffix(tmp_path: Path) -> None:
    destination = opened(tmp_path, Offer(ID, (Entry("é" * 127, size=0),)))
    destination.apply([FileBegun(0, 0), FileDone(sha(b""))])
    destination.place()
    destination.close()
    assert os.listdir(tmp_path) == ["é" * 127]


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_pieces_written_in_part_arrive_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """A writev may stop anywhere, also inside a buffer."""
    content = bytes(range(100))
    destination = opened(tmp_path, Offer(ID, (Entry("f", size=100),)))
    real = os.write
    monkeypatch.setattr(module.os, "writev", lambda fd, buffers: real(fd, b"".join(buffers)[:step]))
    pieces = [FileData(content[at : at + 9]) for at in range(0, 100, 9)]
    destination.apply([FileBegun(0, 0), *pieces, FileDone(sha(content))])
    destination.place()
    destination.close()
    assert (tmp_path / "f").read_bytes() == content
