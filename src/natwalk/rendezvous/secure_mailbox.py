"""An encrypted mailbox over a RendezvousClient: two sides prove that they know the same, then talk.

With a code (16 secret bits) there is one attempt: whoever sees that the other side's confirmation does
not verify closes the mailbox as SCARY, and the server tells the other side; nobody can try again.

With a strong shared secret (``resume=True``) either side may be killed and come back. Each incarnation
sends a hello of its own; a new hello of the peer starts a new key exchange beside the session in use,
which is replaced only when the newcomer has proved that it has the key. A wrong key is reported and
changes nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, assert_never

from natwalk.core import Drops, IntegrityError, LocalProtocolError, Outbox, RandomBytes
from natwalk.rendezvous.client import (
    MailboxClosed,
    MailboxOpened,
    NameplateAllocated,
    PeerClosedMailbox,
    PeerLeft,
    PeerMessage,
    RendezvousClient,
    RendezvousEvent,
    RendezvousFailed,
)
from natwalk.rendezvous.keyexchange import (
    SHORTEST_SHARED_SECRET,
    CodeExchange,
    KeyExchange,
    SharedSecretExchange,
)
from natwalk.rendezvous.messages import Mood, Slot
from natwalk.rendezvous.session import MAX_PLAINTEXT, Session

_INCARNATION: Final = 16
_MAX_HELLO: Final = 256
_MAX_EARLY: Final = 64


@dataclass(frozen=True, slots=True)
class KeyEstablished:
    """The peer proved that it knows the same code or secret; both sides see the same ``verifier``."""

    verifier: bytes


@dataclass(frozen=True, slots=True)
class MailboxMessage:
    """What the peer sent: authentic, in order, once."""

    body: bytes


@dataclass(frozen=True, slots=True)
class WrongCode:
    """The other side used a wrong code, or this one did; the code is burned for both."""


@dataclass(frozen=True, slots=True)
class WrongKey:
    """Somebody without the shared secret came to a resume mailbox; nothing has changed."""


@dataclass(frozen=True, slots=True)
class PeerRestarted:
    """The peer was started again and knows nothing of this session; a fresh KeyEstablished follows."""


SecureMailboxEvent = (
    KeyEstablished
    | MailboxMessage
    | WrongCode
    | WrongKey
    | PeerRestarted
    | NameplateAllocated
    | MailboxOpened
    | PeerLeft
    | PeerClosedMailbox
    | RendezvousFailed
    | MailboxClosed
)


class SecureMailbox:
    """Drive this instead of its client: it takes the client's input and passes its events on."""

    def __init__(
        self,
        client: RendezvousClient,
        *,
        side: Slot | str,
        password: bytes | None = None,
        app_id: str,
        random_bytes: RandomBytes,
        resume: bool = False,
    ) -> None:
        """With ``password`` None nothing is proved until :meth:`set_password`."""
        self.client = client
        self.side = Slot(side)
        self.resume = resume
        self.drops = Drops()
        self._app_id = app_id
        self._random_bytes = random_bytes
        self._password: bytes | None = None
        self._context = b""
        self._exchange: KeyExchange | None = None
        self._hello = b""
        self._hellos_sent = 0
        self._peer_hello: bytes | None = None
        self._waiting_hello: bytes | None = None
        self._session: Session | None = None
        self._candidate: Session | None = None
        self._early: deque[bytes] = deque()
        self._burned = False
        self._now = 0.0
        self._events: Outbox[SecureMailboxEvent] = Outbox()
        if password is not None:
            self._accept(password)

    @property
    def established(self) -> bool:
        """Whether the peer has proved that it knows the code or secret."""
        return self._session is not None

    def set_password(self, password: bytes, now: float) -> None:
        """Give the password once it is known (a sender's code has the nameplate in it)."""
        if self._password is not None:
            raise LocalProtocolError("the password was given before")
        self._accept(password)
        self._begin(now)
        self._pump(now)

    def send(self, message: bytes, now: float) -> None:
        """Send ``message`` (at most 32752 bytes) to the peer; kept, up to 64, until there is a key.

        Goes to the incarnation of the peer that is known now: after PeerRestarted, send again what the
        new one needs.
        """
        if len(message) > MAX_PLAINTEXT:
            raise LocalProtocolError(f"a message of {len(message)} bytes; at most {MAX_PLAINTEXT}")
        session = self._session or self._candidate
        if session is not None:
            self._put(session, message, now)
        elif len(self._early) < _MAX_EARLY:
            self._early.append(message)
        else:
            raise LocalProtocolError(f"{_MAX_EARLY} messages wait for a key already")

    def derive(self, purpose: str, length: int = 32) -> bytes:
        """A key for ``purpose`` that both sides and nobody else can derive, after KeyEstablished."""
        if self._session is None:
            raise LocalProtocolError("there is no key yet")
        return self._session.derive(f"application {purpose}", length)

    def close(self, mood: Mood | str, now: float) -> None:
        """Leave the mailbox; MailboxClosed follows."""
        self.client.close(mood, now)
        self._pump(now)

    def connection_made(self, now: float) -> None:
        """See :meth:`RendezvousClient.connection_made`."""
        self.client.connection_made(now)
        self._pump(now)

    def connection_lost(self, now: float) -> None:
        """See :meth:`RendezvousClient.connection_lost`."""
        self.client.connection_lost(now)
        self._pump(now)

    def receive_message(self, text: str, now: float) -> None:
        """Take one text frame of the server."""
        self.client.receive_message(text, now)
        self._pump(now)

    def handle_timeout(self, now: float) -> None:
        """Do what is due at ``now``."""
        self.client.handle_timeout(now)
        self._pump(now)

    def poll_message(self) -> str | None:
        """The next text frame to send, or None."""
        return self.client.poll_message()

    def poll_event(self) -> SecureMailboxEvent | None:
        """The next event, or None."""
        self._pump(self._now)
        return self._events.poll()

    def next_timeout(self) -> float | None:
        """When ``handle_timeout`` wants to be called, or None."""
        return self.client.next_timeout()

    @property
    def finished(self) -> bool:
        """Whether the mailbox is over, well or not."""
        return self.client.finished

    def _accept(self, password: bytes) -> None:
        if not password or (self.resume and len(password) < SHORTEST_SHARED_SECRET):
            least = SHORTEST_SHARED_SECRET if self.resume else 1
            raise LocalProtocolError(f"a password of {len(password)} bytes; at least {least} are needed")
        self._password = password

    def _pump(self, now: float) -> None:
        self._now = now
        while (event := self.client.poll_event()) is not None:
            self._on_event(event, now)
        if self._waiting_hello is not None and self._has_room():
            hello, self._waiting_hello = self._waiting_hello, None
            self._on_hello(hello, now)

    def _on_event(self, event: RendezvousEvent, now: float) -> None:
        match event:
            case PeerMessage():
                self._on_message(event.phase, event.body, now)
            case MailboxOpened():
                self._events.put(event)
                if event.renewed:
                    self._restart()
                self._begin(now)
            case PeerClosedMailbox(mood=Mood.SCARY) if not self.resume and self._session is None:
                self._burn(now)
            case PeerLeft() | PeerClosedMailbox() | NameplateAllocated():
                self._events.put(event)
            case RendezvousFailed() | MailboxClosed():
                self._events.put(event)
            case _:
                assert_never(event)

    def _restart(self) -> None:
        """The server lost the mailbox: meet again in the new one as a new incarnation."""
        self._exchange, self._candidate = None, None
        self._peer_hello, self._waiting_hello = None, None

    def _begin(self, now: float) -> None:
        """Send the first hello as soon as there is both a mailbox and a password."""
        if self._exchange is not None or self._password is None or self.client.mailbox is None:
            return
        if not self.client.room:
            return
        self._context = _framed(self._app_id.encode(), self.client.mailbox.encode())
        kind = SharedSecretExchange if self.resume else CodeExchange
        self._exchange = kind(self.side, self._password, self._context, random_bytes=self._random_bytes)
        self._hello = self._random_bytes(_INCARNATION) + self._exchange.hello
        self._hellos_sent = 0
        self._say_hello(now)
        if self._peer_hello is not None:
            hello, self._peer_hello = self._peer_hello, None
            self._on_hello(hello, now)

    def _say_hello(self, now: float) -> None:
        incarnation = self._hello[:_INCARNATION].hex()
        self.client.add(f"hello-{incarnation}-{self._hellos_sent}", self._hello, now)
        self._hellos_sent += 1

    def _on_message(self, phase: str, body: bytes, now: float) -> None:
        if self._burned or self.finished:
            self.drops.add("message after the end")
        elif phase.startswith("hello-"):
            self._on_hello(body, now)
        else:
            self._on_sealed(phase, body, now)

    def _on_hello(self, hello: bytes, now: float) -> None:
        if len(hello) > _MAX_HELLO:
            self._distrust("hello of a wrong length", now)
            return
        if hello == self._peer_hello or (self._peer_hello is not None and not self.resume):
            self.drops.add("repeated hello")
            return
        if not self._has_room():
            self._waiting_hello = hello
            return
        self._peer_hello = hello
        if self._exchange is None:
            return
        try:
            secret = self._exchange.finish(hello[_INCARNATION:])
        except IntegrityError as error:
            self._distrust(str(error), now)
            return
        first, second = (self._hello, hello) if self.side is Slot.A else (hello, self._hello)
        self._candidate = Session(self.side, secret, self._context, first, second)
        if self.resume:
            self._say_hello(now)
        self._put(self._candidate, b"", now)
        if self._session is None:
            while self._early:
                self._put(self._candidate, self._early.popleft(), now)

    def _has_room(self) -> bool:
        """Whether the client takes what answers a hello: our own, the confirmation and what waits."""
        return self.client.room >= 2 + len(self._early)

    def _on_sealed(self, phase: str, body: bytes, now: float) -> None:
        tag, _, number = phase.partition("-")
        session = next((s for s in (self._candidate, self._session) if s is not None and s.tag == tag), None)
        if session is None or not (number.isascii() and number.isdigit()):
            self.drops.add("message of another incarnation")
            return
        try:
            bodies = session.open(int(number), body)
        except IntegrityError as error:
            if session.confirmed or int(number):
                self.drops.add(str(error))
            else:
                self._distrust("confirmation does not verify", now)
            return
        if session is self._candidate and session.confirmed:
            self._establish(session)
        for plaintext in bodies:
            self._events.put(MailboxMessage(plaintext))

    def _establish(self, session: Session) -> None:
        restarted = self._session is not None
        self._session, self._candidate = session, None
        if restarted:
            self._events.put(PeerRestarted())
        self._events.put(KeyEstablished(session.derive("verifier")))

    def _distrust(self, reason: str, now: float) -> None:
        """The peer does not know what we know: burn the code, or report and go on."""
        self.drops.add(reason)
        if self.resume:
            self._candidate = None
            self._events.put(WrongKey())
        else:
            self._burn(now)

    def _burn(self, now: float) -> None:
        if self._burned:
            return
        self._burned = True
        self._candidate = None
        self._events.put(WrongCode())
        self.client.close(Mood.SCARY, now)

    def _put(self, session: Session, plaintext: bytes, now: float) -> None:
        number, sealed = session.seal(plaintext)
        self.client.add(f"{session.tag}-{number}", sealed, now)


def _framed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
