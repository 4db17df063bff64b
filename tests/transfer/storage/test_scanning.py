"""Scanning: what is offered of a real tree, what is left out and said, what is an error before connecting."""

import os
import socket
from pathlib import Path

import pytest

from natwalk.transfer import EntryKind, FailureKind, TransferError, check_path
from natwalk.transfer.storage import scan
from natwalk.transfer.storage import scanning as module

ID = "a" * 32


def test_a_tree_is_offered_in_order_with_sizes_and_modes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "b.txt").write_bytes(b"12345")
    (tree / "sub" / "a").write_bytes(b"")
    (tree / "b.txt").chmod(0o4751)
    source = scan([tree], ID)
    assert [(e.path, e.kind, e.size) for e in source.offer.entries] == [
        ("tree", EntryKind.FOLDER, 0),
        ("tree/b.txt", EntryKind.FILE, 5),
        ("tree/sub", EntryKind.FOLDER, 0),
        ("tree/sub/a", EntryKind.FILE, 0),
    ]
    assert source.offer.entries[1].mode == 0o751
    assert source.files[1] == str(tree / "b.txt")
    assert source.notices == ()


def test_links_and_special_files_inside_are_left_out_and_said(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "real").write_bytes(b"x")
    (tree / "link").symlink_to("/etc/passwd")
    (tree / "loop").symlink_to(".")
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tree / "sock"))
        source = scan([str(tree)], ID)
    assert [e.path for e in source.offer.entries] == ["tree", "tree/real"]
    assert sum("symbolic link" in n for n in source.notices) == 2
    assert sum("neither a file nor a folder" in n for n in source.notices) == 2


def test_a_link_the_user_names_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"data")
    (tmp_path / "link").symlink_to("real")
    source = scan([tmp_path / "link"], ID)
    assert (source.offer.entries[0].path, source.offer.entries[0].size) == ("link", 4)
    assert source.files == (str(tmp_path / "real"),)


def test_equal_names_from_different_folders_get_numbers(tmp_path: Path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text(folder)
    source = scan([tmp_path / "a" / "x.txt", tmp_path / "b" / "x.txt"], ID)
    assert [e.path for e in source.offer.entries] == ["x.txt", "x (1).txt"]


def test_unsafe_local_names_are_sent_under_safe_ones(tmp_path: Path) -> None:
    evil = [b"a\x1b[2J", b"a\nb", b"back\\slash", b"C:x", b"\xff\xfe", b"a_[2J"]
    for name in evil:
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    source = scan([tmp_path], ID)
    paths = [e.path for e in source.offer.entries]
    for path in paths:
        check_path(path)
    assert len(set(paths)) == 7
    assert len(source.notices) == 5
    assert all(n.isprintable() for n in source.notices)
    assert any("\\x1b" in n for n in source.notices)


@pytest.mark.parametrize("name", ["missing", "fifo"])
def test_what_cannot_be_sent_at_all_is_an_error(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(TransferError, match=name) as caught:
        scan([tmp_path / name], ID)
    assert caught.value.kind is FailureKind.SOURCE


def test_the_root_folder_and_nothing_are_errors() -> None:
    with pytest.raises(TransferError, match="no name"):
        scan(["/"], ID)
    with pytest.raises(TransferError, match="nothing to send"):
        scan([], ID)


def test_unreadable_files_are_named_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(5):
        (tmp_path / f"f{n}").write_bytes(b"x")
    real = os.access
    monkeypatch.setattr(
        module.os, "access", lambda path, mode: real(path, mode) and Path(path).name[0] != "f"
    )
    with pytest.raises(TransferError, match=r"cannot read .*f0: permission denied.* and 2 more"):
        scan([tmp_path], ID)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(module.os, "listdir", fail)
    with pytest.raises(TransferError, match="Permission denied"):
        scan([tmp_path], ID)


def test_a_file_that_vanishes_while_scanning_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").write_bytes(b"")
    monkeypatch.setattr(module.os, "listdir", lambda path: ["here", "gone"])
    with pytest.raises(TransferError, match="gone: No such file"):
        scan([tmp_path], ID)


def test_too_many_files_and_too_deep_folders_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "deep"
    (deep / "/".join(["d"] * 140)).mkdir(parents=True)
    with pytest.raises(TransferError, match="deeper"):
        scan([deep], ID)
    many = tmp_path / "many"
    many.mkdir()
    for n in range(5):
        (many / f"{n}").write_bytes(b"")
    monkeypatch.setattr(module, "MAX_ENTRIES", 5)
    with pytest.raises(TransferError, match="archive"):
        scan([many], ID)
