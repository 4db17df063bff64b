"""A TURN server core with clients around it, on a virtual clock and an in-memory network."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from natwalk.core import Address, Path, Transmit, Transport
from natwalk.stun import (
    CHANNEL_NUMBER,
    CONNECTION_ID,
    ERROR_CODE,
    LIFETIME,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    NONCE,
    REALM,
    REQUESTED_TRANSPORT,
    USERNAME,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    Message,
    Method,
    check_integrity,
    decode,
    encode,
    indication,
    long_term_key,
    request,
)
from natwalk.turn import (
    AllocationOptions,
    ConnectionReleased,
    ConnectWanted,
    PasswordCredentials,
    PeerPolicy,
    RelayReleased,
    RelayWanted,
    TurnClient,
    TurnConfig,
    TurnServer,
)

RELAY = "203.0.113.50"
RELAY6 = "2001:db8::50"
LISTENER = Address("203.0.113.50", 3478)
PEER = Address("192.0.2.77", 7000)
REALM_NAME = "natwalk"
USERS = {"alice": "correct horse", "bob": "battery staple"}
LAB = ("203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24", "2001:db8::/32")


def seeded(seed: int = 1) -> Callable[[int], bytes]:
    """A ``random_bytes`` that repeats itself for the same seed."""
    return random.Random(seed).randbytes


def make_config(**overrides: Any) -> TurnConfig:
    settings: dict[str, Any] = {
        "realm": REALM_NAME,
        "users": USERS,
        "relay_addresses": (RELAY, RELAY6),
        "policy": PeerPolicy(allow=LAB),
    }
    return TurnConfig(**(settings | overrides))


class World:
    """The server, its driver and everybody else; ``loss`` and ``delay`` apply between clients and server.

    ``to_peers`` collects what left relay sockets for addresses that are neither clients nor relays. Clients
    may sit on streams, which lose nothing. Peers that accept connections are in ``accepting``, connections
    that are open in ``connections``; a ConnectWanted to any other peer stays in ``connecting``.
    """

    def __init__(
        self,
        config: TurnConfig | None = None,
        *,
        loss: float = 0.0,
        duplicate: float = 0.0,
        delay: float = 0.0,
        seed: int = 1,
        now: float = 1000.0,
    ) -> None:
        self.random = random.Random(seed)
        self.loss, self.duplicate, self.delay = loss, duplicate, delay
        self.now = now
        self.server = TurnServer(config or make_config(), random_bytes=self.random.randbytes)
        self.transports: set[Transport] = set()
        self.listen(Transport.UDP)
        self.clients: dict[Address, TurnClient] = {}
        self.raw: dict[Address, list[bytes]] = {}
        self.events: dict[Address, list[Any]] = {}
        self.server_events: list[Any] = []
        self.to_peers: list[Transmit] = []
        self.relays: set[Address] = set()
        self.tcp_relays: set[Address] = set()
        self.accepting: set[Address] = set()
        self.connecting: dict[int, ConnectWanted] = {}
        self.connections: set[int] = set()
        self.unbindable: set[int] = set()
        self._queue: list[tuple[float, int, Transmit]] = []
        self._order = count()

    def client(self, port: int = 40000, *, host: str = "198.51.100.7", **options: Any) -> TurnClient:
        """A TurnClient of the world, at ``host:port``."""
        username = options.pop("username", "alice")
        password = options.pop("password", USERS.get(username, "?"))
        credentials = options.pop("credentials", None) or PasswordCredentials(username, password)
        local = Address(host, port)
        transport = options.pop("transport", Transport.UDP)
        self.listen(transport)
        client = TurnClient(
            LISTENER,
            local,
            credentials,
            random_bytes=self.random.randbytes,
            transport=transport,
            options=AllocationOptions(**options),
        )
        self.clients[local] = client
        self.events[local] = []
        return client

    def raw_client(
        self,
        port: int = 50000,
        *,
        host: str = "198.51.100.9",
        username: str = "alice",
        transport: Transport = Transport.UDP,
    ) -> Raw:
        """A client that says exactly what the test wants."""
        address = Address(host, port)
        self.listen(transport)
        self.raw[address] = []
        return Raw(self, address, username, transport)

    def listen(self, transport: Transport) -> None:
        """Have the server serve LISTENER over ``transport``, too."""
        if transport not in self.transports:
            self.transports.add(transport)
            self.server.add_listener(LISTENER, transport)

    def deliver(self, data: bytes, path: Path, dont_fragment: bool = False) -> None:
        """Put a datagram on the network that goes from ``path.local`` to ``path.remote``."""
        lossy = path.local in self.clients or path.remote in self.clients
        lossy = lossy and not path.transport.is_stream
        if lossy and self.random.random() < self.loss:
            return
        copies = 2 if lossy and self.random.random() < self.duplicate else 1
        for _ in range(copies):
            late = self.random.random() * self.delay if lossy else 0.0
            out = Transmit(data, path, dont_fragment)
            heapq.heappush(self._queue, (self.now + late, next(self._order), out))

    def peer_connects(self, relay: Address, peer: Address = PEER) -> int | None:
        """``peer`` opens a TCP connection to ``relay``: its id, or None when the server refuses it."""
        connection_id = self.server.peer_accepted(relay, peer, self.now)
        if connection_id is not None:
            self.connections.add(connection_id)
        self.run()
        return connection_id

    def answer_connect(self, connection_id: int, *, succeeds: bool = True) -> None:
        """The connection that the server wants is open, or refused by the peer."""
        del self.connecting[connection_id]
        if succeeds:
            self.connections.add(connection_id)
            self.server.peer_connected(connection_id, self.now)
        else:
            self.server.peer_connect_failed(connection_id, self.now)
        self.run()

    def run(self, seconds: float = 0.0) -> None:
        """Let ``seconds`` pass, with everything that happens meanwhile."""
        end = self.now + seconds
        for _ in range(200_000):
            self._pump()
            upcoming = [at for at, *_ in self._queue[:1]]
            upcoming += [at for core in self._cores() if (at := core.next_timeout()) is not None]
            if not upcoming or min(upcoming) > end:
                self.now = max(self.now, end)
                return
            self.now = max(self.now, min(upcoming))
            self._deliver_due()
            for core in self._cores():
                core.handle_timeout(self.now)
        raise AssertionError("the world does not come to rest")

    def from_peer(self, data: bytes, relay: Address, peer: Address = PEER) -> None:
        """``peer`` sends to ``relay``."""
        self.server.receive(data, Path(relay, peer), self.now)
        self.run()

    def allocated(self, port: int = 40000, **options: Any) -> TurnClient:
        """A client with an allocation."""
        client = self.client(port, **options)
        client.allocate(self.now)
        self.run()
        assert client.relayed is not None, self.events[client.local]
        return client

    def _cores(self) -> Iterator[Any]:
        yield self.server
        yield from self.clients.values()

    def _pump(self) -> None:
        for _ in range(100_000):
            if not self._pump_server() + self._pump_clients() + self._deliver_due():
                return
        raise AssertionError("the world does not come to rest")

    def _pump_server(self) -> int:
        work = 0
        while (out := self.server.poll_transmit()) is not None:
            work += 1
            listening = out.path.local == LISTENER and out.path.transport in self.transports
            assert listening or (out.path.local in self.relays and out.path.transport is Transport.UDP)
            self.deliver(out.data, out.path, out.dont_fragment)
        while (event := self.server.poll_event()) is not None:
            work += 1
            self.server_events.append(event)
            self._take(event)
        return work

    def _take(self, event: Any) -> None:
        match event:
            case RelayWanted():
                self._open(event)
            case RelayReleased(address, transport):
                (self.relays if transport is Transport.UDP else self.tcp_relays).remove(address)
            case ConnectWanted(connection_id, relay, peer):
                assert relay in self.tcp_relays
                self.connecting[connection_id] = event
                if peer in self.accepting:
                    del self.connecting[connection_id]
                    self.connections.add(connection_id)
                    self.server.peer_connected(connection_id, self.now)
            case ConnectionReleased(connection_id):
                if self.connecting.pop(connection_id, None) is None:
                    self.connections.remove(connection_id)
            case _:
                pass

    def _open(self, event: RelayWanted) -> None:
        taken = event.address in self.relays or event.address in self.tcp_relays
        if event.address.port in self.unbindable or taken:
            self.server.relay_failed(event.token, self.now)
        else:
            (self.relays if event.transport is Transport.UDP else self.tcp_relays).add(event.address)
            self.server.relay_opened(event.token, self.now)

    def _pump_clients(self) -> int:
        work = 0
        for local, client in self.clients.items():
            while (out := client.poll_transmit()) is not None:
                work += 1
                self.deliver(out.data, out.path)
            while (event := client.poll_event()) is not None:
                work += 1
                self.events[local].append(event)
        return work

    def _deliver_due(self) -> int:
        work = 0
        while self._queue and self._queue[0][0] <= self.now:
            out = heapq.heappop(self._queue)[2]
            data, path = out.data, out.path
            work += 1
            target, arrived = path.remote, Path(path.remote, path.local, path.transport)
            if target == LISTENER or target in self.relays:
                self.server.receive(data, arrived, self.now)
            elif target in self.clients:
                self.clients[target].receive(data, arrived, self.now)
            elif target in self.raw:
                self.raw[target].append(data)
            else:
                self.to_peers.append(out)
        return work


class Raw:
    """A hand-driven client: builds each request and returns the server's response."""

    def __init__(self, world: World, address: Address, username: str, transport: Transport) -> None:
        self.world = world
        self.address = address
        self.username = username
        self.path = Path(LISTENER, address, transport)
        """The 5-tuple as the server sees it."""
        self.nonce = b""
        self.relayed: Address | None = None

    def key(self, password: str | None = None, username: str | None = None) -> bytes:
        name = username or self.username
        return long_term_key(name, REALM_NAME, USERS.get(name, "?") if password is None else password)

    def say(self, data: bytes) -> list[bytes]:
        """Send bytes; what the server sends back at once."""
        inbox = self.world.raw[self.address]
        inbox.clear()
        self.world.server.receive(data, self.path, self.world.now)
        self.world.run()
        answers = list(inbox)
        inbox.clear()
        return answers

    def bare(self, method: Method, *attributes: Any, tid: bytes | None = None) -> Message | None:
        """An unsigned request and its response."""
        tid = tid or self.world.random.randbytes(12)
        return self._one(self.say(encode(request(method, tid, *attributes))))

    def challenge(self) -> None:
        """Get a nonce."""
        refused = self.bare(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))
        assert refused is not None
        nonce = refused.get(NONCE)
        assert nonce is not None
        self.nonce = nonce

    def signed(
        self,
        method: Method,
        *attributes: Any,
        tid: bytes | None = None,
        username: str | None = None,
        password: str | None = None,
        sha256: bool = False,
    ) -> Message | None:
        """A signed request and its response."""
        if not self.nonce:
            self.challenge()
        tid = tid or self.world.random.randbytes(12)
        name = username or self.username
        credentials = ((USERNAME, name), (REALM, REALM_NAME), (NONCE, self.nonce))
        message = request(method, tid, *attributes, *credentials)
        key = self.key(password, name)
        answer = self._one(self.say(encode(message, integrity_key=key, sha256=sha256)))
        if answer is not None and (MESSAGE_INTEGRITY in answer or MESSAGE_INTEGRITY_SHA256 in answer):
            check_integrity(answer, key, sha256=sha256)
        return answer

    def allocate(self, *attributes: Any, **options: Any) -> Message:
        """An Allocate for UDP that has to be answered."""
        answer = self.signed(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17), *attributes, **options)
        assert answer is not None
        self.relayed = answer.get(XOR_RELAYED_ADDRESS) or self.relayed
        return answer

    def refresh(self, lifetime: int | None, **options: Any) -> Message:
        attributes = () if lifetime is None else ((LIFETIME, lifetime),)
        answer = self.signed(Method.REFRESH, *attributes, **options)
        assert answer is not None
        return answer

    def allocate_tcp(self, *attributes: Any, **options: Any) -> Message:
        """An Allocate for TCP that has to be answered (RFC 6062 §4.1)."""
        answer = self.signed(Method.ALLOCATE, (REQUESTED_TRANSPORT, 6), *attributes, **options)
        assert answer is not None
        self.relayed = answer.get(XOR_RELAYED_ADDRESS) or self.relayed
        return answer

    def bind_channel(self, number: int, peer: Address) -> int:
        """ChannelBind; the error code, 0 for success."""
        return code_of(self.signed(Method.CHANNEL_BIND, (CHANNEL_NUMBER, number), (XOR_PEER_ADDRESS, peer)))

    def connect(self, peer: Address) -> Message | None:
        """Connect; None while the connection is not there."""
        return self.signed(Method.CONNECT, (XOR_PEER_ADDRESS, peer))

    def bind_connection(self, connection_id: int, **options: Any) -> int:
        """ConnectionBind on this client's connection; the error code, 0 for success."""
        return code_of(self.signed(Method.CONNECTION_BIND, (CONNECTION_ID, connection_id), **options))

    def close(self) -> None:
        """Close the connection."""
        self.world.server.client_closed(self.path, self.world.now)
        self.world.run()

    def permit(self, *peers: Address) -> int:
        """CreatePermission; the error code, 0 for success."""
        answer = self.signed(Method.CREATE_PERMISSION, *((XOR_PEER_ADDRESS, peer) for peer in peers))
        assert answer is not None
        return code_of(answer)

    def indicate(self, *attributes: Any) -> list[bytes]:
        """A Send indication."""
        return self.say(encode(indication(Method.SEND, bytes(12), *attributes)))

    def inbox(self) -> list[Message]:
        """The STUN messages that came since, which are then gone."""
        messages = [decode(data) for data in self.world.raw[self.address]]
        self.world.raw[self.address].clear()
        return messages

    def _one(self, answers: list[bytes]) -> Message | None:
        assert len(answers) <= 1
        return decode(answers[0]) if answers else None


def code_of(message: Message | None) -> int:
    """The error code of a response, 0 for a success, -1 for no response."""
    if message is None:
        return -1
    error = message.get(ERROR_CODE)
    return 0 if error is None else error.code
