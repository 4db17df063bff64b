"""Names on the local network: answered for, looked up, and abused."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from conformance import CoreConformance, drain
from natwalk.core import Address, LocalProtocolError, Path, Transmit
from natwalk.ice.dns import TYPE_AAAA, AddressRecord, DnsMessage, Question, decode, encode
from natwalk.ice.mdns import GROUP, MAX_LOOKUPS, MAX_NAMES, PORT, Mdns, NameResolved

HERE, THERE = Address("192.168.1.2", PORT), Address("192.168.1.3", PORT)
NAME = "1f4712db-ea17-4bcf-a596-105139dfd8bf.local"
IP = ip_address("192.168.1.3")
NOW = 50.0


def asker() -> Mdns:
    return Mdns(HERE)


def owner() -> Mdns:
    mdns = Mdns(THERE)
    mdns.publish(NAME, IP)
    return mdns


def deliver(out: Transmit, to: Mdns, now: float = NOW) -> None:
    """What one of the two sent comes to the other, through the group or straight."""
    to.receive(out.data, Path(out.path.remote, out.path.local), now)


def answer(name: str, *ips: str, ttl: int = 120) -> bytes:
    records = tuple(AddressRecord(name, ip_address(ip), ttl) for ip in ips)
    return encode(DnsMessage(response=True, answers=records))


class TestMdns(CoreConformance):
    def make(self, now: float) -> Mdns:
        mdns = owner()
        mdns.look_up("other.local", now)
        return mdns

    def path(self, core: object) -> Path:
        return Path(GROUP, HERE)


def test_a_name_is_asked_for_and_answered() -> None:
    here, there = asker(), owner()
    here.look_up(NAME.replace("d", "D"), NOW)
    (question,), _ = drain(here)
    assert question.path == Path(HERE, GROUP)
    assert [q.name for q in decode(question.data).questions] == [NAME, NAME]
    deliver(question, there)
    (reply,), _ = drain(there)
    assert reply.path == Path(THERE, GROUP)
    deliver(reply, here)
    assert drain(here) == ([], [NameResolved(NAME, IP)])
    assert here.next_timeout() is None


def test_a_question_from_a_port_of_its_own_is_answered_there() -> None:
    """RFC 6762 §6.7: id and question come back, the TTL is short, and no cache-flush bit is set."""
    there = owner()
    there.receive(
        encode(DnsMessage(id=7, questions=(Question(NAME),))),
        Path(GROUP, Address("192.168.1.2", 40000)),
        NOW,
    )
    (reply,), _ = drain(there)
    assert reply.path.remote == Address("192.168.1.2", 40000)
    message = decode(reply.data)
    assert (message.id, message.questions) == (7, (Question(NAME),))
    assert message.answers == (AddressRecord(NAME, IP, 10),)


def test_a_question_that_wants_unicast_gets_it() -> None:
    """RFC 6762 §5.4."""
    there = owner()
    there.receive(encode(DnsMessage(questions=(Question(NAME, unicast=True),))), Path(GROUP, HERE), NOW)
    (reply,), _ = drain(there)
    assert reply.path.remote == HERE


@pytest.mark.parametrize(
    "questions",
    [(), (Question("other.local"),), (Question(NAME, TYPE_AAAA),), (Question(NAME, 16),)],
)
def test_what_we_cannot_answer_we_do_not_answer(questions: tuple[Question, ...]) -> None:
    there = owner()
    there.receive(encode(DnsMessage(questions=questions)), Path(GROUP, HERE), NOW)
    assert drain(there) == ([], [])


def test_a_withdrawn_name_is_answered_for_no_more() -> None:
    there = owner()
    there.withdraw(NAME)
    there.withdraw("never.local")
    there.receive(encode(DnsMessage(questions=(Question(NAME),))), Path(GROUP, HERE), NOW)
    assert drain(there) == ([], [])


def test_nobody_can_make_us_flood_the_network() -> None:
    """FAULTS 79: a thousand questions in a second are one answer; strangers' questions none."""
    there = owner()
    question = encode(DnsMessage(questions=(Question(NAME),) * 20))
    for number in range(1000):
        there.receive(question, Path(GROUP, HERE), NOW + number / 1001)
    replies, _ = drain(there)
    assert len(replies) == 1
    assert there.drops.counts["a question answered just now"] == 999
    there.receive(question, Path(GROUP, HERE), NOW + 1.0)
    assert len(drain(there)[0]) == 1
    there.receive(question, Path(GROUP, Address("198.51.100.9", 40000)), NOW + 5)
    assert drain(there) == ([], [])
    assert there.drops.last == "a question from outside the local network"
    for port in range(10_000, 12_000):
        there.receive(question, Path(GROUP, Address("192.168.1.9", port)), NOW + 6)
        drain(there)
    assert len(there._answered) == 64


