"""Log lines: their two forms, what is kept out of them, and that writing them never holds anything up."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natwalk.core import Address
from natwalk.server.lines import LineWriter
from natwalk.server.log import ServerLog, StandardLogs
from natwalk.server.schema import LogSection


class Collected:
    """Lines, kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> bool:
        self.lines.append(line)
        return True


def make(secrets: tuple[str, ...] = (), **keys: object) -> tuple[ServerLog, list[str]]:
    collected = Collected()
    return ServerLog(collected, LogSection(**keys), secrets), collected.lines  # type: ignore[arg-type]


class TestForms:
    def test_text(self) -> None:
        log, lines = make()
        log.info("usage", user="alice", seconds=1.5, reasons=["a (1)", "b"], none=None, on=True)
        [line] = lines
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info    usage  "
            r'user=alice  seconds=1\.5  reasons="a \(1\)",b  none=-  on=True',
            line,
        )

    def test_json(self) -> None:
        log, lines = make(format="json")
        log.warning("dropped", packets=3, source=Address("192.0.2.1", 5))
        assert {k: v for k, v in json.loads(lines[0]).items() if k != "time"} == {
            "level": "warning",
            "event": "dropped",
            "packets": 3,
        }

    def test_levels(self) -> None:
        log, lines = make(level="warning")
        log.debug("a")
        log.info("b")
        log.warning("c")
        log.error("d")
        assert len(lines) == 2

    @given(st.text())
    def test_a_name_from_outside_cannot_forge_a_line_or_move_the_cursor(self, name: str) -> None:
        for form in ("text", "json"):
            log, lines = make(format=form)
            log.info("usage", user=name)
            [line] = lines
            assert line.isprintable()


class TestHygiene:
    def test_addresses_are_left_out_unless_asked_for(self) -> None:
        for addresses in (False, True):
            log, lines = make(addresses=addresses)
            log.info("usage", client=Address("192.0.2.1", 5), relay=Address("2001:db8::1", 6), user="a")
            assert ("192.0.2.1:5" in lines[0]) is addresses
            assert ("[2001:db8::1]:6" in lines[0]) is addresses

    def test_secrets_are_replaced_wherever_they_are(self) -> None:
        """FAULTS 173: a secret in a value, a list, a library's message or a traceback does not get out."""
        log, lines = make(("canary-one", "canary-one-and-more"), format="json")
        log.info("x canary-one", y=["canary-one-and-more"], z={"canary-one": b"canary-one"})
        handler = StandardLogs(log)
        error = ValueError("bad canary-one-and-more")
        for info in (None, (ValueError, error, None)):
            handler.emit(logging.LogRecord("uvicorn", 40, "f", 1, "lost %s", ("canary-one",), info))
        assert len(lines) == 3
        assert "canary" not in "".join(lines)
        assert "ValueError: bad [secret]" in json.loads(lines[2])["traceback"]

    def test_new_secrets_after_a_reload_are_known(self) -> None:
        log, lines = make(("the-old-one",))
        log.reconfigure(LogSection(format="json"), ("the-new-one",))
        log.info("the-new-one")
        assert "the-new-one" not in lines[0]

    def test_a_message_that_cannot_be_formatted_raises_nothing(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        log, lines = make()
        StandardLogs(log).emit(logging.LogRecord("x", 40, "f", 1, "%d", ("no number",), None))
        assert lines == []
        assert "Logging error" in capsys.readouterr().err


class TestWriter:
    def test_lines_arrive_in_order(self) -> None:
        read, write = os.pipe()
        writer = LineWriter(write)
        for n in range(100):
            assert writer.write(f"line {n}")
        writer.close()
        os.close(write)
        with os.fdopen(read) as file:
            assert file.read().split("\n")[:-1] == [f"line {n}" for n in range(100)]

    def test_a_line_break_cannot_start_a_line_of_its_own(self) -> None:
        read, write = os.pipe()
        writer = LineWriter(write)
        writer.write("a\nb")
        writer.close()
        os.close(write)
        with os.fdopen(read) as file:
            assert file.read() == "a\n  b\n"

    def test_a_flood_is_bounded_and_counted(self) -> None:
        """FAULTS 54: 100,000 lines a second for ten seconds of a clock leave less than a megabyte."""
        now = 0.0
        read, write = os.pipe()
        drained: list[int] = []

        def drain() -> None:
            while data := os.read(read, 65536):
                drained.append(len(data))

        thread = threading.Thread(target=drain)
        thread.start()
        writer = LineWriter(write, clock=lambda: now)
        for second in range(10):
            now = float(second)
            for _ in range(10_000):
                writer.write("x" * 200)
        writer.close()
        os.close(write)
        thread.join()
        os.close(read)
        assert 0 < sum(drained) < 1_000_000
        assert writer.dropped > 90_000
        assert writer.unsaid() > 90_000
        assert writer.unsaid() == 0

    @pytest.mark.parametrize("blocking", [True, False])
    def test_a_reader_that_sleeps_holds_nothing_up(self, blocking: bool) -> None:
        """FAULTS 54: standard error is a pipe nobody reads; writing returns at once and lines are dropped."""
        read, write = os.pipe()
        os.set_blocking(write, blocking)
        writer = LineWriter(write, rate=1e9, burst=1e9)
        started = time.process_time()
        for _ in range(20_000):
            writer.write("x" * 100)
        assert writer.dropped > 10_000
        assert time.process_time() - started < 5
        os.close(read)  # which wakes the thread: there is nobody any more
        writer.close()
        os.close(write)

    @pytest.mark.parametrize("path", ["/dev/full", None])
    def test_a_full_disk_or_a_closed_descriptor_is_survived(self, path: str | None) -> None:
        """FAULTS 54: lines that cannot be written are counted, and nothing is raised."""
        if path is None:
            read, descriptor = os.pipe()
            os.close(read)
        else:
            descriptor = os.open(path, os.O_WRONLY)
        writer = LineWriter(descriptor)
        for _ in range(5):
            writer.write("x")
        writer.close()
        os.close(descriptor)
        assert writer.dropped == 5
        assert not writer.write("after the end")
