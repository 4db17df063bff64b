"""The contract of natwalk.core.contract, as a suite that every core runs through.

Subclass :class:`CoreConformance` beside a core's own tests and give ``make``; pytest collects the rest.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from natwalk.core import Address, Core, Path

PATH = Path(Address("192.0.2.10", 40000), Address("198.51.100.20", 3478))


def drain(core: Core[Any], limit: int = 10_000) -> tuple[list[Any], list[Any]]:
    """Drain both polls to None, as a driver does, and return (transmits, events)."""
    transmits, events = [], []
    for _ in range(limit):
        if (out := core.poll_transmit()) is None:
            break
        transmits.append(out)
    else:
        raise AssertionError(f"poll_transmit still yields after {limit} datagrams")
    for _ in range(limit):
        if (event := core.poll_event()) is None:
            break
        events.append(event)
    else:
        raise AssertionError(f"poll_event still yields after {limit} events")
    return transmits, events


class CoreConformance:
    """Every core, whatever its protocol, passes these."""

    def make(self, now: float) -> Core[Any]:
        """A core in a busy state: started at ``now``, with something to send or to wait for if it can."""
        raise NotImplementedError

    def path(self, core: Core[Any]) -> Path:
        """A path the core would take datagrams on."""
        return PATH

    def test_polls_end_in_none(self) -> None:
        core = self.make(100.0)
        drain(core)
        assert core.poll_transmit() is None
        assert core.poll_event() is None

    def test_handle_timeout_never_spins(self) -> None:
        """After handle_timeout(t), next_timeout() is None or later than t."""
        core = self.make(100.0)
        drain(core)
        now = 100.0
        for _ in range(500):
            due = core.next_timeout()
            if due is None:
                return
            assert isinstance(due, float)
            now = max(now, due)
            core.handle_timeout(now)
            drain(core)
            following = core.next_timeout()
            assert following is None or following > now, f"next_timeout {following} is not after {now}"

    def test_early_and_repeated_timeouts_send_nothing(self) -> None:
        core = self.make(100.0)
        drain(core)
        due = core.next_timeout()
        if due is None or due <= 100.0:
            return
        before = 100.0 + (due - 100.0) / 2
        for _ in range(3):
            core.handle_timeout(before)
        transmits, events = drain(core)
        assert transmits == []
        assert events == []
        assert core.next_timeout() == due

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=st.lists(st.binary(max_size=200), max_size=6))
    def test_receive_never_raises_on_wire_bytes(self, data: list[bytes]) -> None:
        core = self.make(100.0)
        drain(core)
        for datagram in data:
            core.receive(datagram, self.path(core), 100.0)
            drain(core)

    def test_garbage_is_dropped_with_a_reason(self) -> None:
        core = self.make(100.0)
        drain(core)
        before = core.drops.total
        for garbage in (b"", b"\x00", b"\xff" * 20, b"\x00\x01\x00\x04" + b"\x00" * 16, b"\x80" * 1500):
            core.receive(garbage, self.path(core), 100.0)
            drain(core)
        assert core.drops.total > before
        assert core.drops.last

    def test_received_bytes_may_be_any_buffer_length(self) -> None:
        core = self.make(100.0)
        drain(core)
        for length in (19, 20, 21, 1500, 9000, 65507):
            core.receive(b"\x00" * length, self.path(core), 100.0)
            drain(core)
