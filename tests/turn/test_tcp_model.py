"""Connections of a TCP allocation against a small model (FAULTS 167, RFC 6062 §5)."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from natwalk.core import Transport
from natwalk.stun import CONNECTION_ID
from natwalk.turn import TurnLimits
from turn_world import PEER, Raw, World, code_of, make_config

MOST = 3
PEERS = [PEER.with_port(7000 + n) for n in range(5)]


@dataclass
class Connection:
    """``since`` is when its state began; ``client`` is the connection of the client it is joined with."""

    peer: int
    state: str
    since: float
    client: Raw | None = None


class TcpMachine(RuleBasedStateMachine):
    """One allocation: each connection is connecting, unbound or joined, and the driver has just those."""

    def __init__(self) -> None:
        super().__init__()
        limits = TurnLimits(
            connections_per_allocation=MOST, refusals_rate=1e6, refusals_burst=1e6, new_peers_burst=1e6
        )
        self.world = World(make_config(tcp_relays=True, limits=limits, nonce_lifetime=1e6))
        self.control = self.world.raw_client(50_000, transport=Transport.TCP)
        self.connections: dict[int, Connection] = {}
        self.permitted = 0.0
        self.ports = iter(range(51_000, 60_000))

    @initialize()
    def start(self) -> None:
        assert code_of(self.control.allocate_tcp()) == 0
        self.lives_until = self.world.now + 600

    def holds(self, peer: int) -> bool:
        return any(connection.peer == peer for connection in self.connections.values())

    def settle(self) -> None:
        now = self.world.now
        if self.lives_until <= now:
            self.connections.clear()
            self.permitted = 0.0
            self.start()
        for connection_id, connection in list(self.connections.items()):
            if connection.state != "joined" and connection.since + 30 <= now:
                del self.connections[connection_id]

    @rule(peer=st.integers(0, 4))
    def connect(self, peer: int) -> None:
        before = set(self.world.connecting)
        answer = self.control.connect(PEERS[peer])
        if self.holds(peer):
            assert code_of(answer) == 446
        elif len(self.connections) >= MOST:
            assert code_of(answer) == 508
        else:
            assert answer is None
            [connection_id] = set(self.world.connecting) - before
            self.connections[connection_id] = Connection(peer, "connecting", self.world.now)

    @precondition(lambda self: self.world.connecting)
    @rule(succeeds=st.booleans(), data=st.data())
    def answer_connect(self, succeeds: bool, data: st.DataObject) -> None:
        connection_id = data.draw(st.sampled_from(sorted(self.world.connecting)))
        self.control.inbox()
        self.world.answer_connect(connection_id, succeeds=succeeds)
        [answer] = self.control.inbox()
        assert code_of(answer) == (0 if succeeds else 447)
        if succeeds:
            assert answer.get(CONNECTION_ID) == connection_id
            self.connections[connection_id].state = "unbound"
            self.connections[connection_id].since = self.world.now
        else:
            del self.connections[connection_id]

    @rule()
    def permit(self) -> None:
        assert self.control.permit(PEER) == 0
        self.permitted = self.world.now + 300

    @rule(peer=st.integers(0, 4))
    def accept(self, peer: int) -> None:
        connection_id = self.world.peer_connects(self.control.relayed or PEER, PEERS[peer])
        allowed = self.permitted > self.world.now
        if allowed and not self.holds(peer) and len(self.connections) < MOST:
            assert connection_id is not None
            self.connections[connection_id] = Connection(peer, "unbound", self.world.now)
        else:
            assert connection_id is None

    @precondition(lambda self: self.connections)
    @rule(data=st.data(), user=st.sampled_from(["alice", "alice", "alice", "bob"]))
    def bind(self, data: st.DataObject, user: str) -> None:
        connection_id = data.draw(st.sampled_from(sorted(self.connections)))
        connection = self.connections[connection_id]
        client = self.world.raw_client(next(self.ports), username=user, transport=Transport.TCP)
        code = client.bind_connection(connection_id)
        if connection.state != "unbound":
            assert code == 400
        elif user == "bob":
            assert code == 441
        else:
            assert code == 0
            connection.state, connection.client = "joined", client

    @precondition(lambda self: any(c.client for c in self.connections.values()))
    @rule(data=st.data(), by_client=st.booleans())
    def end_connection(self, data: st.DataObject, by_client: bool) -> None:
        joined = sorted(n for n, c in self.connections.items() if c.client is not None)
        connection_id = data.draw(st.sampled_from(joined))
        client = self.connections.pop(connection_id).client
        assert client is not None
        if by_client:
            client.close()
        else:
            self.world.connections.remove(connection_id)
            self.world.server.connection_closed(connection_id, self.world.now)

    @rule(seconds=st.sampled_from([1.0, 29.5, 30.5, 270.5]))
    def wait(self, seconds: float) -> None:
        self.world.run(seconds)
        self.settle()

    @rule(closes=st.booleans())
    def end(self, closes: bool) -> None:
        """By its connection or by a Refresh: everything of it goes, and another can be made."""
        if closes:
            self.control.close()
        else:
            assert code_of(self.control.refresh(0)) == 0
        self.connections.clear()
        assert self.world.tcp_relays == set()
        self.permitted = 0.0
        self.start()

    @invariant()
    def the_driver_has_just_those(self) -> None:
        states = {n: connection.state for n, connection in self.connections.items()}
        assert set(self.world.connecting) == {n for n, state in states.items() if state == "connecting"}
        assert self.world.connections == {n for n, state in states.items() if state != "connecting"}
        assert self.world.server.stats.connections == len(states)
        assert len(self.world.tcp_relays) <= 1


TestTcpModel = TcpMachine.TestCase
TestTcpModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
