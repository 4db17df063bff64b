"""Drives a TURN server on a host: the relay sockets it asks for are sockets of that host."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from natwalk.core import Address, LocalProtocolError, Transport
from natwalk.sim.clock import WALL_OFFSET
from natwalk.sim.driver import Driver
from natwalk.sim.host import Host
from natwalk.sim.network import Network
from natwalk.turn import RelayReleased, RelayWanted, TurnServer, TurnServerEvent


def attach_turn_server(
    network: Network,
    server: TurnServer,
    host: Host,
    listeners: Iterable[Address],
    on_event: Callable[[TurnServerEvent], None] | None = None,
) -> Driver[TurnServerEvent]:
    """Run ``server`` on ``host`` with a client socket at each of ``listeners``, over UDP and TCP.

    Relay sockets are opened and closed as the server wants; every event goes to ``on_event`` as well, or
    collects in the driver's ``events``. Raises LocalProtocolError when a listener cannot be bound.
    """

    def handle(event: TurnServerEvent) -> None:
        match event:
            case RelayWanted(address, token):
                try:
                    driver.bind(address.port, address.host)
                except LocalProtocolError:
                    driver.do(server.relay_failed, token)
                else:
                    driver.do(server.relay_opened, token)
            case RelayReleased(address):
                driver.unbind(address)
            case _:
                pass
        tell(event)

    driver: Driver[TurnServerEvent] = Driver(network, server, host, handle)
    tell = on_event or driver.events.append
    driver.use(server)
    server.set_wall_offset(WALL_OFFSET)
    for listener in listeners:
        address = driver.bind(listener.port, listener.host)
        for transport in (Transport.UDP, Transport.TCP):
            server.add_listener(address, transport)
    driver.flush()
    return driver
