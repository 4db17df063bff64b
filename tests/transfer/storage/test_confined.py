"""Confinement: nothing opened below a folder leads out of it, whatever was planted there."""

import errno
import os
from pathlib import Path

import pytest

from natwalk.core import MalformedMessage
from natwalk.transfer.storage.confined import Confined, lstat, remove_tree, storage_error

WRITE = os.O_WRONLY | os.O_CREAT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_files_are_made_with_their_folders(root: Path) -> None:
    confined = Confined.root(str(root))
    fd = confined.open_file("a/b/c.txt", WRITE, make_parents=True)
    os.write(fd, b"x")
    os.close(fd)
    confined.close()
    assert (root / "a/b/c.txt").read_bytes() == b"x"


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", ""])
def test_paths_that_leave_are_refused_here_too(root: Path, path: str) -> None:
    confined = Confined.root(str(root))
    with pytest.raises(MalformedMessage):
        confined.open_file(path, WRITE, make_parents=True)
    confined.close()


def test_a_link_in_the_way_is_an_error_not_a_road(root: Path) -> None:
    (root / "link").symlink_to("../outside")
    (root / "file").symlink_to("../outside/file")
    confined = Confined.root(str(root))
    for path in ("link/x", "link/y/x", "file"):
        with pytest.raises(OSError) as caught:
            confined.open_file(path, WRITE, make_parents=True)
        assert caught.value.errno in (errno.ELOOP, errno.ENOTDIR)
    confined.close()
    assert os.listdir(root.parent / "outside") == []


def test_only_regular_files_are_opened(root: Path) -> None:
    os.mkfifo(root / "fifo")
    (root / "folder").mkdir()
    confined = Confined.root(str(root))
    for path in ("fifo", "folder"):
        with pytest.raises(OSError):
            confined.open_file(path, os.O_RDONLY)
    confined.close()


def test_many_folders_do_not_keep_many_descriptors(root: Path) -> None:
    confined = Confined.root(str(root))
    before = len(os.listdir("/proc/self/fd"))
    for n in range(100):
        os.close(confined.open_file(f"d{n}/e/f", WRITE, make_parents=True))
    assert len(os.listdir("/proc/self/fd")) <= before + 32
    for n in range(100):
        os.close(confined.open_file(f"d{n}/e/f", os.O_RDONLY))
    confined.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_a_tree_is_removed_without_following_links(root: Path) -> None:
    (root.parent / "outside" / "precious").write_bytes(b"x")
    (root / "t/sub").mkdir(parents=True)
    (root / "t/sub/link").symlink_to("../../../outside")
    (root / "t/file").write_bytes(b"")
    confined = Confined.root(str(root))
    remove_tree("t", confined.fd)
    remove_tree("t", confined.fd)
    assert lstat("t", confined.fd) is None
    confined.close()
    assert (root.parent / "outside" / "precious").exists()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.ELOOP, "link"),
        (errno.EACCES, "denied"),
    ],
)
def test_errors_become_sentences(number: int, words: str) -> None:
    error = storage_error("na\x1bme", OSError(number, os.strerror(number)))
    assert words in error.message
    assert "\\x1b" in error.message
