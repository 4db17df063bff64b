"""The Internet Gateway Device: its description and the actions of WANIPConnection, versions 1 and 2."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isinf
from typing import Final

from natwalk.core import Address
from natwalk.nat.gateway_config import ServiceQuirk
from natwalk.nat.packet import IpProtocol
from natwalk.nat.services import description, soap
from natwalk.nat.services.leases import Lease, Leases, Refusal

Arguments = dict[str, str]

INVALID_ACTION: Final = 401
INVALID_ARGS: Final = 402
ACTION_FAILED: Final = 501
NOT_AUTHORIZED: Final = 606
INDEX_INVALID: Final = 713
NO_SUCH_ENTRY: Final = 714
WILDCARD_EXTERNAL_PORT: Final = 716
CONFLICT: Final = 718
SAME_PORT_REQUIRED: Final = 724
ONLY_PERMANENT_LEASES: Final = 725
NO_PORTS: Final = 728
NOT_FOUND: Final = 730
WILDCARD_INTERNAL_PORT: Final = 732
INCONSISTENT: Final = 733

_DESCRIPTIONS: Final = {
    INVALID_ACTION: "Invalid Action",
    INVALID_ARGS: "Invalid Args",
    ACTION_FAILED: "Action Failed",
    NOT_AUTHORIZED: "Action not authorized",
    INDEX_INVALID: "SpecifiedArrayIndexInvalid",
    NO_SUCH_ENTRY: "NoSuchEntryInArray",
    WILDCARD_EXTERNAL_PORT: "WildCardNotPermittedInExtPort",
    CONFLICT: "ConflictInMappingEntry",
    SAME_PORT_REQUIRED: "SamePortValuesRequired",
    ONLY_PERMANENT_LEASES: "OnlyPermanentLeasesSupported",
    NO_PORTS: "NoPortMapsAvailable",
    NOT_FOUND: "PortMappingNotFound",
    WILDCARD_INTERNAL_PORT: "WildCardNotPermittedInIntPort",
    INCONSISTENT: "InconsistentParameters",
}
_REFUSALS: Final = {
    Refusal.NOT_AUTHORIZED: NOT_AUTHORIZED,
    Refusal.CONFLICT: CONFLICT,
    Refusal.NO_PORT: NO_PORTS,
    Refusal.QUOTA: NO_PORTS,
}
_PROTOCOLS: Final = {"TCP": IpProtocol.TCP, "UDP": IpProtocol.UDP}


class UpnpError(Exception):
    """An action that fails with a UPnP error code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{code} {_DESCRIPTIONS[code]}")
        self.code = code


