import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import MalformedMessage
from natwalk.peer.credit import REPORT_EVERY, WINDOW, Credit

SIZES = st.lists(st.integers(1, REPORT_EVERY), max_size=40)


@given(SIZES, st.integers(1, 40))
def test_a_writer_that_minds_room_never_outruns_the_reader(sizes: list[int], cut: int) -> None:
    """Whatever is read in whatever steps, outstanding bytes stay within the window plus one write."""
    writer, reader = Credit(), Credit()
    sent = read = 0
    for size in sizes:
        if writer.room(4) > 0:
            writer.sent(4, size)
            sent += size
        else:
            step = min(size, sent - read)
            report = reader.taken(4, step)
            read += step
            for at in range(0, len(report), cut):
                writer.feed(report[at : at + cut])
        assert sent - read < WINDOW + 2 * REPORT_EVERY


def test_room_comes_back_with_reports_and_only_then() -> None:
    writer, reader = Credit(), Credit()
    writer.sent(4, WINDOW)
    assert writer.room(4) == 0
    assert reader.taken(4, REPORT_EVERY - 1) == b""
    writer.feed(reader.taken(4, 1))
    assert writer.room(4) == REPORT_EVERY
    writer.window = WINDOW // 4
    assert writer.room(4) < 0
    assert writer.room(8) == WINDOW // 4


def test_streams_that_ended_are_forgotten_and_late_reports_ignored() -> None:
    writer, reader = Credit(), Credit()
    writer.sent(4, WINDOW)
    report = reader.taken(4, WINDOW)
    writer.end_sending(4)
    reader.end_receiving(4)
    writer.feed(report)
    assert (len(writer), len(reader)) == (0, 0)
    assert writer.room(4) == WINDOW


def test_reading_what_was_never_sent_is_malformed() -> None:
    writer, liar = Credit(), Credit()
    writer.sent(4, 10)
    with pytest.raises(MalformedMessage, match="of 10 bytes"):
        writer.feed(liar.taken(4, WINDOW))


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_any_bytes_are_taken_or_malformed(pieces: list[bytes]) -> None:
    credit = Credit()
    credit.sent(0, 5)
    try:
        for piece in pieces:
            credit.feed(piece)
    except MalformedMessage:
        return
    assert credit.room(0) <= WINDOW
