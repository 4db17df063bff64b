"""The documents an Internet Gateway Device is described by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from natwalk.nat.gateway_config import GatewayConfig, ServiceQuirk

ROOT: Final = "/rootDesc.xml"
CONTROL: Final = "/ctl/IPConn"
EVENTS: Final = "/evt/IPConn"
SERVICE: Final = "/WANIPCn.xml"
DEAD_CONTROL: Final = "/ctl/PPPConn"
"""Of a service that is described and not there."""


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
    """The service description: the names of the actions."""
    names = "".join(f"<action><name>{name}</name></action>" for name in actions)
    return (
        '<?xml version="1.0"?>\r\n<scpd xmlns="urn:schemas-upnp-org:service-1-0">'
        f"<specVersion><major>1</major><minor>0</minor></specVersion><actionList>{names}</actionList>"
        "<serviceStateTable></serviceStateTable></scpd>\r\n"
    ).encode()


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
