"""The server against a model that knows the RFC's rules and nothing of the code (FAULTS 167)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from natwalk.core import Address, Transport
from natwalk.stun import (
    ADDITIONAL_ADDRESS_FAMILY,
    DATA,
    EVEN_PORT,
    LIFETIME,
    MOBILITY_TICKET,
    REQUESTED_ADDRESS_FAMILY,
    RESERVATION_TOKEN,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    Message,
    Method,
    decode,
)
from natwalk.turn import PeerPolicy, TurnConfig, TurnLimits
from natwalk.turn.channel_data import decode_channel_data, encode_channel_data
from turn_world import LAB, World, code_of, make_config

PER_USER, TOTAL, PERMISSIONS, CHANNELS = 3, 4, 3, 2
USERS = ("alice", "alice", "alice", "bob", "bob", "bob")
STREAMS = (False, False, True, False, True, False)
PEERS = (
    Address("192.0.2.77", 7000),
    Address("192.0.2.77", 7001),
    Address("192.0.2.78", 7000),
    Address("192.0.2.79", 7000),
    Address("2001:db8::77", 7000),
)


@dataclass(eq=False)
class Model:
    """One allocation: what expires when. ``relays`` and ``permissions`` map to expiries, ``channels`` to
    peer and expiry."""

    user: str
    client: int | None
    relays: dict[Address, float]
    ticket: bytes = b""
    permissions: dict[str, float] = field(default_factory=dict)
    channels: dict[int, tuple[Address, float]] = field(default_factory=dict)

    def relay(self, version: int) -> Address | None:
        return next((relay for relay in self.relays if relay.version == version), None)

    def permits(self, peer: Address) -> bool:
        return peer.host in self.permissions

    def flows(self, now: float) -> int:
        bound = [peer for peer, expires in self.channels.values() if expires > now]
        return sum(map(self.permits, bound)) if self.client is not None else 0

    def pass_time(self, now: float) -> None:
        self.permissions = {host: at for host, at in self.permissions.items() if at > now}
        self.channels = {n: (peer, at) for n, (peer, at) in self.channels.items() if at + 300 > now}
        for relay in [relay for relay, at in self.relays.items() if at <= now]:
            self.close(relay)

    def close(self, relay: Address) -> None:
        """RFC 8656 §8.2: with the permissions and channels of its family."""
        del self.relays[relay]
        version = relay.version
        self.permissions = {h: at for h, at in self.permissions.items() if Address(h, 0).version != version}
        self.channels = {n: c for n, c in self.channels.items() if c[0].version != version}


clients = st.sampled_from([0, 0, 0, 0, 2, 2, 3, 3, 3, 1, 4, 5])  # some busier, to get far with them
peers, numbers = st.sampled_from((PEERS[0], PEERS[0], PEERS[-1], *PEERS)), st.integers(0x4000, 0x4002)
lifetimes = st.sampled_from([5000, 3000, 600, 1, 0])
kinds = st.sampled_from(["v4", "v6", "both", "pair", "even"])


class TurnMachine(RuleBasedStateMachine):
    """Six clients of two users, some on streams; every answer and every datagram is what the model says."""

    def __init__(self) -> None:
        super().__init__()
        self.per_user, self.denied, self.draining, self.turn = PER_USER, "", False, 0
        self.world = World(self.config())
        self.raws = [
            self.world.raw_client(
                50_000 + n, username=user, transport=Transport.TCP if stream else Transport.UDP
            )
            for n, (user, stream) in enumerate(zip(USERS, STREAMS, strict=True))
        ]
        for raw in self.raws:
            raw.challenge()
        self.allocations: list[Model] = []
        self.reserved: dict[bytes, tuple[str, Address, float]] = {}

    def config(self) -> TurnConfig:
        limits = TurnLimits(
            allocations=TOTAL,
            allocations_per_user=self.per_user,
            permissions_per_allocation=PERMISSIONS,
            channels_per_allocation=CHANNELS,
            refusals_rate=1e6,
            refusals_burst=1e6,
            new_peers_rate=1e6,
            new_peers_burst=1e6,
        )
        policy = PeerPolicy(allow=LAB, deny=[self.denied] if self.denied else [])
        return make_config(limits=limits, nonce_lifetime=1e6, policy=policy)

    @initialize(kind=kinds, mobile=st.booleans())
    def start(self, kind: str, mobile: bool) -> None:
        for who in (0, 2, 3):
            self.make(who, 5000, kind if who == 0 else "both", mobile)
            self.permit_all(who, [PEERS[0]])
            self.permit_all(who, [PEERS[-1]])

    def of(self, who: int) -> Model | None:
        return next((model for model in self.allocations if model.client == who), None)

    def held(self) -> Counter[str]:
        """What counts against the quota of each user."""
        return Counter([m.user for m in self.allocations] + [user for user, _, _ in self.reserved.values()])

    def settle(self) -> None:
        now = self.world.now
        for model in self.allocations:
            model.pass_time(now)
        self.allocations = [model for model in self.allocations if model.relays]
        self.reserved = {token: held for token, held in self.reserved.items() if held[2] > now}

    def ask(self, who: int, method: Method, *attributes: Any) -> tuple[int, Message]:
        answer = self.raws[who].signed(method, *attributes)
        assert answer is not None
        return code_of(answer), answer

    def quota(self, user: str, more: int, freed: str | None = None) -> int:
        if self.draining:
            return 508
        held = self.held() - Counter([freed] if freed else [])
        if held[user] + more > self.per_user:
            return 486
        return 508 if held.total() + more > TOTAL else 0

    def take_in(self, who: int, answer: Message, lifetime: int) -> None:
        at = self.world.now + max(600, min(lifetime, 3600))
        relays = dict.fromkeys(answer.all(XOR_RELAYED_ADDRESS), at)
        assert relays
        ticket = answer.get(MOBILITY_TICKET) or b""
        self.allocations.append(Model(USERS[who], who, relays, ticket))

    @rule(
        who=clients,
        lifetime=lifetimes,
        kind=st.sampled_from(["v4", "v6", "both", "pair", "even"]),
        mobile=st.booleans(),
    )
    def allocate(self, who: int, lifetime: int, kind: str, mobile: bool) -> None:
        self.make(who, lifetime, kind, mobile)

    def make(self, who: int, lifetime: int, kind: str, mobile: bool) -> None:
        wish: dict[str, tuple[Any, ...]] = {
            "v4": (),
            "v6": ((REQUESTED_ADDRESS_FAMILY, 2),),
            "both": ((ADDITIONAL_ADDRESS_FAMILY, 2),),
            "pair": ((EVEN_PORT, True),),
            "even": ((EVEN_PORT, False),),
        }
        attributes = (*wish[kind], (LIFETIME, lifetime), *([(MOBILITY_TICKET, b"")] if mobile else []))
        answer = self.raws[who].allocate(*attributes)
        expected = 437 if self.of(who) else self.quota(USERS[who], 2 if kind == "pair" else 1)
        assert code_of(answer) == expected
        if expected:
            return
        self.take_in(who, answer, lifetime)
        versions = [relay.version for relay in answer.all(XOR_RELAYED_ADDRESS)]
        assert versions == {"v6": [6], "both": [4, 6]}.get(kind, [4])
        assert (MOBILITY_TICKET in answer) is mobile
        token = answer.get(RESERVATION_TOKEN)
        assert (token is not None) is (kind == "pair")
        if token is not None:
            [relay] = answer.all(XOR_RELAYED_ADDRESS)
            assert relay.port % 2 == 0
            self.reserved[token] = USERS[who], relay.with_port(relay.port + 1), self.world.now + 30

    @precondition(lambda self: self.reserved)
    @rule(who=clients, data=st.data())
    def redeem(self, who: int, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(sorted(self.reserved)))
        user, address, _ = self.reserved[token]
        answer = self.raws[who].allocate((RESERVATION_TOKEN, token))
        expected = 437 if self.of(who) else self.quota(USERS[who], 1, freed=user)
        assert code_of(answer) == expected
        if not expected:
            del self.reserved[token]
            self.take_in(who, answer, 600)
            assert answer.all(XOR_RELAYED_ADDRESS) == [address]

    @rule(who=clients, lifetime=lifetimes, family=st.sampled_from([None, 1, 2]))
    def refresh(self, who: int, lifetime: int, family: int | None) -> None:
        only = () if family is None else ((REQUESTED_ADDRESS_FAMILY, family),)
        code, _ = self.ask(who, Method.REFRESH, (LIFETIME, lifetime), *only)
        model = self.of(who)
        if model is None:
            assert code == 437
            return
        relays = [relay for relay in model.relays if family in {None, {4: 1, 6: 2}[relay.version]}]
        assert code == (0 if relays else 443)
        self.refreshed(model, relays, lifetime)

    def refreshed(self, model: Model, relays: list[Address], lifetime: int) -> None:
        for relay in relays:
            if lifetime:
                model.relays[relay] = self.world.now + max(600, min(lifetime, 3600))
            else:
                model.close(relay)
        self.settle()

    @precondition(lambda self: any(model.ticket for model in self.allocations))
    @rule(to=clients, lifetime=lifetimes, data=st.data())
    def move(self, to: int, lifetime: int, data: st.DataObject) -> None:
        model = data.draw(st.sampled_from([m for m in self.allocations if m.ticket]))
        attributes = ((LIFETIME, lifetime), (MOBILITY_TICKET, model.ticket))
        code, answer = self.ask(to, Method.REFRESH, *attributes)
        here = model.client == to
        expected = 441 if model.user != USERS[to] else 437 if not here and self.of(to) else 0
        assert code == expected
        if expected:
            return
        if lifetime:
            ticket = answer.get(MOBILITY_TICKET)
            assert ticket
            assert (ticket == model.ticket) is here
            model.client, model.ticket = to, ticket
        self.refreshed(model, list(model.relays), lifetime)

    @rule(who=st.sampled_from([n for n, stream in enumerate(STREAMS) if stream]))
    def close_connection(self, who: int) -> None:
        self.raws[who].close()
        model = self.of(who)
        if model is not None and model.ticket:
            model.client = None
        elif model is not None:
            self.allocations.remove(model)

    @rule(who=clients, wanted=st.lists(peers, min_size=1, max_size=4))
    def permit(self, who: int, wanted: list[Address]) -> None:
        self.permit_all(who, wanted)

    def permit_all(self, who: int, wanted: list[Address]) -> None:
        code = self.raws[who].permit(*wanted)
        model = self.of(who)
        if model is None:
            expected = 437
        elif not all(model.relay(peer.version) for peer in wanted):
            expected = 443
        elif any(peer.host == self.denied for peer in wanted):
            expected = 403
        else:
            expected = 508 if len({*model.permissions, *(p.host for p in wanted)}) > PERMISSIONS else 0
            if not expected:
                model.permissions |= {peer.host: self.world.now + 300 for peer in wanted}
        assert code == expected

    @rule(who=clients, number=numbers, peer=peers)
    def bind(self, who: int, number: int, peer: Address) -> None:
        code = self.raws[who].bind_channel(number, peer)
        assert code == self.binding(self.of(who), number, peer)

    def binding(self, model: Model | None, number: int, peer: Address) -> int:
        if model is None:
            return 437
        if not model.relay(peer.version):
            return 443
        if peer.host == self.denied:
            return 403
        holder = next((n for n, (bound, _) in model.channels.items() if bound == peer), number)
        if model.channels.get(number, (peer,))[0] != peer or holder != number:
            return 400
        if number not in model.channels and len(model.channels) >= CHANNELS:
            return 508
        if peer.host not in model.permissions and len(model.permissions) >= PERMISSIONS:
            return 508
        model.channels[number] = peer, self.world.now + 600
        model.permissions[peer.host] = self.world.now + 300
        return 0

    @rule(who=clients, peer=peers)
    def send(self, who: int, peer: Address) -> None:
        self.raws[who].indicate((XOR_PEER_ADDRESS, peer), (DATA, b"data"))
        model = self.of(who)
        relay = model.relay(peer.version) if model is not None and model.permits(peer) else None
        self.leaves(relay, peer)

    @rule(who=clients, number=numbers)
    def channel_data(self, who: int, number: int) -> None:
        self.raws[who].say(encode_channel_data(number, b"data"))
        model = self.of(who)
        peer, expires = model.channels.get(number, (None, 0.0)) if model is not None else (None, 0.0)
        bound = model is not None and peer is not None and expires > self.world.now
        self.leaves(model.relay(peer.version) if bound and model and peer else None, peer)

    def leaves(self, relay: Address | None, peer: Address | None) -> None:
        """Exactly one datagram left for ``peer``, or none without ``relay``."""
        found = [(out.path.local, out.path.remote) for out in self.world.to_peers]
        self.world.to_peers.clear()
        assert found == ([] if relay is None else [(relay, peer)])

    @invariant()
    def peers_reach_whom_they_may(self) -> None:
        """One peer after the other sends to every relayed address."""
        peer = PEERS[self.turn % len(PEERS)]
        self.turn += 1
        for model in self.allocations:
            if (relay := model.relay(peer.version)) is not None:
                self.arrives(model, relay, peer)

    def arrives(self, model: Model, relay: Address, peer: Address) -> None:
        for inbox in self.world.raw.values():
            inbox.clear()
        self.world.from_peer(b"data", relay, peer)
        arrived = [(n, got) for n, raw in enumerate(self.raws) for got in self.world.raw[raw.address]]
        if model.client is None or not model.permits(peer):
            assert arrived == []
            return
        [(client, got)] = arrived
        assert client == model.client
        now = self.world.now
        channel = next((n for n, (to, at) in model.channels.items() if to == peer and at > now), None)
        if channel is None:
            message = decode(got)
            assert (message.get(XOR_PEER_ADDRESS), message.get(DATA)) == (peer, b"data")
        else:
            assert decode_channel_data(got) == (channel, b"data")

    def deadlines(self) -> list[float]:
        """When anything of the model ends, and the five minutes a channel number is kept for its peer."""
        found = [at for model in self.allocations for at in model.relays.values()]
        found += [at for model in self.allocations for at in model.permissions.values()]
        for model in self.allocations:
            found += [at + more for _, at in model.channels.values() for more in (0, 300)]
        found += [at for _, _, at in self.reserved.values()]
        return sorted({at for at in found if at > self.world.now + 1.0})

    @precondition(lambda self: self.deadlines())
    @rule(late=st.booleans(), data=st.data())
    def wait(self, late: bool, data: st.DataObject) -> None:
        """To just before or just after something ends: mostly the next thing."""
        due = self.deadlines()[:3]
        at = due[min(data.draw(st.integers(0, 5)) // 2, len(due) - 1)] + (0.25 if late else -0.25)
        self.world.run(at - self.world.now)
        self.settle()

    @rule(seconds=st.sampled_from([1.0, 10.0, 100.0]))
    def idle(self, seconds: float) -> None:
        self.world.run(seconds)
        self.settle()

    @rule(denied=st.sampled_from(["", PEERS[0].host, PEERS[3].host]), per_user=st.sampled_from([1, PER_USER]))
    def reload(self, denied: str, per_user: int) -> None:
        """What the new policy refuses is cut at once; quotas count from now on."""
        self.denied, self.per_user = denied, per_user
        self.world.server.reconfigure(self.config(), self.world.now)
        self.world.run()
        for model in self.allocations:
            model.permissions.pop(denied, None)
            model.channels = {n: c for n, c in model.channels.items() if c[0].host != denied}

    @precondition(lambda self: self.world.now > 2000.0)
    @rule(user=st.sampled_from(sorted(set(USERS))))
    def disconnect(self, user: str) -> None:
        ended = self.world.server.disconnect(user, self.world.now)
        self.world.run()
        assert ended == sum(model.user == user for model in self.allocations)
        self.allocations = [model for model in self.allocations if model.user != user]

    @precondition(lambda self: self.world.now > 3000.0)
    @rule()
    def drain(self) -> None:
        self.world.server.drain(self.world.now)
        self.draining = True

    @precondition(lambda self: self.world.now > 3000.0)
    @rule()
    def kill(self) -> None:
        self.world.server.close(self.world.now)
        self.world.run()
        self.allocations.clear()
        self.reserved.clear()

    @invariant()
    def tables_agree(self) -> None:
        """Quotas, ports, permissions and flows are those of the model, to the last one."""
        server, now = self.world.server, self.world.now
        stats = server.stats
        assert stats.allocations == len(self.allocations)
        relays = {relay for model in self.allocations for relay in model.relays}
        relays |= {address for _, address, _ in self.reserved.values()}
        assert self.world.relays == relays
        assert stats.relay_ports == len(relays)
        assert stats.permissions == sum(len(model.permissions) for model in self.allocations)
        assert stats.flows == sum(model.flows(now) for model in self.allocations)
        upcoming = server.next_timeout()
        assert upcoming is None or upcoming > now
        assert self.world.tcp_relays == set()

    def teardown(self) -> None:
        """Whatever happened, in time nothing is left."""
        self.world.run(5000.0)
        assert self.world.server.stats.allocations == 0
        assert self.world.server.next_timeout() is None
        assert self.world.relays == set()


TestTurnModel = TurnMachine.TestCase
TestTurnModel.settings = settings(
    max_examples=100,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
