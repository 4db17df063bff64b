"""SSDP on the router, of the UPnP Device Architecture 1.1: searches for the gateway in, answers out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from natwalk.nat.gateway_config import GatewayConfig
from natwalk.nat.services.http import BadRequest, parse_head
from natwalk.nat.services.limits import RateLimit

GROUP: Final = "239.255.255.250"
PORT: Final = 1900
SERVER: Final = "Linux UPnP/1.1 natwalk/1"
_LONGEST: Final = 2048


class SsdpServer:
    """Answers searches of one LAN: each type at most once, all together at a limited rate."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._limit = RateLimit(config.search_rate, config.search_rate)
        self._boot = 1

    def answers(self, request: bytes, now: float) -> list[bytes]:
        """The answers to a search, at once whatever MX allows; none to what is not a search for us."""
        if len(request) > _LONGEST:
            return []
        try:
            method, target, headers = parse_head(request.partition(b"\r\n\r\n")[0])
        except BadRequest:
            return []
        if method != "M-SEARCH" or target != "*" or headers.get("man") != '"ssdp:discover"':
            return []
        found = self._found(headers.get("st", ""))
        return [self._answer(type_) for type_ in found if self._limit.allows("", now)]

    def announcements(self) -> list[bytes]:
        """What is multicast to the LAN when the router comes up."""
        return [self._announcement(type_) for type_ in self._types()]

    def rebooted(self) -> None:
        """Count one more start."""
        self._boot += 1

    def _types(self) -> tuple[str, ...]:
        """Every type there is to be found, the device's own name first."""
        return (f"uuid:{self._config.uuid}", "upnp:rootdevice", *versioned(self._config.upnp))

    def _found(self, search: str) -> Iterator[str]:
        """The types that ``search`` means; of one with a version, that version although we have more."""
        if search == "ssdp:all":
            yield from self._types()
            return
        for version in range(1, self._config.upnp + 1):
            if search in versioned(version):
                yield search
                return
        if search in self._types():
            yield search

    def _answer(self, type_: str) -> bytes:
        return self._message("HTTP/1.1 200 OK", "EXT:", f"ST: {type_}", f"USN: {self._name(type_)}")

    def _announcement(self, type_: str) -> bytes:
        return self._message(
            "NOTIFY * HTTP/1.1",
            f"HOST: {GROUP}:{PORT}",
            "NTS: ssdp:alive",
            f"NT: {type_}",
            f"USN: {self._name(type_)}",
        )

    def _message(self, first: str, *lines: str) -> bytes:
        config = self._config
        common = (
            "CACHE-CONTROL: max-age=1800",
            f"LOCATION: http://{config.address}:{config.http_port}/rootDesc.xml",
            f"SERVER: {SERVER}",
            f"BOOTID.UPNP.ORG: {self._boot}",
            "CONFIGID.UPNP.ORG: 1",
        )
        return "".join(f"{line}\r\n" for line in (first, *lines, *common, "")).encode("ascii")

    def _name(self, type_: str) -> str:
        own = f"uuid:{self._config.uuid}"
        return own if type_ == own else f"{own}::{type_}"


def versioned(version: int) -> tuple[str, ...]:
    """The types of an Internet Gateway Device of a version, from the outermost in."""
    device, service = "urn:schemas-upnp-org:device", "urn:schemas-upnp-org:service"
    return (
        f"{device}:InternetGatewayDevice:{version}",
        f"{device}:WANDevice:{version}",
        f"{device}:WANConnectionDevice:{version}",
        f"{service}:WANCommonInterfaceConfig:1",
        f"{service}:WANIPConnection:{version}",
    )
