"""The documents an Internet Gateway Device is described by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from xml.sax.saxutils import escape

from natwalk.nat.gateway_config import GatewayConfig, ServiceQuirk

ROOT: Final = "/rootDesc.xml"
CONTROL: Final = "/ctl/IPConn"
EVENTS: Final = "/evt/IPConn"
SERVICE: Final = "/WANIPCn.xml"
DEAD_CONTROL: Final = "/ctl/PPPConn"
"""Of a service that is described and not there."""

Argument = tuple[str, str, str]
"""(name, "in" or "out", the state variable it is about)."""

VARIABLES: Final = {
    "A_ARG_TYPE_Manage": "boolean",
    "A_ARG_TYPE_PortListing": "string",
    "ConnectionStatus": "string",
    "ConnectionType": "string",
    "ExternalIPAddress": "string",
    "ExternalPort": "ui2",
    "InternalClient": "string",
    "InternalPort": "ui2",
    "LastConnectionError": "string",
    "NATEnabled": "boolean",
    "PortMappingDescription": "string",
    "PortMappingEnabled": "boolean",
    "PortMappingLeaseDuration": "ui4",
    "PortMappingNumberOfEntries": "ui2",
    "PortMappingProtocol": "string",
    "PossibleConnectionTypes": "string",
    "RSIPAvailable": "boolean",
    "RemoteHost": "string",
    "Uptime": "ui4",
}
"""State variables of WANIPConnection and their types."""
_ALLOWED: Final = {"PortMappingProtocol": ("TCP", "UDP")}

_KEY: Final[tuple[Argument, ...]] = (
    ("NewRemoteHost", "in", "RemoteHost"),
    ("NewExternalPort", "in", "ExternalPort"),
    ("NewProtocol", "in", "PortMappingProtocol"),
)


_RANGE: Final[tuple[Argument, ...]] = (
    ("NewStartPort", "in", "ExternalPort"),
    ("NewEndPort", "in", "ExternalPort"),
    ("NewProtocol", "in", "PortMappingProtocol"),
)


def _value(direction: str) -> tuple[Argument, ...]:
    """What a mapping says besides its key."""
    return (
        ("NewInternalPort", direction, "InternalPort"),
        ("NewInternalClient", direction, "InternalClient"),
        ("NewEnabled", direction, "PortMappingEnabled"),
        ("NewPortMappingDescription", direction, "PortMappingDescription"),
        ("NewLeaseDuration", direction, "PortMappingLeaseDuration"),
    )


ARGUMENTS: Final[dict[str, tuple[Argument, ...]]] = {
    "GetExternalIPAddress": (("NewExternalIPAddress", "out", "ExternalIPAddress"),),
    "GetStatusInfo": (
        ("NewConnectionStatus", "out", "ConnectionStatus"),
        ("NewLastConnectionError", "out", "LastConnectionError"),
        ("NewUptime", "out", "Uptime"),
    ),
    "GetConnectionTypeInfo": (
        ("NewConnectionType", "out", "ConnectionType"),
        ("NewPossibleConnectionTypes", "out", "PossibleConnectionTypes"),
    ),
    "GetNATRSIPStatus": (
        ("NewRSIPAvailable", "out", "RSIPAvailable"),
        ("NewNATEnabled", "out", "NATEnabled"),
    ),
    "AddPortMapping": _KEY + _value("in"),
    "AddAnyPortMapping": (*_KEY, *_value("in"), ("NewReservedPort", "out", "ExternalPort")),
    "DeletePortMapping": _KEY,
    "GetSpecificPortMappingEntry": _KEY + _value("out"),
    "GetGenericPortMappingEntry": (
        ("NewPortMappingIndex", "in", "PortMappingNumberOfEntries"),
        *((name, "out", variable) for name, _, variable in _KEY),
        *_value("out"),
    ),
    "DeletePortMappingRange": (*_RANGE, ("NewManage", "in", "A_ARG_TYPE_Manage")),
    "GetListOfPortMappings": (
        *_RANGE,
        ("NewManage", "in", "A_ARG_TYPE_Manage"),
        ("NewNumberOfPorts", "in", "PortMappingNumberOfEntries"),
        ("NewPortListing", "out", "A_ARG_TYPE_PortListing"),
    ),
}
"""The arguments of every action, in the order of the standard."""


def root(config: GatewayConfig) -> bytes:
    """The device description: three nested devices, the innermost with the connection service."""
    version = config.upnp
    services = _service("WANIPConnection", version, "WANIPConn1", CONTROL, SERVICE)
    if ServiceQuirk.DEAD_SERVICES in config.quirks:
        services = _service("WANPPPConnection", 1, "WANPPPConn1", DEAD_CONTROL, "/WANPPPCn.xml") + services
    connection = _device(config, "WANConnectionDevice", "WAN connection", services)
    wan = _device(config, "WANDevice", "WAN", devices=connection)
    gateway = _device(config, "InternetGatewayDevice", "natwalk router", devices=wan)
    return (
        '<?xml version="1.0"?>\r\n<root xmlns="urn:schemas-upnp-org:device-1-0">'
        f"<specVersion><major>1</major><minor>1</minor></specVersion>{gateway}</root>\r\n"
    ).encode()


def service(actions: Iterable[str]) -> bytes:
    """The service description: ``actions`` with their arguments, and the variables these are about."""
    named = [(name, ARGUMENTS[name]) for name in actions]
    used = dict.fromkeys(variable for _, arguments in named for _, _, variable in arguments)
    listed = "".join(map(_action, *zip(*named, strict=True)))
    variables = "".join(map(_variable, used))
    return (
        '<?xml version="1.0"?>\r\n<scpd xmlns="urn:schemas-upnp-org:service-1-0">'
        f"<specVersion><major>1</major><minor>0</minor></specVersion><actionList>{listed}</actionList>"
        f"<serviceStateTable>{variables}</serviceStateTable></scpd>\r\n"
    ).encode()


def port_listing(entries: Iterable[dict[str, str]]) -> str:
    """The document of port mappings that version 2 lists them in."""
    rows = "".join(
        "<p:PortMappingEntry>"
        + "".join(f"<p:{name}>{escape(value)}</p:{name}>" for name, value in entry.items())
        + "</p:PortMappingEntry>"
        for entry in entries
    )
    return f'<p:PortMappingList xmlns:p="urn:schemas-upnp-org:gw:WANIPConnection">{rows}</p:PortMappingList>'


def _action(name: str, arguments: tuple[Argument, ...]) -> str:
    listed = "".join(
        f"<argument><name>{argument}</name><direction>{direction}</direction>"
        f"<relatedStateVariable>{variable}</relatedStateVariable></argument>"
        for argument, direction, variable in arguments
    )
    return f"<action><name>{name}</name><argumentList>{listed}</argumentList></action>"


def _variable(name: str) -> str:
    type_ = VARIABLES[name]
    allowed = "".join(f"<allowedValue>{value}</allowedValue>" for value in _ALLOWED.get(name, ()))
    values = f"<allowedValueList>{allowed}</allowedValueList>" if allowed else ""
    inner = f"<name>{name}</name><dataType>{type_}</dataType>{values}"
    return f'<stateVariable sendEvents="no">{inner}</stateVariable>'


def _device(config: GatewayConfig, type_: str, name: str, services: str = "", devices: str = "") -> str:
    inner = f"<serviceList>{services}</serviceList>" if services else ""
    inner += f"<deviceList>{devices}</deviceList>" if devices else ""
    return (
        f"<device><deviceType>urn:schemas-upnp-org:device:{type_}:{config.upnp}</deviceType>"
        f"<friendlyName>{name}</friendlyName><manufacturer>natwalk</manufacturer>"
        f"<modelName>{name}</modelName><UDN>uuid:{config.uuid}</UDN>{inner}</device>"
    )


def _service(type_: str, version: int, identifier: str, control: str, description: str) -> str:
    return (
        f"<service><serviceType>urn:schemas-upnp-org:service:{type_}:{version}</serviceType>"
        f"<serviceId>urn:upnp-org:serviceId:{identifier}</serviceId>"
        f"<controlURL>{control}</controlURL><eventSubURL>{EVENTS}</eventSubURL>"
        f"<SCPDURL>{description}</SCPDURL></service>"
    )
