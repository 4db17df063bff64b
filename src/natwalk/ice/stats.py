"""Statistics of a pair under the names of the W3C: RTCIceCandidatePairStats of webrtc-stats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from natwalk.ice.pair import CandidatePair, State

_W3C_STATES: Final = {
    State.FROZEN: "frozen",
    State.WAITING: "waiting",
    State.IN_PROGRESS: "in-progress",
    State.SUCCEEDED: "succeeded",
    State.FAILED: "failed",
}


@dataclass(frozen=True, slots=True)
class PairStats:
    """What has passed on one pair until ``timestamp``; times are seconds of the agent's clock.

    Packets and bytes are the application's, checks are counted as requests and responses, not their
    retransmissions. ``reason`` says why a failed pair does not work; the W3C has no name for it.
    """

    id: str
    timestamp: float
    local_candidate_id: str
    remote_candidate_id: str
    state: State
    nominated: bool
    packets_sent: int
    packets_received: int
    bytes_sent: int
    bytes_received: int
    last_packet_sent_timestamp: float | None
    last_packet_received_timestamp: float | None
    total_round_trip_time: float
    current_round_trip_time: float | None
    requests_received: int
    requests_sent: int
    responses_received: int
    responses_sent: int
    consent_requests_sent: int
    reason: str = ""

    def to_json(self) -> dict[str, object]:
        """The dictionary of the W3C: its names, milliseconds for timestamps, nothing that is not known."""
        stats: dict[str, object] = {"type": "candidate-pair", "state": _W3C_STATES[self.state]}
        for name in self.__slots__:
            value = getattr(self, name)
            if value is None or name == "state" or (name == "reason" and not value):
                continue
            stats[_w3c_name(name)] = value * 1000 if name.endswith("timestamp") else value
        return stats


def pair_stats(pair: CandidatePair, now: float) -> PairStats:
    """The statistics of ``pair`` at ``now``."""
    local = pair.reflexive or pair.local
    traffic = pair.traffic
    return PairStats(
        id=f"pair-{pair.id}",
        timestamp=now,
        local_candidate_id=f"local-{local.foundation}-{local.address}",
        remote_candidate_id=f"remote-{pair.remote.foundation}-{pair.remote.address}",
        state=pair.state,
        nominated=pair.nominated,
        packets_sent=traffic.packets_sent,
        packets_received=traffic.packets_received,
        bytes_sent=traffic.bytes_sent,
        bytes_received=traffic.bytes_received,
        last_packet_sent_timestamp=traffic.sent_at,
        last_packet_received_timestamp=traffic.received_at,
        total_round_trip_time=traffic.total_rtt,
        current_round_trip_time=traffic.last_rtt,
        requests_received=traffic.requests_received,
        requests_sent=traffic.requests_sent,
        responses_received=traffic.responses_received,
        responses_sent=traffic.responses_sent,
        consent_requests_sent=traffic.consent_requests_sent,
        reason=pair.reason,
    )


def note_sent(pair: CandidatePair, datagrams: Sequence[bytes], now: float) -> None:
    """The application's ``datagrams`` leave on ``pair``."""
    traffic = pair.traffic
    traffic.packets_sent += len(datagrams)
    traffic.bytes_sent += sum(map(len, datagrams))
    traffic.sent_at = now


def note_received(pair: CandidatePair, datagrams: Sequence[bytes], now: float) -> None:
    """``datagrams`` for the application came in on ``pair``."""
    traffic = pair.traffic
    traffic.packets_received += len(datagrams)
    traffic.bytes_received += sum(map(len, datagrams))
    traffic.received_at = now


def _w3c_name(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
