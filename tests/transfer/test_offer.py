"""Offers: which lists of entries are believed, and the one hash over a transfer."""

import hashlib

import pytest

from natwalk.core import MalformedMessage
from natwalk.transfer.offer import MAX_ENTRIES, MAX_SIZE, Entry, EntryKind, Offer, OverallDigest

ID = "0" * 32


def folder(path: str) -> Entry:
    return Entry(path, EntryKind.FOLDER, 0, 0o755)


def test_a_good_offer_sums_up() -> None:
    offer = Offer.checked(
        ID, (folder("d"), Entry("d/a", size=3), Entry("d/e/b", size=4), Entry("top", size=1))
    )
    assert (offer.size, offer.file_count, offer.top_names) == (8, 3, ("d", "top"))


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ((), "empty"),
        ((Entry("a"), Entry("a")), "same name"),
        ((folder("a"), Entry("a")), "same name"),
        ((Entry("a"), folder("a")), "same name"),
        ((Entry("a/b"), Entry("a")), "same name"),
        ((Entry("a"), Entry("a/b")), "inside a file"),
        ((Entry("a"), folder("a/b")), "inside a file"),
        ((Entry("a", EntryKind.FOLDER, 5),), "has a size"),
        ((Entry("ok"), Entry("../x")), "leaves"),
        ((Entry("a", size=MAX_SIZE), Entry("b", size=1)), "bytes in all"),
    ],
)
def test_a_bad_offer_is_refused(entries: tuple[Entry, ...], reason: str) -> None:
    with pytest.raises(MalformedMessage, match=reason):
        Offer.checked(ID, entries)


def test_an_offer_of_too_many_entries_is_refused() -> None:
    entries = tuple(Entry(f"{n}") for n in range(MAX_ENTRIES + 1))
    with pytest.raises(MalformedMessage, match="is the most"):
        Offer.checked(ID, entries)


def test_the_fingerprint_depends_on_everything() -> None:
    base = Offer(ID, (Entry("a", size=1, mtime_ns=5),))
    others = [
        Offer("1" * 32, base.entries),
        Offer(ID, (Entry("b", size=1, mtime_ns=5),)),
        Offer(ID, (Entry("a", size=2, mtime_ns=5),)),
        Offer(ID, (Entry("a", size=1, mtime_ns=6),)),
        Offer(ID, (*base.entries, Entry("z"))),
    ]
    assert base.fingerprint() == Offer(ID, base.entries).fingerprint()
    assert len({base.fingerprint(), *(o.fingerprint() for o in others)}) == 6


def test_the_hash_of_one_file_is_the_files_own() -> None:
    digest = OverallDigest()
    assert digest.hexdigest() == hashlib.sha256().hexdigest()
    digest.add("a", "ab" * 32)
    assert digest.hexdigest() == "ab" * 32


def test_the_hash_of_several_files_is_that_of_their_sha256sum_lines() -> None:
    digest = OverallDigest()
    digest.add("d/a", "11" * 32)
    digest.add("d/b", "22" * 32)
    lines = f"{'11' * 32}  d/a\n{'22' * 32}  d/b\n"
    assert digest.hexdigest() == hashlib.sha256(lines.encode()).hexdigest()
