"""Placing: what exists is never touched without consent, and by consent only what was named."""

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from natwalk.transfer.storage import Outcome, Placed
from natwalk.transfer.storage.placing import place


class Two:
    def __init__(self, base: Path) -> None:
        self.source, self.target, self.outside = base / "source", base / "target", base / "outside"
        for path in (self.source, self.target, self.outside):
            path.mkdir()
        self.fds = [os.open(p, os.O_RDONLY | os.O_DIRECTORY) for p in (self.source, self.target)]

    def place(self, name: str, *, overwrite: bool = False, sha256: str | None = None) -> Placed:
        return place(name, *self.fds, overwrite=overwrite, sha256=sha256)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    both = Two(tmp_path)
    yield both
    for fd in both.fds:
        os.close(fd)


def test_a_new_name_is_taken(two: Two) -> None:
    (two.source / "f").write_text("new")
    assert two.place("f") == Placed("f", "f", Outcome.NEW)
    assert (two.target / "f").read_text() == "new"
    assert not (two.source / "f").exists()


def test_what_exists_stays_and_the_new_one_gets_a_number(two: Two) -> None:
    for name, number in (("f.txt", 1), ("f.txt", 2)):
        (two.source / name).write_text("new")
        (two.target / name).write_text("old")
        assert two.place(name) == Placed(name, f"f ({number}).txt", Outcome.RENAMED)
    assert (two.target / "f.txt").read_text() == "old"


def test_the_same_file_again_changes_nothing(two: Two) -> None:
    for folder in (two.source, two.target):
        (folder / "f").write_text("same")
    sha = hashlib.sha256(b"same").hexdigest()
    assert two.place("f", sha256=sha) == Placed("f", "f", Outcome.UNCHANGED)
    assert os.listdir(two.target) == ["f"]
    assert os.listdir(two.source) == []


def test_a_file_of_equal_size_but_other_content_is_not_the_same(two: Two) -> None:
    (two.source / "f").write_text("new!")
    (two.target / "f").write_text("old!")
    sha = hashlib.sha256(b"new!").hexdigest()
    assert two.place("f", sha256=sha).outcome is Outcome.RENAMED


def test_consent_replaces_a_file(two: Two) -> None:
    (two.source / "f").write_text("new")
    (two.target / "f").write_text("old!")
    assert two.place("f", overwrite=True).outcome is Outcome.REPLACED
    assert (two.target / "f").read_text() == "new"


def test_consent_replaces_a_link_not_what_it_points_to(two: Two) -> None:
    (two.outside / "precious").write_text("old")
    (two.source / "f").write_text("new")
    (two.target / "f").symlink_to("../outside/precious")
    assert two.place("f", overwrite=True).outcome is Outcome.REPLACED
    assert (two.outside / "precious").read_text() == "old"
    assert not (two.target / "f").is_symlink()


def test_a_dangling_link_counts_as_existing(two: Two) -> None:
    (two.source / "f").write_text("new")
    (two.target / "f").symlink_to("../outside/nothing")
    assert two.place("f") == Placed("f", "f (1)", Outcome.RENAMED)
    assert os.listdir(two.outside) == []


def test_consent_merges_folders_and_follows_no_link_in_them(two: Two) -> None:
    (two.source / "d/sub").mkdir(parents=True)
    (two.source / "d/link").mkdir()
    (two.source / "d/sub/f").write_text("new")
    (two.source / "d/link/f").write_text("new")
    (two.target / "d/sub").mkdir(parents=True)
    (two.target / "d/sub/f").write_text("old")
    (two.target / "d/kept").write_text("kept")
    (two.target / "d/link").symlink_to("../../outside")
    assert two.place("d", overwrite=True) == Placed("d", "d", Outcome.REPLACED)
    assert (two.target / "d/sub/f").read_text() == "new"
    assert (two.target / "d/kept").read_text() == "kept"
    assert os.listdir(two.outside) == []
    assert (two.target / "d/link (1)/f").read_text() == "new"


def test_a_file_and_a_folder_never_replace_each_other(two: Two) -> None:
    (two.source / "x").mkdir()
    (two.target / "x").write_text("old")
    assert two.place("x", overwrite=True) == Placed("x", "x (1)", Outcome.RENAMED)
    assert (two.target / "x").read_text() == "old"


def test_file_systems_without_hard_links_work(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    (two.source / "f").write_text("new")
    assert two.place("f").outcome is Outcome.NEW
    assert (two.target / "f").read_text() == "new"


def test_other_errors_of_linking_are_not_hidden(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "link", refuse)
    (two.source / "f").write_text("new")
    with pytest.raises(OSError, match="broken"):
        two.place("f")


def test_a_name_taken_in_the_last_moment_is_not_replaced(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def late(src: str, dst: str, **fds: int) -> None:
        if dst == "f":
            (two.target / "f").write_text("theirs")
        real(src, dst, **fds)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", late)
    (two.source / "f").write_text("new")
    assert two.place("f") == Placed("f", "f (1)", Outcome.RENAMED)
    assert (two.target / "f").read_text() == "theirs"
