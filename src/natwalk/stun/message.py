"""A STUN message as a value (RFC 8489 §5) and the functions that build one."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, TypeVar

from natwalk.core import LocalProtocolError
from natwalk.stun.attributes import ATTRIBUTES, ERROR_CODE, Attribute, AttributeSpec
from natwalk.stun.values import ErrorCode

T = TypeVar("T")

TRANSACTION_ID_LENGTH: Final = 12


class Method(IntEnum):
    """What a message is about: STUN, TURN (RFC 8656 §17) and TURN over TCP (RFC 6062 §6.1)."""

    BINDING = 0x001
    ALLOCATE = 0x003
    REFRESH = 0x004
    SEND = 0x006
    DATA = 0x007
    CREATE_PERMISSION = 0x008
    CHANNEL_BIND = 0x009
    CONNECT = 0x00A
    CONNECTION_BIND = 0x00B
    CONNECTION_ATTEMPT = 0x00C


class MessageClass(IntEnum):
    """Which part a message has in a transaction (RFC 8489 §5)."""

    REQUEST = 0
    INDICATION = 1
    SUCCESS = 2
    ERROR = 3


@dataclass(frozen=True, slots=True)
class Message:
    """A STUN message: what it is, and its attributes in order, unknown ones included.

    ``method`` is a plain int when no RFC here names it. ``raw`` is what was decoded (empty for a message
    built here) and ``integrity_offsets`` where in it MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256 start
    (0 for none); neither takes part in comparisons. Raises :class:`LocalProtocolError` on a transaction ID
    that is not 12 bytes or a method of more than 12 bits.
    """

    method: Method | int
    message_class: MessageClass
    transaction_id: bytes
    attributes: tuple[Attribute, ...] = ()
    raw: bytes = field(default=b"", compare=False, repr=False)
    integrity_offsets: tuple[int, int] = field(default=(0, 0), compare=False, repr=False)
    _first: dict[int, Any] | None = field(default=None, init=False, compare=False, repr=False)
    """First value by type, made when first asked for: a server asks a request for two dozen attributes."""

    def __post_init__(self) -> None:
        if len(self.transaction_id) != TRANSACTION_ID_LENGTH:
            raise LocalProtocolError(f"a transaction ID of {len(self.transaction_id)} bytes, not 12")
        if not 0 <= self.method <= 0xFFF:
            raise LocalProtocolError(f"method {self.method} has more than 12 bits")

    def get(self, spec: AttributeSpec[T]) -> T | None:
        """The value of the first ``spec``, or None: later ones do not count (RFC 8489 §14)."""
        first = self._first
        return (self._index() if first is None else first).get(spec.type)

    def all(self, spec: AttributeSpec[T]) -> list[T]:
        """The values of every ``spec`` in order, for the few attributes that may repeat."""
        return [value for found, value in self.attributes if found.type == spec.type]

    def __contains__(self, spec: AttributeSpec[T]) -> bool:
        first = self._first
        return spec.type in (self._index() if first is None else first)

    def _index(self) -> dict[int, Any]:
        first = {spec.type: value for spec, value in reversed(self.attributes)}
        object.__setattr__(self, "_first", first)
        return first

    @property
    def unknown_required(self) -> tuple[int, ...]:
        """Types of the comprehension-required attributes no table here knows, each once, in order."""
        types = (spec.type for spec, _ in self.attributes)
        return tuple(dict.fromkeys(t for t in types if t < 0x8000 and t not in ATTRIBUTES))

    @property
    def is_response(self) -> bool:
        """Whether it ends a transaction."""
        return self.message_class >= MessageClass.SUCCESS


class Draft:
    """A message in the making, for ``decode``: the slots of :class:`Message`, neither frozen nor checked.

    Set ``__class__`` to Message when they are filled. The constructor of a frozen dataclass costs four
    times as much, which would be a fifth of decoding a connectivity check.
    """

    __slots__ = Message.__slots__

    method: Method | int
    message_class: MessageClass
    transaction_id: bytes
    attributes: tuple[Attribute, ...]
    raw: bytes
    integrity_offsets: tuple[int, int]
    _first: dict[int, Any] | None


def message_type(method: int, message_class: int) -> int:
    """The 14 bits of a message's type: the class bits sit among the method's (RFC 8489 §5)."""
    bits = (method & 0xF80) << 2 | (method & 0x70) << 1 | method & 0xF
    return bits | (message_class & 2) << 7 | (message_class & 1) << 4


def split_type(bits: int) -> tuple[Method | int, MessageClass]:
    """Method and class of a 14-bit message type; the inverse of :func:`message_type`."""
    if (known := TYPES.get(bits)) is not None:
        return known
    return bits >> 2 & 0xF80 | bits >> 1 & 0x70 | bits & 0xF, MessageClass(bits >> 7 & 2 | bits >> 4 & 1)


TYPES: Final[dict[int, tuple[Method | int, MessageClass]]] = {
    message_type(method, message_class): (method, message_class)
    for method in Method
    for message_class in MessageClass
}
"""Method and class by message type, of the methods with a name."""


def request(method: Method | int, transaction_id: bytes, *attributes: Attribute) -> Message:
    """A request; ``transaction_id`` is 12 random bytes."""
    return Message(method, MessageClass.REQUEST, transaction_id, attributes)


def indication(method: Method | int, transaction_id: bytes, *attributes: Attribute) -> Message:
    """An indication, which is never answered."""
    return Message(method, MessageClass.INDICATION, transaction_id, attributes)


def success(to: Message, *attributes: Attribute) -> Message:
    """The success response to the request ``to``."""
    return Message(to.method, MessageClass.SUCCESS, to.transaction_id, attributes)


def error(to: Message, code: int, reason: str = "", *attributes: Attribute) -> Message:
    """The error response to the request ``to``: ERROR-CODE first, then ``attributes``."""
    first = (ERROR_CODE, ErrorCode(code, reason))
    return Message(to.method, MessageClass.ERROR, to.transaction_id, (first, *attributes))
