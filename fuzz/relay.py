"""The relay room: any bytes for both ends, and for whoever answers before frames."""

from __future__ import annotations

from typing import Final

from fuzz.reader import Reader
from natwalk.core import MalformedMessage
from natwalk.relay import (
    FrameReader,
    HttpConnect,
    Opening,
    OpeningRefused,
    ProxyCredentials,
    RelayClient,
    RelayIdentity,
    RelayServer,
    RelayServerConfig,
    RelayUpgrade,
    Socks5,
    frame,
)
from natwalk.relay.config import LARGEST_FRAME
from natwalk.relay.frames import FrameType

_SERVER: Final = RelayIdentity(bytes(range(32)))
_CLIENTS: Final = (RelayIdentity(bytes(range(1, 33))), RelayIdentity(bytes(range(2, 34))))


def relay_frames(data: bytes) -> None:
    """However a stream is cut, the same frames come out, and little is held."""
    step, stream = (data[0] % 37 + 1, data[1:]) if data else (1, b"")
    whole, wrong = _read([stream])
    pieces, wrong_in_pieces = _read([stream[at : at + step] for at in range(0, len(stream), step)])
    assert pieces == whole
    assert wrong_in_pieces == wrong


def _read(pieces: list[bytes]) -> tuple[list[tuple[int, bytes]], bool]:
    reader = FrameReader()
    frames: list[tuple[int, bytes]] = []
    for piece in pieces:
        try:
            for each in reader.feed(piece):
                frames.append(each)
        except MalformedMessage:
            return frames, True
        assert reader.buffered < LARGEST_FRAME
    return frames, False


def relay_cores(data: bytes) -> None:
    """A server with two clients; frames and other bytes, from each of them and to them, at any time."""
    reader = Reader(data)
    count = 0

    def random_bytes(n: int) -> bytes:
        nonlocal count
        count += 1
        return count.to_bytes(4, "big").ljust(n, b"r")[:n]

    server = RelayServer(_SERVER, RelayServerConfig(rate=1e6), random_bytes=random_bytes)
    clients = [RelayClient(identity, random_bytes=random_bytes) for identity in _CLIENTS]
    now = 0.0
    for number, client in enumerate(clients):
        client.start(now)
        client.connection_made(now)
        server.connection_made(number, "source", now)
    _settle(server, clients, now)
    assert all(client.ready for client in clients)
    while reader.left:
        number, what = reader.number() & 1, reader.number() % 8
        kind = reader.choice(tuple(FrameType))
        said = reader.blob() if what & 1 else frame(kind, reader.blob())
        if what < 3:
            server.receive(number, said, now)
        elif what < 6:
            clients[number].receive(said, now)
        elif what == 6:
            now += reader.number()
            for core in (server, *clients):
                core.handle_timeout(now)
                due = core.next_timeout()
                assert due is None or due > now
        else:
            server.pause(number, now)
        _settle(server, clients, now)
    assert server.clients <= 2


def _settle(server: RelayServer, clients: list[RelayClient], now: float) -> None:
    moved = True
    while moved:
        moved = False
        for number, client in enumerate(clients):
            while client.poll_event() is not None:
                moved = True
            while (data := client.poll_transmit()) is not None:
                moved = True
                server.receive(number, data, now)
        while (out := server.poll_transmit()) is not None:
            moved = True
            clients[out[0]].receive(out[1], now)
        while (event := server.poll_event()) is not None:
            moved = True
            server.connection_lost(event.number, now)


def relay_openings(data: bytes) -> None:
    """What a proxy or a server says before frames is an answer, none, or not whole, however it is cut."""
    reader = Reader(data)
    which, step = reader.number() % 3, reader.number() % 37 + 1
    answer = reader.bytes(reader.left)
    whole = _opened(which, [answer])
    assert _opened(which, [answer[at : at + step] for at in range(0, len(answer), step)]) == whole


def _opened(which: int, pieces: list[bytes]) -> tuple[bool, bytes, bytes] | str:
    credentials = ProxyCredentials("name", "password")
    openings: tuple[Opening, ...] = (
        RelayUpgrade("example.net", 443),
        HttpConnect("example.net", 443, credentials),
        Socks5("example.net", 443, credentials),
    )
    opening, said = openings[which], b""
    for number, piece in enumerate(pieces):
        try:
            said += opening.receive(piece)
        except (MalformedMessage, OpeningRefused) as error:
            return type(error).__name__
        if opening.done:
            return True, said, opening.rest() + b"".join(pieces[number + 1 :])
    return False, said, b""
