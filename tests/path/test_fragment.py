from hypothesis import given
from hypothesis import strategies as st

from natwalk.path.fragment import MARK, MAX_OPEN, MAX_PIECES, Fragmenter, Reassembler


@given(st.binary(min_size=1, max_size=9000), st.integers(300, 1500), st.randoms(use_true_random=False))
def test_pieces_join_in_any_order_with_duplicates(datagram: bytes, mtu: int, random: object) -> None:
    pieces = Fragmenter().split(datagram, mtu)
    assert all(len(piece) <= mtu and piece[0] == MARK for piece in pieces)
    shuffled = pieces[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    joiner = Reassembler()
    results = []
    for n, piece in enumerate(shuffled):
        results.append(joiner.add(piece))
        if n < len(shuffled) - 1:
            results.append(joiner.add(piece))
    assert [r for r in results if r is not None] == [datagram]


@given(st.lists(st.binary(max_size=40), max_size=50))
def test_hostile_pieces_never_raise_nor_grow(pieces: list[bytes]) -> None:
    joiner = Reassembler()
    for piece in pieces:
        joiner.add(bytes([MARK]) + piece)
        assert len(joiner._open) <= MAX_OPEN


def test_the_oldest_unfinished_datagram_is_given_up() -> None:
    fragmenter, joiner = Fragmenter(), Reassembler()
    many = [fragmenter.split(b"x" * 400, 205) for _ in range(MAX_OPEN + 1)]
    for first, *_ in many:
        assert joiner.add(first) is None
    assert joiner.add(many[0][1]) is None
    assert joiner.add(many[-1][1]) == b"x" * 400


def test_what_needs_too_many_pieces_is_not_sent() -> None:
    assert Fragmenter().split(bytes(65507), 200) == []
    assert len(Fragmenter().split(bytes(60000), 1200)) <= MAX_PIECES


def test_a_count_that_changes_begins_anew() -> None:
    joiner = Reassembler()
    assert joiner.add(bytes([MARK, 0, 2, 0, 7]) + b"a") is None
    assert joiner.add(bytes([MARK, 1, 3, 0, 7]) + b"b") is None
    assert joiner.add(bytes([MARK, 1, 2, 0, 7]) + b"b") is None
    assert joiner.add(bytes([MARK, 0, 2, 0, 7]) + b"a") == b"ab"
