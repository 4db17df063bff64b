"""Reading: pieces in the plan's order, prefixes checked, and no file that changed is passed off."""

import hashlib
import os
from pathlib import Path

import pytest

from natwalk.transfer import FileBegun, FileData, FileDone, FileOmitted, FlowItem, Have, Plan
from natwalk.transfer.storage import SourceReader, scan

ID = "a" * 32
DATA = bytes(range(256)) * 9000


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_all(reader: SourceReader, size: int = 1 << 20) -> list[FlowItem]:
    items: list[FlowItem] = []
    for _ in range(10_000):
        items += reader.next_batch(size)
        if reader.finished:
            return items
    raise AssertionError("the reader does not end")


def test_a_file_comes_in_blocks_with_its_hash(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)
    items = read_all(SourceReader(scan([tmp_path / "f"], ID), Plan()))
    assert items[0] == FileBegun(0, 0)
    assert b"".join(bytes(i.data) for i in items if isinstance(i, FileData)) == DATA
    assert items[-1] == FileDone(sha(DATA))


def test_many_small_files_share_a_batch(tmp_path: Path) -> None:
    for n in range(100):
        (tmp_path / f"{n:03}").write_bytes(b"x")
    reader = SourceReader(scan([tmp_path], ID), Plan())
    batch = reader.next_batch()
    assert sum(isinstance(i, FileDone) for i in batch) == 100
    assert reader.next_batch() == []
    assert reader.finished


def test_only_the_missing_part_is_read_when_the_prefix_matches(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)
    plan = Plan(have={0: Have(1_500_000, sha(DATA[:1_500_000]))})
    items = read_all(SourceReader(scan([tmp_path / "f"], ID), plan), size=1000)
    assert items[0] == FileBegun(0, 1_500_000)
    assert b"".join(bytes(i.data) for i in items if isinstance(i, FileData)) == DATA[1_500_000:]
    assert items[-1] == FileDone(sha(DATA))


def test_a_prefix_that_differs_starts_again_from_zero(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)
    items = read_all(SourceReader(scan([tmp_path / "f"], ID), Plan(have={0: Have(5, sha(b"other"))})))
    assert items[0] == FileBegun(0, 0)
    assert items[-1] == FileDone(sha(DATA))


def test_files_not_wanted_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    items = read_all(SourceReader(scan([tmp_path], ID), Plan(skip=frozenset({1}))))
    assert [i.index for i in items if isinstance(i, FileBegun)] == [2]


def test_an_empty_file_has_the_empty_hash(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    assert read_all(SourceReader(scan([tmp_path / "f"], ID), Plan())) == [FileBegun(0, 0), FileDone(sha(b""))]


def test_a_file_changed_after_the_offer_is_omitted(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    source = scan([path], ID)
    path.write_bytes(b"123456")
    assert read_all(SourceReader(source, Plan())) == [FileOmitted(0, "changed since it was offered")]


def test_a_file_removed_or_replaced_by_a_link_is_omitted(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"x")
    source = scan([tmp_path], ID)
    (tmp_path / "a").unlink()
    (tmp_path / "b").unlink()
    (tmp_path / "b").symlink_to("/etc/passwd")
    items = read_all(SourceReader(source, Plan()))
    assert [type(i) for i in items] == [FileOmitted, FileOmitted]


@pytest.mark.parametrize(("change", "reason"), [("shrink", "became shorter"), ("touch", "changed while")])
def test_a_file_that_changes_while_it_is_read_is_omitted(tmp_path: Path, change: str, reason: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(DATA)
    reader = SourceReader(scan([path], ID), Plan())
    first = reader.next_batch(1000)
    assert isinstance(first[0], FileBegun)
    if change == "shrink":
        os.truncate(path, 10)
    else:
        os.utime(path, ns=(1, 1))
    last = read_all(reader)[-1]
    assert isinstance(last, FileOmitted)
    assert last.reason.startswith(reason)


def test_closing_in_the_middle_leaves_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)
    reader = SourceReader(scan([tmp_path / "f"], ID), Plan())
    before = len(os.listdir("/proc/self/fd"))
    reader.next_batch(10)
    reader.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_read_error_omits_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(DATA)
    source = scan([tmp_path / "f"], ID)

    def fail(*_: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    assert read_all(SourceReader(source, Plan()))[-1] == FileOmitted(0, "cannot be read: Input/output error")
