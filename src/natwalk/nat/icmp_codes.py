"""ICMP types and codes of both IP versions and the kinds they mean (RFC 792, RFC 4443).

Through NAT64 a message changes type and code by way of its kind (RFC 7915 §4.2, §5.2).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from natwalk.nat.packet import IcmpKind

_K = IcmpKind

TYPE_AND_CODE: Final = MappingProxyType(
    {
        4: MappingProxyType(
            {
                _K.ECHO_REPLY: (0, 0),
                _K.NET_UNREACHABLE: (3, 0),
                _K.HOST_UNREACHABLE: (3, 1),
                _K.PROTOCOL_UNREACHABLE: (3, 2),
                _K.PORT_UNREACHABLE: (3, 3),
                _K.PACKET_TOO_BIG: (3, 4),
                _K.ADMIN_PROHIBITED: (3, 13),
                _K.ECHO_REQUEST: (8, 0),
                _K.TIME_EXCEEDED: (11, 0),
                _K.PARAMETER_PROBLEM: (12, 0),
            }
        ),
        6: MappingProxyType(
            {
                _K.NET_UNREACHABLE: (1, 0),
                _K.ADMIN_PROHIBITED: (1, 1),
                _K.HOST_UNREACHABLE: (1, 3),
                _K.PORT_UNREACHABLE: (1, 4),
                _K.PACKET_TOO_BIG: (2, 0),
                _K.TIME_EXCEEDED: (3, 0),
                _K.PARAMETER_PROBLEM: (4, 0),
                _K.PROTOCOL_UNREACHABLE: (4, 1),
                _K.ECHO_REQUEST: (128, 0),
                _K.ECHO_REPLY: (129, 0),
            }
        ),
    }
)
"""How each IP version says a kind."""

_EXACT: Final = {
    version: {pair: kind for kind, pair in table.items()} for version, table in TYPE_AND_CODE.items()
}
_OTHER_CODES: Final = {
    4: {9: _K.ADMIN_PROHIBITED, 10: _K.ADMIN_PROHIBITED},
    6: {5: _K.ADMIN_PROHIBITED, 6: _K.ADMIN_PROHIBITED},
}
_UNREACHABLE: Final = {4: 3, 6: 1}


def kind_of(version: int, type_: int, code: int) -> IcmpKind | None:
    """What a message says; None for a type that is neither an echo nor an error about a packet."""
    kind = _EXACT[version].get((type_, code))
    if kind is not None:
        return kind
    if type_ == _UNREACHABLE[version]:
        return _OTHER_CODES[version].get(code, _K.HOST_UNREACHABLE)
    same_type = {t: k for (t, c), k in _EXACT[version].items() if c == 0}
    return same_type.get(type_)
