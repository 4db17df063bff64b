"""The lifetime probe against a server that is told what to do; through model NATs in tests/sim."""

from __future__ import annotations

import random
from typing import Any

import pytest

from conformance import CoreConformance, drain
from natwalk.core import Address, Core, Path
from natwalk.stun import (
    RESPONSE_PORT,
    XOR_MAPPED_ADDRESS,
    Message,
    decode,
    encode,
    error,
    success,
)
from natwalk.stun.lifetime import LifetimeProbe, LifetimeTried, MappingLifetime

SERVER = Address("198.51.100.20", 3478)
LOCAL, SECOND = Address("192.168.1.10", 40000), Address("192.168.1.10", 40001)
MAPPED = Address("203.0.113.5", 41000)


def make(now: float = 100.0, **options: Any) -> LifetimeProbe:
    return LifetimeProbe(SERVER, LOCAL, SECOND, random_bytes=random.Random(1).randbytes, now=now, **options)


class TestLifetimeProbeConformance(CoreConformance):
    def make(self, now: float) -> Core[Any]:
        return make(now)


def asked(core: LifetimeProbe) -> tuple[Message, Path]:
    (out,) = drain(core)[0]
    return decode(out.data), out.path


def mapping_made(core: LifetimeProbe, now: float = 100.0) -> float:
    """Answer the first question; when the probe is due."""
    question, path = asked(core)
    assert path == Path(LOCAL, SERVER)
    core.receive(encode(success(question, (XOR_MAPPED_ADDRESS, MAPPED))), path, now)
    due = core.next_timeout()
    assert due is not None
    core.handle_timeout(due)
    return due


def test_a_mapping_that_outlives_everything_has_no_upper_bound() -> None:
    core = make(longest=60.0)
    due = mapping_made(core)
    assert due == 160.0
    question, path = asked(core)
    assert path == Path(SECOND, SERVER)
    assert question.get(RESPONSE_PORT) == MAPPED.port
    core.receive(encode(success(question)), Path(LOCAL, SERVER), due)
    assert drain(core) == ([], [LifetimeTried(60.0, True), MappingLifetime(60.0)])
    assert core.next_timeout() is None


def test_an_answer_at_the_second_socket_means_that_the_mapping_is_gone() -> None:
    core = make(longest=60.0, resolution=59.0)
    due = mapping_made(core)
    question, path = asked(core)
    core.receive(encode(success(question)), path, due)
    assert drain(core)[1] == [LifetimeTried(60.0, False)]


@pytest.mark.parametrize("code", [400, 420])
def test_a_server_that_cannot_do_it_is_named(code: int) -> None:
    core = make()
    due = mapping_made(core)
    question, path = asked(core)
    core.receive(encode(error(question, code)), path, due)
    assert drain(core) == ([], [MappingLifetime(unknown=f"the server answers {code}")])


def test_silence_at_the_start_says_nothing() -> None:
    core = make()
    for _ in range(20):
        if (due := core.next_timeout()) is not None:
            core.handle_timeout(due)
            last = drain(core)[1]
    assert last == [MappingLifetime(unknown="the server does not answer")]


def test_spoofed_and_useless_answers_do_not_count() -> None:
    """FAULTS 36: from elsewhere, at another socket, no answer at all."""
    core = make()
    question, path = asked(core)
    answer = encode(success(question, (XOR_MAPPED_ADDRESS, MAPPED)))
    core.receive(answer, path._replace(remote=SERVER.with_port(1)), 100.1)
    core.receive(answer, path._replace(local=SECOND.with_port(1)), 100.1)
    core.receive(encode(question), path, 100.1)
    core.receive(answer[:-1], path, 100.1)
    assert core.drops.total == 4
    core.receive(encode(success(question)), path, 100.1)
    assert drain(core)[1] == [MappingLifetime(unknown="the server's answer has no address")]


def test_a_search_that_makes_no_sense_is_refused() -> None:
    for options in ({"resolution": 0.0}, {"longest": 1.0}):
        with pytest.raises(ValueError, match="resolution"):
            make(**options)
