"""Behaviour discovery against a server that is told what to do: each conclusion, and what proves nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest

from conformance import CoreConformance, drain
from natwalk.core import Address, Core, Path
from natwalk.stun import (
    CHANGE_REQUEST,
    MAPPED_ADDRESS,
    OTHER_ADDRESS,
    XOR_MAPPED_ADDRESS,
    BehaviourDiscovery,
    Dependence,
    Message,
    NatBehaviour,
    Step,
    decode,
    encode,
    error,
    success,
)

SERVER, OTHER = Address("198.51.100.20", 3478), Address("198.51.100.21", 3479)
LOCAL, MAPPED = Address("192.168.1.10", 40000), Address("203.0.113.5", 40000)


def start(local: Address = LOCAL) -> BehaviourDiscovery:
    return BehaviourDiscovery(SERVER, local, random_bytes=random.Random(1).randbytes, now=100.0)


class TestBehaviourDiscoveryConformance(CoreConformance):
    def make(self, now: float) -> Core[Any]:
        return BehaviourDiscovery(SERVER, LOCAL, random_bytes=random.Random(1).randbytes, now=now)


def questions(core: BehaviourDiscovery) -> list[tuple[Message, Path]]:
    transmits, _ = drain(core)
    return [(decode(out.data), out.path) for out in transmits]


def first_answer(core: BehaviourDiscovery, *attributes: Any) -> list[tuple[Message, Path]]:
    ((asked, path),) = questions(core)
    assert path.remote == SERVER
    core.receive(encode(success(asked, *attributes)), path, 100.02)
    return questions(core) if core.next_timeout() else []


def run_out(core: BehaviourDiscovery) -> list[Any]:
    events: list[Any] = []
    for _ in range(200):
        events += drain(core)[1]
        due = core.next_timeout()
        if due is None:
            return events
        core.handle_timeout(due)
    raise AssertionError("never ends")


def result(core: BehaviourDiscovery) -> NatBehaviour:
    events = run_out(core)
    assert all(isinstance(event, Step) for event in events[:-1])
    assert isinstance(events[-1], NatBehaviour)
    return events[-1]


def test_silence_means_that_udp_is_blocked() -> None:
    found = result(start())
    assert found.mapped is None
    assert found.classic == "UDP blocked"
    assert found.unknown == ("ask the server: no answer",)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (None, "does not take part"),
        (SERVER, "not another address"),
        (OTHER.with_port(3478), "not another address"),
        (Address("198.51.100.20", 3479), "not another address"),
        (Address("198.51.100.21", 0), "not another address"),
        (Address("2001:db8::1", 3479), "not another address"),
        (Address("127.0.0.1", 22), "does not reach as far"),
        (Address("192.168.1.1", 53), "does not reach as far"),
        (Address("169.254.169.254", 80), "does not reach as far"),
        (Address("255.255.255.255", 80), "does not reach as far"),
    ],
)
def test_a_server_without_a_second_address_tells_the_mapped_one_only(other: Address | None, why: str) -> None:
    """And one that names an address it cannot mean does not have us send there."""
    core = start()
    attributes = [(XOR_MAPPED_ADDRESS, MAPPED)] + ([] if other is None else [(OTHER_ADDRESS, other)])
    assert first_answer(core, *attributes) == []
    assert core.next_timeout() is None
    core = start()
    ((asked, path),) = questions(core)
    core.receive(encode(success(asked, *attributes)), path, 100.02)
    found = result(core)
    assert (found.mapped, found.mapping, found.filtering, found.classic) == (MAPPED, None, None, None)
    assert why in found.unknown[0]


def test_an_answer_from_where_it_was_asked_proves_nothing_about_filtering() -> None:
    """A server that knows OTHER-ADDRESS and ignores CHANGE-REQUEST, or one relayed by a proxy."""
    core = start()
    asked = first_answer(core, (XOR_MAPPED_ADDRESS, MAPPED), (OTHER_ADDRESS, OTHER))
    assert len(asked) == 2
    for message, path in asked:
        assert path.remote == SERVER
        assert CHANGE_REQUEST in message
        core.receive(encode(success(message, (XOR_MAPPED_ADDRESS, MAPPED))), path, 100.1)
    found = result(core)
    assert found.filtering is None
    assert found.unknown[0] == "filtering: the server answers from where it was asked"


def test_a_refusal_proves_nothing_either() -> None:
    core = start()
    for message, path in first_answer(core, (XOR_MAPPED_ADDRESS, MAPPED), (OTHER_ADDRESS, OTHER)):
        change = message.get(CHANGE_REQUEST)
        assert change is not None
        remote = Address(OTHER.host if change.change_ip else SERVER.host, OTHER.port)
        core.receive(encode(error(message, 420)), path._replace(remote=remote), 100.1)
    found = result(core)
    assert found.filtering is None
    assert found.unknown[0] == "filtering: the server refuses with 420"


def test_spoofed_answers_are_dropped() -> None:
    """FAULTS 36: the right transaction ID from a wrong address is no answer, to any test."""
    core = start()
    ((asked, path),) = questions(core)
    answer = encode(success(asked, (XOR_MAPPED_ADDRESS, MAPPED), (OTHER_ADDRESS, OTHER)))
    core.receive(answer, path._replace(remote=Address("198.51.100.66", 3478)), 100.1)
    core.receive(answer, path._replace(local=LOCAL.with_port(1)), 100.1)
    core.receive(encode(asked), path, 100.1)
    core.receive(answer[:-1], path, 100.1)
    assert core.drops.total == 4
    core.receive(answer, path, 100.1)
    for message, sent in questions(core):
        wrong = sent._replace(remote=Address("198.51.100.66", 3479))
        core.receive(encode(success(message, (XOR_MAPPED_ADDRESS, MAPPED))), wrong, 100.2)
    assert core.drops.total == 6
    assert result(core).filtering is Dependence.ADDRESS_AND_PORT_DEPENDENT


def test_addresses_changed_inside_of_messages_are_noticed() -> None:
    core = start()
    ((asked, path),) = questions(core)
    core.receive(encode(success(asked, (XOR_MAPPED_ADDRESS, MAPPED), (MAPPED_ADDRESS, LOCAL))), path, 100.1)
    found = result(core)
    assert found.rewrites
    assert found.mapped == MAPPED


def test_a_server_that_refuses_is_named() -> None:
    core = start()
    ((asked, path),) = questions(core)
    core.receive(encode(error(asked, 401)), path, 100.1)
    assert result(core).unknown == ("ask the server: the server refuses with 401",)


@pytest.mark.parametrize(
    ("mapped", "mapping", "filtering", "name"),
    [
        (LOCAL, "ENDPOINT_INDEPENDENT", "ENDPOINT_INDEPENDENT", "open internet"),
        (LOCAL, "ENDPOINT_INDEPENDENT", "ADDRESS_DEPENDENT", "symmetric firewall"),
        (LOCAL, "ENDPOINT_INDEPENDENT", None, None),
        (MAPPED, "ENDPOINT_INDEPENDENT", "ENDPOINT_INDEPENDENT", "full cone"),
        (MAPPED, "ENDPOINT_INDEPENDENT", "ADDRESS_DEPENDENT", "restricted cone"),
        (MAPPED, "ENDPOINT_INDEPENDENT", "ADDRESS_AND_PORT_DEPENDENT", "port restricted cone"),
        (MAPPED, "ADDRESS_DEPENDENT", None, "symmetric"),
        (MAPPED, None, None, None),
        (None, None, None, "UDP blocked"),
    ],
)
def test_the_classic_names(
    mapped: Address | None, mapping: str | None, filtering: str | None, name: str | None
) -> None:
    found = NatBehaviour(
        SERVER,
        LOCAL,
        mapped,
        Dependence[mapping] if mapping else None,
        Dependence[filtering] if filtering else None,
    )
    assert found.classic == name
    assert found.preserves_port is (mapped is not None)
