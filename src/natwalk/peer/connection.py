"""One connection to one peer: a mailbox to meet in, a path to talk on, QUIC to trust it.

A core like the rooms it composes: the driver moves text frames of the rendezvous channel and datagrams of
the sockets it binds on request, and one timer. Nothing here is a protocol of its own but the order of
things: meet, tell each other certificates and candidates, find a path, prove who is there, carry streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, assert_never

from natwalk import path as way
from natwalk import rendezvous as rv
from natwalk import secure
from natwalk.core import (
    Address,
    Drops,
    LocalProtocolError,
    MalformedMessage,
    Outbox,
    Path,
    RandomBytes,
    Transmit,
    Transport,
    earliest,
)
from natwalk.ice import IceConfig, TurnServerAddress
from natwalk.peer import events as ev
from natwalk.peer.config import PeerConfig, Role
from natwalk.peer.credit import WINDOW, Credit
from natwalk.peer.failures import of_close, of_rendezvous
from natwalk.peer.messages import Farewell, Hello, Message
from natwalk.peer.negotiation import incoming, outgoing
from natwalk.peer.signalling import Signalling

APP_ID: Final = "natwalk/1"
EARLY_DATAGRAMS: Final = 64
"""QUIC datagrams kept while the path or the peer's certificate is not known yet."""
SERVER_DATAGRAM: Final = 1472
"""Largest datagram, in bytes, that the QUIC client's end takes (see ``secure.engine``)."""


NEAR: Final = 0.01
"""Seconds of round trip below which the peer is on this network or this machine."""
NEAR_WINDOW: Final = 4 << 20
"""Bytes a near peer may have under way: far more than such a path holds, and what caches still hold.

With more, a queue builds up in the socket that nobody reads before it has left the processor's caches, and
bulk runs at half the rate.
"""
FAR_WINDOW: Final = 32 << 20
"""Bytes for any other peer: 100 ms at 2.5 Gbit/s."""