class InternetGateway:
    """Does the actions of WANIPConnection for the hosts of one LAN, out of ``leases``."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._config = leases.config
        self._actions: dict[str, Callable[[Arguments, str, float], Arguments]] = {
            "GetExternalIPAddress": self._external_address,
            "GetStatusInfo": self._status,
            "GetConnectionTypeInfo": self._connection_type,
            "GetNATRSIPStatus": self._nat_status,
            "AddPortMapping": self._add,
            "DeletePortMapping": self._delete,
            "GetSpecificPortMappingEntry": self._specific,
            "GetGenericPortMappingEntry": self._generic,
        }
        if self._config.upnp == 2:
            self._actions |= {
                "AddAnyPortMapping": self._add_any,
                "DeletePortMappingRange": self._delete_range,
                "GetListOfPortMappings": self._list,
            }

    @property
    def actions(self) -> tuple[str, ...]:
        """The names of the actions there are."""
        return tuple(self._actions)

    def control(self, body: bytes, client: str, now: float) -> tuple[int, bytes]:
        """HTTP status and body of the answer to the action in ``body``, asked by the host ``client``."""
        try:
            service, action, arguments = soap.parse_action(body)
            perform = self._actions.get(action, _unknown)
            return 200, soap.answer(service, action, perform(arguments, client, now))
        except soap.MalformedSoap:
            return 400, b""
        except UpnpError as error:
            return 500, soap.fault(error.code, _DESCRIPTIONS[error.code])

    def _external_address(self, _arguments: Arguments, _client: str, _now: float) -> Arguments:
        return {"NewExternalIPAddress": self._leases.external_host()}

    def _status(self, _arguments: Arguments, _client: str, now: float) -> Arguments:
        return {
            "NewConnectionStatus": "Connected",
            "NewLastConnectionError": "ERROR_NONE",
            "NewUptime": str(self._leases.epoch(now)),
        }

    def _connection_type(self, _arguments: Arguments, _client: str, _now: float) -> Arguments:
        return {"NewConnectionType": "IP_Routed", "NewPossibleConnectionTypes": "IP_Routed"}

    def _nat_status(self, _arguments: Arguments, _client: str, _now: float) -> Arguments:
        return {"NewRSIPAvailable": "0", "NewNATEnabled": "1"}

    def _add(self, arguments: Arguments, client: str, now: float) -> Arguments:
        """Map exactly the external port asked for; one the client has already is replaced."""
        protocol, internal, port = self._wanted(arguments, client)
        if port == 0:
            raise UpnpError(WILDCARD_EXTERNAL_PORT)
        lifetime = self._lifetime(arguments)
        if ServiceQuirk.SAME_PORT_ONLY in self._config.quirks and port != internal.port:
            raise UpnpError(SAME_PORT_REQUIRED)
        there = self._leases.at(protocol, port, now)
        if there is not None and there.internal != internal:
            if there.internal.host != client or there.nonce:
                raise UpnpError(CONFLICT)
            self._leases.close(there, now)
        self._open(protocol, internal, port, lifetime, arguments, now, exact=True)
        return {}

    def _add_any(self, arguments: Arguments, client: str, now: float) -> Arguments:
        """Map any external port, rather the one asked for."""
        protocol, internal, port = self._wanted(arguments, client)
        lease = self._open(protocol, internal, port, self._lifetime(arguments), arguments, now, exact=False)
        return {"NewReservedPort": str(lease.external.port)}

    def _open(
        self,
        protocol: IpProtocol,
        internal: Address,
        port: int,
        lifetime: float,
        arguments: Arguments,
        now: float,
        *,
        exact: bool,
    ) -> Lease:
        label = arguments.get("NewPortMappingDescription", "")
        lease = self._leases.open(protocol, internal, port, lifetime, now, exact=exact, label=label)
        if isinstance(lease, Refusal):
            raise UpnpError(_REFUSALS[lease])
        return lease

    def _wanted(self, arguments: Arguments, client: str) -> tuple[IpProtocol, Address, int]:
        """What a mapping is asked for, by the very host it is for and open to everybody."""
        if arguments.get("NewInternalClient") != client or arguments.get("NewRemoteHost", ""):
            raise UpnpError(NOT_AUTHORIZED)
        if arguments.get("NewEnabled", "1") not in ("1", "true", "yes"):
            raise UpnpError(INVALID_ARGS)
        internal_port = _number(arguments, "NewInternalPort", 65535)
        if internal_port == 0:
            raise UpnpError(WILDCARD_INTERNAL_PORT)
        port = _number(arguments, "NewExternalPort", 65535)
        return _protocol(arguments), Address(client, internal_port), port

    def _lifetime(self, arguments: Arguments) -> float:
        """Seconds of a lease; 0 is for ever in version 1 and a week in version 2."""
        seconds = _number(arguments, "NewLeaseDuration", 0xFFFFFFFF)
        if seconds and ServiceQuirk.ONLY_PERMANENT_LEASES in self._config.quirks:
            raise UpnpError(ONLY_PERMANENT_LEASES)
        if seconds == 0:
            return inf if self._config.upnp == 1 else self._config.permanent_lease
        return min(float(seconds), self._config.permanent_lease)

    def _delete(self, arguments: Arguments, client: str, now: float) -> Arguments:
        lease = self._leases.at(_protocol(arguments), _number(arguments, "NewExternalPort", 65535), now)
        if lease is None:
            raise UpnpError(NO_SUCH_ENTRY)
        if lease.internal.host != client or lease.nonce:
            raise UpnpError(NOT_AUTHORIZED)
        self._leases.close(lease, now)
        return {}

    def _range(self, arguments: Arguments, now: float) -> list[Lease]:
        """The leases between two external ports, ends included, of a protocol."""
        first = _number(arguments, "NewStartPort", 65535)
        last = _number(arguments, "NewEndPort", 65535)
        if first > last:
            raise UpnpError(INCONSISTENT)
        protocol = _protocol(arguments)
        leases = self._leases.all(now)
        found = [each for each in leases if each.protocol is protocol and first <= each.external.port <= last]
        if not found:
            raise UpnpError(NOT_FOUND)
        return found

    def _delete_range(self, arguments: Arguments, client: str, now: float) -> Arguments:
        """End those of a range that are the client's own, whatever it says of managing others'."""
        mine = [
            each for each in self._range(arguments, now) if each.internal.host == client and not each.nonce
        ]
        if not mine:
            raise UpnpError(NOT_AUTHORIZED)
        for lease in mine:
            self._leases.close(lease, now)
        return {}

    def _list(self, arguments: Arguments, _client: str, now: float) -> Arguments:
        """A document with those of a range, as many as asked for; 0 for all."""
        count = _number(arguments, "NewNumberOfPorts", 65535)
        found = self._range(arguments, now)
        return {
            "NewPortListing": description.port_listing(_listed(each, now) for each in found[: count or None])
        }

    def _specific(self, arguments: Arguments, _client: str, now: float) -> Arguments:
        lease = self._leases.at(_protocol(arguments), _number(arguments, "NewExternalPort", 65535), now)
        if lease is None:
            raise UpnpError(NO_SUCH_ENTRY)
        return _entry(lease, now)

    def _generic(self, arguments: Arguments, _client: str, now: float) -> Arguments:
        leases = self._leases.all(now)
        index = _number(arguments, "NewPortMappingIndex", 65535)
        if index >= len(leases):
            raise UpnpError(INDEX_INVALID)
        return _listed(leases[index], now)


def _listed(lease: Lease, now: float) -> Arguments:
    where = {
        "NewRemoteHost": "",
        "NewExternalPort": str(lease.external.port),
        "NewProtocol": lease.protocol.name,
    }
    return where | _entry(lease, now)


def _unknown(_arguments: Arguments, _client: str, _now: float) -> Arguments:
    raise UpnpError(INVALID_ACTION)


def _entry(lease: Lease, now: float) -> Arguments:
    left = lease.expires_at - now
    return {
        "NewInternalPort": str(lease.internal.port),
        "NewInternalClient": lease.internal.host,
        "NewEnabled": "1",
        "NewPortMappingDescription": lease.label,
        "NewLeaseDuration": "0" if isinf(left) else str(int(left)),
    }


def _number(arguments: Arguments, name: str, largest: int) -> int:
    text = arguments.get(name, "")
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > largest:
        raise UpnpError(INVALID_ARGS)
    return int(text)


def _protocol(arguments: Arguments) -> IpProtocol:
    protocol = _PROTOCOLS.get(arguments.get("NewProtocol", "").upper())
    if protocol is None:
        raise UpnpError(INVALID_ARGS)
    return protocol