def test_a_silent_network_is_asked_three_times_in_three_seconds() -> None:
    """FAULTS 79."""
    here = asker()
    here.look_up(NAME, NOW)
    here.look_up(NAME, NOW)
    times = []
    now = NOW
    events: list[object] = []
    while (due := here.next_timeout()) is not None:
        sent, _ = drain(here)
        times += [now - NOW] * len(sent)
        now = due
        here.handle_timeout(now)
    sent, events = drain(here)
    assert times == [0.0, 0.25, 1.0]
    assert sent == []
    assert (now, events) == (NOW + 3.0, [NameResolved(NAME, None)])


def test_late_timers_do_not_make_up_for_lost_questions() -> None:
    here = asker()
    here.look_up(NAME, NOW)
    drain(here)
    here.handle_timeout(NOW + 2.0)
    assert len(drain(here)[0]) == 1


def test_one_address_is_used_and_the_rest_forgotten() -> None:
    """FAULTS 79: a name that resolves to a hundred addresses resolves to the first."""
    here = asker()
    here.look_up(NAME, NOW)
    here.receive(answer(NAME, *(f"192.168.1.{n}" for n in range(3, 103))), Path(GROUP, THERE), NOW)
    here.receive(answer(NAME, "192.168.1.200"), Path(GROUP, THERE), NOW)
    assert drain(here)[1] == [NameResolved(NAME, IP)]


@pytest.mark.parametrize(
    ("data", "source"),
    [
        (b"junk", THERE),
        (answer("other.local", "192.168.1.3"), THERE),
        (answer(NAME, "192.168.1.3", ttl=0), THERE),
        (answer(NAME, "192.168.1.3"), THERE.with_port(5354)),
        (encode(DnsMessage(questions=(Question(NAME),))), THERE),
    ],
)
def test_what_is_no_answer_resolves_nothing(data: bytes, source: Address) -> None:
    """Goodbyes and answers from other ports included (RFC 6762 §11)."""
    here = asker()
    here.look_up(NAME, NOW)
    here.receive(data, Path(GROUP, source), NOW)
    assert drain(here)[1] == []


@pytest.mark.parametrize(
    "name", ["example.com", "local", ".local", "a.b.local", "a_b.local", "x" * 64 + ".local"]
)
def test_only_names_under_local_are_asked_for(name: str) -> None:
    """FAULTS 79."""
    here = asker()
    with pytest.raises(LocalProtocolError, match="local"):
        here.look_up(name, NOW)
    with pytest.raises(LocalProtocolError, match="local"):
        here.publish(name, IP)


def test_look_ups_and_names_are_bounded() -> None:
    here = asker()
    for number in range(MAX_LOOKUPS + 1):
        here.look_up(f"n{number}.local", NOW)
    assert drain(here)[1] == [NameResolved(f"n{MAX_LOOKUPS}.local", None)]
    for number in range(MAX_NAMES):
        here.publish(f"n{number}.local", IP)
    with pytest.raises(LocalProtocolError, match="too many"):
        here.publish("more.local", IP)