class PeerConnection:
    """See the module; the life of one is ``start``, ``configure_ice``, and then what the events ask for."""

    def __init__(self, config: PeerConfig, *, identity: secure.Identity, random_bytes: RandomBytes) -> None:
        self._config = config
        self._identity = identity
        self._random_bytes = random_bytes
        resume = config.resume
        self._offering = config.role is Role.OFFER
        self._client = rv.RendezvousClient(random_bytes=random_bytes)
        password = resume.secret if resume else config.code.password if config.code else None
        self._mailbox = rv.SecureMailbox(
            self._client,
            side=rv.Slot.A if self._offering else rv.Slot.B,
            password=password,
            app_id=APP_ID,
            random_bytes=random_bytes,
            resume=resume is not None,
        )
        self._signalling = Signalling(self._mailbox)
        self._path: way.PathManager | None = None
        self._secure: secure.SecureConnection | None = None
        self._peer_fingerprint: bytes | None = None
        self._credit = Credit()
        # Each side's first stream carries its reports of what its application has read.
        self._reports_out, self._reports_in = (4, 1) if self._offering else (1, 4)
        self._early_messages: list[Message] = []
        self._early_datagrams: Outbox[bytes] = Outbox(EARLY_DATAGRAMS)
        self._events: Outbox[ev.PeerEvent] = Outbox(1 << 16)
        self._deadline: float | None = None
        self._ended = False
        self._resume = resume
        self._drops = Drops()
        self.connected = False

    @property
    def drops(self) -> Drops:
        """Why datagrams and messages were dropped, in every room."""
        parts = [self._drops, self._client.drops, self._mailbox.drops]
        if self._path is not None:
            parts.append(self._path.drops)
        if self._secure is not None:
            parts.append(self._secure.drops)
        return Drops.sum(parts)

    # --- commands --------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Go to the mailbox; the driver may connect the rendezvous channel before or after."""
        if self._config.resume is not None:
            slot = rv.Slot.A if self._offering else rv.Slot.B
            self._client.open(self._config.resume.mailbox, now, slot=slot)
        elif self._config.code is not None:
            self._client.claim(self._config.code.nameplate, now)
        else:
            self._client.allocate(now)
        self._signalling.queue(Hello(self._identity.fingerprint.hex(), self._config.agent))
        self._pump(now)

    def configure_ice(self, config: IceConfig, now: float) -> None:
        """Servers and policy are known: begin to gather."""
        if self._path is not None:
            raise LocalProtocolError("ICE was configured already")
        self._path = way.PathManager(config, controlling=self._offering, random_bytes=self._random_bytes)
        self._path.start(now)
        early, self._early_messages = self._early_messages, []
        for message in early:
            self._on_message(message, now)
        self._pump(now)

    def add_local_address(self, generation: int, address: Address, now: float) -> None:
        """A socket that SocketsWanted asked for is bound to ``address``."""
        self._ways().add_local_address(generation, address, now)
        self._pump(now)

    def end_of_local_addresses(self, generation: int, now: float) -> None:
        """All sockets that SocketsWanted asked for are bound."""
        self._ways().end_of_local_addresses(generation, now)
        self._pump(now)

    def relay_link_opened(
        self, generation: int, server: TurnServerAddress, local: Address, now: float
    ) -> None:
        """The connection that RelayLinkWanted asked for is there, from ``local``."""
        self._ways().relay_link_opened(generation, server, local, now)
        self._pump(now)

    def relay_link_failed(self, generation: int, server: TurnServerAddress, reason: str, now: float) -> None:
        """The connection that RelayLinkWanted asked for is not to be had; ``reason`` is a short phrase."""
        self._ways().relay_link_failed(generation, server, reason, now)
        self._pump(now)

    def relay_link_closed(self, path: Path, reason: str, now: float) -> None:
        """A connection to a TURN server has ended."""
        self._ways().relay_link_closed(path, reason, now)
        self._pump(now)

    def connection_made(self, now: float) -> None:
        """The rendezvous channel is up."""
        self._mailbox.connection_made(now)
        self._pump(now)

    def connection_lost(self, now: float) -> None:
        """The rendezvous channel is down; the driver tries to bring it back."""
        self._mailbox.connection_lost(now)
        self._pump(now)

    @property
    def resume(self) -> ev.ResumeToken | None:
        """What lets the two sides meet again, once the peer has arrived."""
        return self._resume

    @property
    def info(self) -> way.PathInfo | None:
        """The path in use."""
        return None if self._path is None else self._path.info

    @property
    def rendezvous_finished(self) -> bool:
        """True when the rendezvous channel is of no more use."""
        return self._mailbox.finished

    def open_stream(self) -> int:
        """Open a bidirectional stream and return its number."""
        return self._connection().open_stream()

    @property
    def streams_available(self) -> int:
        """How many streams may be opened now."""
        return 0 if self._secure is None else self._secure.streams_available

    def send_stream(self, stream_id: int, data: bytes | memoryview, now: float, *, fin: bool = False) -> None:
        """Queue ``data`` on a stream; mind ``send_backlog``."""
        self._connection().send_stream(stream_id, data, fin)
        if fin:
            self._credit.end_sending(stream_id)
        else:
            self._credit.sent(stream_id, len(data))
        self._pump(now)

    def send_backlog(self, stream_id: int) -> int:
        """Bytes queued on a stream that were not sent yet."""
        return 0 if self._secure is None else self._secure.send_backlog(stream_id)

    def send_room(self, stream_id: int) -> int:
        """Bytes the peer's application lets us send on a stream; 0 or less: wait until it has read some."""
        return self._credit.room(stream_id)

    def consumed(self, stream_id: int, size: int, now: float) -> bool:
        """Our application has read ``size`` bytes of a stream: the peer may send as many more.

        True when the peer is told now, so that there is something to send.
        """
        report = self._credit.taken(stream_id, size)
        if not report or self._secure is None or self._ended or not self.connected:
            return False  # also when the application reads what is left after the end
        self._secure.send_stream(self._reports_out, report)
        self._pump(now)
        return True

    def reset_stream(self, stream_id: int, code: int, now: float) -> None:
        """Stop sending on a stream, losing what was queued."""
        self._credit.end_sending(stream_id)
        self._connection().reset_stream(stream_id, code)
        self._pump(now)

    def stop_stream(self, stream_id: int, code: int, now: float) -> None:
        """Ask the peer to stop sending on a stream."""
        self._connection().stop_stream(stream_id, code)
        self._pump(now)

    def send_datagram(self, data: bytes, now: float) -> bool:
        """Send an unreliable datagram; False when too many wait and it was dropped."""
        sent = self._connection().send_datagram(data)
        self._pump(now)
        return sent

    @property
    def datagram_limit(self) -> int:
        """Longest datagram, in bytes, that ``send_datagram`` takes now."""
        return 0 if self._secure is None else self._secure.datagram_limit

    def close(self, reason: str, now: float) -> None:
        """End in order: the peer is told, relays are given back, the mailbox is left."""
        self._end(None, reason, now)

    # --- the contract of a core --------------------------------------------------------------------------

    def receive_message(self, text: str, now: float) -> None:
        """Take one text frame from the rendezvous server."""
        self._mailbox.receive_message(text, now)
        self._pump(now)

    def poll_message(self) -> str | None:
        """The next text frame for the rendezvous server, or None."""
        return self._mailbox.poll_message()

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take one datagram, or one message of a stream."""
        if path.transport is Transport.UDP:
            self.receive_many(path.local, ((datagram, path.remote),), now)
        elif self._path is None or self._ended:
            self._drops.add("no path is wanted")
        else:
            self._path.receive(datagram, path, now)
            self._pump(now)

    def receive_many(self, local: Address, batch: Sequence[tuple[bytes, Address]], now: float) -> None:
        """Take what arrived on one socket, in order."""
        ways = self._path
        if ways is None or self._ended:
            self._drops.add("no path is wanted")
            return
        start = 0
        while start < len(batch):
            remote = batch[start][1]
            end = start + 1
            while end < len(batch) and batch[end][1] == remote:
                end += 1
            self._receive_run(Path(local, remote), [data for data, _ in batch[start:end]], now)
            start = end
        self._pump(now)

    def handle_timeout(self, now: float) -> None:
        """Do what is due everywhere."""
        self._mailbox.handle_timeout(now)
        if self._path is not None:
            self._path.handle_timeout(now)
        if self._secure is not None:
            self._secure.handle_timeout(now)
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            self._end(ev.Failure.TIMEOUT, self._what_is_missing(), now)
        self._pump(now)

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` is wanted, or None."""
        return earliest(
            self._deadline,
            self._mailbox.next_timeout(),
            None if self._path is None else self._path.next_timeout(),
            None if self._secure is None else self._secure.next_timeout(),
        )

    def poll_transmit(self) -> Transmit | None:
        """The next datagram to send, or None."""
        return None if self._path is None else self._path.poll_transmit()

    def poll_burst(self) -> tuple[Path, list[bytes]] | None:
        """The next datagrams to send that take the same path, or None; for drivers that send batches."""
        return None if self._path is None else self._path.poll_burst()

    def poll_event(self) -> ev.PeerEvent | None:
        """The next event, or None."""
        return self._events.poll()

    # --- inside ------------------------------------------------------------------------------------------

    def _ways(self) -> way.PathManager:
        if self._path is None:
            raise LocalProtocolError("ICE was not configured yet")
        return self._path

    def _connection(self) -> secure.SecureConnection:
        if self._secure is None or not self.connected:
            raise LocalProtocolError("the peer is not connected")
        return self._secure

    def _pump(self, now: float) -> None:
        """Carry everything between the rooms until nothing moves."""
        moved = True
        while moved:
            moved = False
            while (mail := self._mailbox.poll_event()) is not None:
                moved = True
                self._on_mail(mail, now)
            moved = self._pump_path(now) or moved
            while self._secure is not None and (notice := self._secure.poll_event()) is not None:
                moved = True
                self._on_secure(notice, now)
        self._flush(now)

    def _pump_path(self, now: float) -> bool:
        """Take the path's events, data in runs; False when there were none."""
        moved = False
        run: list[bytes] = []
        while self._path is not None and (event := self._path.poll_event()) is not None:
            moved = True
            if isinstance(event, way.Received):
                run.append(event.data)
                continue
            if run:
                self._take_application(run, now)
                run = []
            self._on_path(event, now)
        if run:
            self._take_application(run, now)
        return moved

    def _flush(self, now: float) -> None:
        if self._secure is not None and self._path is not None:
            datagrams = self._secure.datagrams(now)
            if datagrams:
                self._path.send_many(datagrams, now)
        if not self._ended:
            self._signalling.flush(now)

    def _receive_run(self, path: Path, datagrams: list[bytes], now: float) -> None:
        """Take what came from one remote address in one go: bulk goes straight to QUIC."""
        ways = self._ways()
        if ways.admit(path, datagrams, now):
            self._take_application(datagrams, now)
        else:
            for datagram in datagrams:
                ways.receive(datagram, path, now)

    def _take_application(self, datagrams: list[bytes], now: float) -> None:
        if not datagrams:
            return
        if self._secure is not None:
            self._secure.receive_many(datagrams, now)
            return
        for datagram in datagrams:
            if not self._early_datagrams.put(datagram):
                self._drops.add("too many datagrams before the connection")

    def _on_mail(self, event: rv.SecureMailboxEvent, now: float) -> None:
        match event:
            case rv.NameplateAllocated(nameplate=nameplate):
                code = rv.Code.generate(nameplate, self._random_bytes)
                self._mailbox.set_password(code.password, now)
                self._events.put(ev.CodeReady(str(code)))
            case rv.KeyEstablished():
                self._on_key(now)
            case rv.MailboxMessage(body=body):
                self._on_batch(body, now)
            case rv.WrongCode():
                self._end(ev.Failure.WRONG_CODE, "the code was wrong; it is used up now", now)
            case rv.PeerRestarted():
                self._end(ev.Failure.PEER_GONE, "the peer was started again", now)
            case rv.PeerLeft():
                if self.connected:
                    self._events.put(ev.PeerUnavailable())
                    self._ways().doubt(now, away=True)
            case rv.PeerClosedMailbox():
                if self.connected:
                    self._events.put(ev.PeerUnavailable())
                    self._ways().doubt(now, away=True)
                else:
                    self._end(ev.Failure.PEER_CLOSED, "the peer left before a connection was made", now)
            case rv.RendezvousFailed():
                if not self.connected:
                    self._end(of_rendezvous(event.code), f"{event.message}; {event.hint}", now)
            case rv.WrongKey():
                self._drops.add("someone came without the resume secret")
            case rv.MailboxOpened() | rv.MailboxClosed():
                pass
            case _:
                assert_never(event)

    def _on_key(self, now: float) -> None:
        if self._resume is None:
            self._resume = ev.ResumeToken(
                self._mailbox.derive("resume mailbox", 16).hex(), self._mailbox.derive("resume secret")
            )
        self._deadline = now + self._config.connect_timeout
        self._events.put(ev.PeerArrived(self._resume))

    def _on_batch(self, body: bytes, now: float) -> None:
        try:
            messages = self._signalling.read(body)
        except MalformedMessage:
            self._end(ev.Failure.PROTOCOL, "the peer sent something this version does not understand", now)
            return
        for message in messages:
            if self._path is None and not isinstance(message, Hello | Farewell):
                if len(self._early_messages) < EARLY_DATAGRAMS:
                    self._early_messages.append(message)
            else:
                self._on_message(message, now)

    def _on_message(self, message: Message, now: float) -> None:
        match message:
            case Hello(fingerprint=fingerprint):
                if self._peer_fingerprint is None:
                    self._peer_fingerprint = bytes.fromhex(fingerprint)
                    self._secure_if_ready(now)
            case Farewell(reason=reason):
                if not self.connected:
                    self._end(ev.Failure.PEER_CLOSED, reason or "the peer stopped", now)
            case _:
                try:
                    notice = incoming(message, self._ways(), now)
                except MalformedMessage:
                    self._drops.add("the peer told something that makes no sense")
                    return
                if notice is not None:
                    self._events.put(notice)

    def _on_path(self, event: way.PathEvent, now: float) -> None:
        told = outgoing(event)
        if told is not None:
            message, notice = told
            self._signalling.queue(message)
            if notice is not None:
                self._events.put(notice)
            return
        match event:
            case way.GatheringTrouble(server=server, reason=reason):
                self._events.put(ev.ServerTrouble(server, reason))
            case way.CheckResult(pair=pair, ok=ok):
                self._events.put(ev.CheckSeen.of(pair, ok=ok))
            case way.PathReady(info=info) | way.PathChanged(info=info):
                self._events.put(ev.PathChosen(info))
                self._secure_if_ready(now)
                if self._secure is not None:
                    self._secure.path_changed(now)
            case way.PathLost(reason=reason):
                self._events.put(ev.PathBroken(reason))
            case way.NoPath(reason=reason):
                failure = ev.Failure.PEER_GONE if self.connected else ev.Failure.NO_PATH
                self._end(failure, reason, now)
            case (
                way.SocketsWanted() | way.SocketsReleased() | way.RelayLinkWanted() | way.RelayLinkReleased()
            ):
                self._events.put(event)
            case _:
                pass  # told to the peer above, or data that went its own way

    def _secure_if_ready(self, now: float) -> None:
        """Begin QUIC when the path carries data and the peer's certificate is known."""
        if self._secure is not None or self._peer_fingerprint is None or self.info is None:
            return
        size = self.info.mtu if self._offering else min(self.info.mtu, SERVER_DATAGRAM)
        window = _window(self.info.rtt)
        self._secure = secure.SecureConnection(
            is_client=self._offering,
            identity=self._identity,
            peer_fingerprint=self._peer_fingerprint,
            auth_key=self._mailbox.derive("secure authentication"),
            random_bytes=self._random_bytes,
            max_datagram_size=size,
            handshake_timeout=self._config.connect_timeout,
            receive_window=window,
        )
        self._credit.window = min(window, WINDOW)
        self._secure.start(now)
        early: list[bytes] = []
        while (datagram := self._early_datagrams.poll()) is not None:
            early.append(datagram)
        if early:
            self._secure.receive_many(early, now)

    def _on_secure(self, event: secure.SecureEvent, now: float) -> None:
        match event:
            case secure.SecureConnected():
                self.connected = True
                self._open_reports(now)
                self._deadline = None
                if self._resume is not None:
                    self._events.put(ev.Connected(self._resume))
            case secure.SecureClosed(code=code, reason=reason, by_peer=by_peer):
                if not self._ended:
                    self._end(of_close(code, by_peer=by_peer), reason, now)
            case secure.StreamData(stream_id=stream_id, data=data) if stream_id == self._reports_in:
                self._on_reports(data, now)
            case secure.StreamReset(stream_id=stream_id) | secure.StreamData(stream_id=stream_id, fin=True):
                self._credit.end_receiving(stream_id)
                self._events.put(event)
            case secure.StreamStopped(stream_id=stream_id):
                self._credit.end_sending(stream_id)
                self._events.put(event)
            case _:
                self._events.put(event)

    def _open_reports(self, now: float) -> None:
        if self._secure is not None and self._secure.open_stream() != self._reports_out:
            self._end(ev.Failure.PROTOCOL, "the streams did not begin as both sides expect", now)

    def _on_reports(self, data: bytes, now: float) -> None:
        try:
            self._credit.feed(data)
        except MalformedMessage as error:
            self._end(ev.Failure.PROTOCOL, str(error), now)

    def _what_is_missing(self) -> str:
        if self._path is None:
            return "the connection was not configured in time"
        if self.info is None:
            return f"no path to the peer was found in time: {self._path.why_none()}"
        return "the peer did not answer on the path that was found"

    def _end(self, failure: ev.Failure | None, reason: str, now: float) -> None:
        if self._ended:
            return
        self._deadline = None
        if self._secure is not None:
            self._secure.close(reason=reason)
        self._signalling.queue(Farewell(reason[:512]))
        self._flush(now)
        self._ended = True
        if self._path is not None:
            self._path.close(now)
        mood = rv.Mood.HAPPY if failure is None else rv.Mood.ERRORY
        self._mailbox.close(rv.Mood.SCARY if failure is ev.Failure.WRONG_CODE else mood, now)
        self._drain_path()
        self._events.put(ev.Ended(failure, reason))

    def _drain_path(self) -> None:
        """Pass on what the path still asks of the driver; nothing else matters any more."""
        while self._path is not None and (event := self._path.poll_event()) is not None:
            if isinstance(event, way.SocketsReleased | way.RelayLinkReleased):
                self._events.put(event)


def _window(rtt: float | None) -> int:
    """Bytes the peer may have under way on a stream over a path with this round trip."""
    return NEAR_WINDOW if rtt is not None and rtt < NEAR else FAR_WINDOW
