"""A router with a LAN, its services, and what its hosts say to them."""

from __future__ import annotations

from random import Random

from natwalk.core import Address
from natwalk.nat import GatewayConfig, Nat, NatConfig, Packet, ServiceQuirk
from natwalk.nat.services import Gateway

ROUTER, LAN = "192.168.1.1", "192.168.1.0/24"
PUBLIC = "198.51.100.1"
CLIENT = Address("192.168.1.10", 40000)
OTHER = Address("192.168.1.11", 40000)
OUTSIDE = Address("203.0.113.7", 40000)


class Router:
    """A NAT and its gateway, driven by hand."""

    def __init__(self, *quirks: ServiceQuirk, nat: dict[str, object] | None = None, **fields: object) -> None:
        everything = {"nat_pmp": True, "pcp": True, "upnp": 1} | fields
        config = GatewayConfig(quirks=frozenset(quirks), **everything).at(ROUTER, LAN)  # type: ignore[arg-type]
        self.nat = Nat(
            NatConfig(public_addresses=(PUBLIC,), **(nat or {})),  # type: ignore[arg-type]
            random_bytes=Random(1).randbytes,
        )
        self.gateway = Gateway(config, self.nat, 0.0)
        self.gateway.announcements(0.0)

    def ask(self, payload: bytes, port: int, source: Address = CLIENT, now: float = 1.0) -> list[Packet]:
        return self.gateway.receive(Packet(source, Address(ROUTER, port), payload), now)

    def reaches(self, external: Address, now: float = 1.0, remote: Address = OUTSIDE) -> Address | None:
        """Which internal address a stranger's packet to ``external`` arrives at."""
        verdict = self.nat.inbound(Packet(remote, external, b"hello"), now)
        return getattr(getattr(verdict, "packet", None), "destination", None)

    def http(self, request: bytes, source: Address = CLIENT, now: float = 1.0) -> tuple[int, bytes]:
        answer = self.gateway.http(request, source, now)
        assert answer is not None
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def soap(
        self, action: str, source: Address = CLIENT, now: float = 1.0, **arguments: object
    ) -> tuple[int, str]:
        """(error code or 200, text of the answer)."""
        inner = "".join(f"<{name}>{value}</{name}>" for name, value in arguments.items())
        body = (
            '<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>'
            f'<u:{action} xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1">{inner}</u:{action}>'
            "</s:Body></s:Envelope>"
        )
        request = (
            f"POST /ctl/IPConn HTTP/1.1\r\nHost: {ROUTER}:5000\r\nContent-Length: {len(body.encode())}\r\n"
            f'SOAPAction: "urn:schemas-upnp-org:service:WANIPConnection:1#{action}"\r\n\r\n{body}'
        )
        status, answer = self.http(request.encode(), source, now)
        text = answer.decode()
        if status == 500:
            return int(text.partition("<errorCode>")[2].partition("<")[0]), text
        return status, text

    def add(self, source: Address = CLIENT, now: float = 1.0, **changes: object) -> tuple[int, str]:
        """AddPortMapping of UDP 7000 to the client's port 7000 for an hour, with changes."""
        arguments = {
            "NewRemoteHost": "",
            "NewExternalPort": 7000,
            "NewProtocol": "UDP",
            "NewInternalPort": 7000,
            "NewInternalClient": source.host,
            "NewEnabled": 1,
            "NewPortMappingDescription": "natwalk &amp; co",
            "NewLeaseDuration": 3600,
        }
        action = str(changes.pop("action", "AddPortMapping"))
        return self.soap(action, source, now, **(arguments | changes))


def value(text: str, name: str) -> str:
    """What is between the tags ``name``."""
    return text.partition(f"<{name}>")[2].partition("</")[0]
