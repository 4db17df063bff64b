"""The real rendezvous cores over simulated channels."""

from __future__ import annotations

import pytest

from natwalk.core import Address
from natwalk.rendezvous.client import (
    MailboxOpened,
    NameplateAllocated,
    PeerMessage,
    RendezvousClient,
    RendezvousFailed,
)
from natwalk.rendezvous.limits import RendezvousLimits
from natwalk.rendezvous.server import RendezvousServer
from natwalk.sim import Driver, SimulationError, attach_messages
from natwalk.sim.channel import Channel
from natwalk.sim.internet import Internet, two_peers
from natwalk.sim.rendezvous import RendezvousHub


class Meeting:
    """Two clients and their server, with a channel each."""

    def __init__(self, limits: RendezvousLimits | None = None) -> None:
        self.internet: Internet = two_peers("udp-blocked", "symmetric", seed=5)
        network = self.internet.network
        core = RendezvousServer(limits or RendezvousLimits(), random_bytes=self.internet.server.random_bytes)
        self.hub = RendezvousHub(network, core)
        self.channels = self.internet.channels()
        self.clients: list[RendezvousClient] = []
        self.drivers: list[Driver[object]] = []
        for site, channel in zip((self.internet.a, self.internet.b), self.channels, strict=True):
            self.hub.accept(channel.b, Address(site.public, 0).ip)
            client = RendezvousClient(random_bytes=site.host.random_bytes)
            self.clients.append(client)
            self.drivers.append(attach_messages(network, client, site.host, channel.a))

    def event(self, side: int, kind: type) -> object:
        """The first event of that kind on a side, awaited for 30 virtual seconds."""
        events = self.drivers[side].events
        found = lambda: [event for event in events if isinstance(event, kind)]  # noqa: E731
        assert self.internet.network.run_for(30, stop=lambda: bool(found())), (
            self.internet.network.trace.text()
        )
        return found()[0]

    def meet(self) -> None:
        self.drivers[0].do(self.clients[0].allocate)
        nameplate = self.event(0, NameplateAllocated).nameplate
        self.drivers[1].do(self.clients[1].claim, nameplate)
        self.event(0, MailboxOpened)
        self.event(1, MailboxOpened)


def test_two_clients_meet_whatever_their_nats() -> None:
    meeting = Meeting()
    meeting.meet()
    meeting.drivers[0].do(meeting.clients[0].add, "greeting", b"hello")
    assert meeting.event(1, PeerMessage).body == b"hello"
    assert meeting.hub.server.connections == 2


def test_after_a_cut_the_channel_comes_back_and_nothing_is_lost() -> None:
    meeting = Meeting()
    meeting.meet()
    channel: Channel = meeting.channels[1]
    channel.cut()
    meeting.internet.network.run_for(1)
    assert meeting.hub.server.connections == 1
    meeting.drivers[0].do(meeting.clients[0].add, "offer", b"while you were away")
    meeting.internet.network.after(5, channel.restore)
    assert meeting.event(1, PeerMessage).body == b"while you were away"


def test_a_refusal_arrives_before_the_server_closes() -> None:
    meeting = Meeting()
    meeting.drivers[1].do(meeting.clients[1].claim, 4711)
    assert isinstance(meeting.event(1, RendezvousFailed), RendezvousFailed)
    meeting.internet.network.run_for(5)
    assert not meeting.channels[1].connected
    assert meeting.hub.server.connections == 1


def test_the_servers_own_timers_run() -> None:
    """A connection that asks for no mailbox is closed after the join timeout."""
    meeting = Meeting(RendezvousLimits(join_timeout=3.0))
    network = meeting.internet.network
    network.run_for(1)
    assert meeting.hub.server.connections == 2
    network.run_for(5)
    assert meeting.hub.server.connections == 0


def test_a_server_that_never_ends_is_an_error() -> None:
    meeting = Meeting()
    meeting.hub.server.poll_message = lambda: (99, "x")  # type: ignore[method-assign]
    with pytest.raises(SimulationError, match="messages at once"):
        meeting.internet.network.run()
