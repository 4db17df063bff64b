"""The TURN server's core under a script: clients that sign and clients that do not, peers, time."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fuzz.messages import METHODS, PEERS, attributes
from fuzz.reader import Reader
from natwalk.core import LocalProtocolError, Reach, Transport, reach
from natwalk.stun import (
    NONCE,
    REALM,
    USERNAME,
    IcmpError,
    Message,
    MessageClass,
    Method,
    encode,
)
from natwalk.turn import PeerPolicy, TurnLimits
from natwalk.turn.channel_data import encode_channel_data
from turn_world import LAB, REALM_NAME, USERS, Raw, World, make_config

MOST_STEPS: Final = 24
WAITS: Final = (0.1, 1.0, 29.0, 59.0, 61.0, 299.0, 301.0, 599.0, 601.0, 3601.0)
TINY: Final = TurnLimits(
    allocations=2,
    allocations_per_user=1,
    permissions_per_allocation=2,
    channels_per_allocation=1,
    connections_per_allocation=1,
    bandwidth_per_user=200,
    bandwidth=300,
    bytes_per_user_per_day=1000,
    new_peers_rate=1.0,
    new_peers_burst=2.0,
)
_MAY_BE_SENT_TO: Final = {Reach.GLOBAL, Reach.DOCUMENTATION}


def turn_server(data: bytes) -> None:
    """No exception, nothing sent to an address the policy denies, and nothing left open at the end."""
    reader = Reader(data)
    flags = reader.number()
    config = make_config(
        tcp_relays=bool(flags & 1),
        mobility=bool(flags & 2),
        rfc5766_channels=bool(flags & 4),
        limits=TINY if flags & 32 else TurnLimits(),
    )
    world = World(config)
    clients = [
        world.raw_client(50000),
        world.raw_client(50001, username="bob"),
        world.raw_client(50002, transport=Transport.TCP),
    ]
    for client in clients:
        client.challenge()
    if flags & 8:
        clients[0].allocate()
    if flags & 16:
        clients[2].allocate_tcp()
    world.run()
    for _ in range(MOST_STEPS):
        if not reader.left:
            break
        _step(world, reader.choice(clients), reader)
    assert all(reach(out.path.remote.ip) in _MAY_BE_SENT_TO for out in world.to_peers)
    world.server.close(world.now)
    world.run()
    assert not world.relays
    assert not world.tcp_relays
    assert not world.connections
    assert world.server.stats.allocations == 0


def _step(world: World, client: Raw, reader: Reader) -> None:
    match reader.number() % 13:
        case 0:
            client.say(reader.blob())
        case 1 | 2 | 3:
            _say(client, reader, MessageClass.REQUEST, signed=True)
        case 4:
            _say(client, reader, reader.choice(tuple(MessageClass)), signed=False)
        case 5:
            _say(client, reader, MessageClass.INDICATION, signed=False)
        case 6:
            channel = 0x4000 + reader.number() % 4
            client.say(encode_channel_data(channel, reader.blob()))
        case 7:
            if world.relays:
                world.from_peer(reader.blob(), reader.choice(sorted(world.relays)), reader.choice(PEERS))
        case 8:
            world.run(reader.choice(WAITS))
        case 9:
            if world.relays:
                error = IcmpError(reader.number() & 127, reader.number())
                relay = reader.choice(sorted(world.relays))
                world.server.icmp_received(relay, reader.choice(PEERS), error, world.now)
                world.run()
        case 10:
            _peer_connections(world, reader)
        case 11:
            client.close()
        case _:
            _administer(world, reader)


def _administer(world: World, reader: Reader) -> None:
    """What an operator does to a running server."""
    match reader.number() % 4:
        case 0:
            world.server.disconnect(reader.choice(("alice", "bob", "nobody")), world.now)
        case 1:
            world.server.drain(world.now, reader.choice((None, *PEERS)))
        case _:
            users = dict(
                reader.choice((tuple(USERS.items()), tuple(USERS.items())[:1], (("eve", "her password"),)))
            )
            limits = reader.choice((TurnLimits(), TINY))
            allow = reader.choice((LAB, LAB[:1]))
            config = replace(world.server.config, users=users, limits=limits, policy=PeerPolicy(allow=allow))
            world.server.reconfigure(config, world.now)
    world.run()


def _peer_connections(world: World, reader: Reader) -> None:
    what = reader.number() % 4
    if what == 0 and world.tcp_relays:
        world.peer_connects(reader.choice(sorted(world.tcp_relays)), reader.choice(PEERS))
    elif what == 1 and world.connecting:
        world.answer_connect(reader.choice(sorted(world.connecting)), succeeds=bool(reader.number() & 1))
    elif what == 2 and world.connections:
        pause = world.server.transferred(
            reader.choice(sorted(world.connections)), reader.number(2), reader.number(2), world.now
        )
        assert pause >= 0
    elif world.connections:
        gone = reader.choice(sorted(world.connections))
        world.server.connection_closed(gone, world.now)
        world.connections.discard(gone)
        world.run()


def _say(client: Raw, reader: Reader, message_class: MessageClass, *, signed: bool) -> None:
    """Send a message of ``message_class``; one in four of the signed ones is damaged on the way."""
    method = Method.SEND if message_class is MessageClass.INDICATION else reader.choice(METHODS)
    damage = reader.number()
    extra = attributes(reader)
    if signed:
        extra += ((USERNAME, client.username), (REALM, REALM_NAME), (NONCE, client.nonce))
    message = Message(method, message_class, client.world.random.randbytes(12), extra)
    try:
        raw = bytearray(encode(message, integrity_key=client.key() if signed else None))
    except LocalProtocolError:
        return
    if damage & 3 == 3:
        raw[(damage >> 2) % len(raw)] ^= reader.number() or 1
    client.say(bytes(raw))
