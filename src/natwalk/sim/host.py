"""Hosts: machines with addresses and UDP sockets."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from natwalk.core import Address, Drops, LocalProtocolError
from natwalk.nat import IpProtocol, Packet
from natwalk.sim.clock import Clock, SimulationError
from natwalk.sim.link import Pipe
from natwalk.sim.trace import Happening, Trace

Receive = Callable[[bytes, Address], None]
"""Takes a datagram and where it came from."""

EPHEMERAL: Final = (49152, 65535)  # RFC 6335 §6


class SimSocket:
    """A UDP socket of a host, bound to one address."""

    def __init__(self, host: Host, address: Address, receive: Receive) -> None:
        self.host = host
        self.address = address
        self.receive = receive

    def send(self, data: bytes, remote: Address) -> None:
        """Send one datagram; nothing says whether it arrives."""
        self.host.send(Packet(self.address, remote, data))

    def close(self) -> None:
        """Free the port; harmless when closed already."""
        self.host.release(self)


class Host:
    """One machine. Make it by :meth:`Network.host <natwalk.sim.Network.host>`.

    ``random_bytes`` is the randomness its cores shall use: the same for the same seed and host name.
    """

    SOCKETS: Final = 4096
    MISSED: Final = 10_000
    """What may wait for it to wake up."""

    def __init__(self, name: str, clock: Clock, trace: Trace, rng: Random, serial: Callable[[], int]) -> None:
        self.name = name
        self.drops = Drops()
        self._clock = clock
        self._trace = trace
        self._rng = rng
        self._serial = serial
        self.asleep = False
        self._missed: list[tuple[Callable[..., None], tuple[object, ...]]] = []
        self._uplinks: dict[str, Pipe] = {}
        self._sockets: dict[Address, SimSocket] = {}

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its IP addresses, in the order they were given."""
        return tuple(self._uplinks)

    @property
    def address(self) -> str:
        """Its first IP address; raises LocalProtocolError when it is not connected."""
        if not self._uplinks:
            raise LocalProtocolError(f"host {self.name} is not connected")
        return next(iter(self._uplinks))

    def random_bytes(self, count: int) -> bytes:
        """``count`` bytes, the same in every run with the same seed."""
        return self._rng.randbytes(count)

    def bind(self, receive: Receive, port: int = 0, host: str | None = None) -> SimSocket:
        """A socket at ``port`` (0: any free one) of ``host`` (None: the first address).

        Raises LocalProtocolError when the address is not this host's or the port is taken.
        """
        ip = self.address if host is None else host
        if ip not in self._uplinks:
            raise LocalProtocolError(f"{ip} is not an address of {self.name}")
        if len(self._sockets) >= self.SOCKETS:
            raise LocalProtocolError(f"{self.name} has {self.SOCKETS} sockets open")
        address = Address(ip, port) if port else self._ephemeral(ip)
        if address in self._sockets:
            raise LocalProtocolError(f"{address} is taken on {self.name}")
        socket = self._sockets[address] = SimSocket(self, address, receive)
        return socket

    def free_address(self, host: str | None = None) -> Address:
        """An address no socket is bound to, at ``host`` (None: the first address), for a core to be told."""
        return self._ephemeral(self.address if host is None else host)

    def release(self, socket: SimSocket) -> None:
        """Forget a socket."""
        if self._sockets.get(socket.address) is socket:
            del self._sockets[socket.address]

    def sleep(self) -> None:
        """Suspend the machine: no timer rings, no core hears anything, what arrives is lost."""
        self.asleep = True
        self._trace.add(self._clock.now, Happening.SCENARIO, self.name, 0, None, "asleep")

    def wake(self) -> None:
        """Resume it: what waited happens now, in order. Its clock has gone on meanwhile."""
        self.asleep = False
        self._trace.add(self._clock.now, Happening.SCENARIO, self.name, 0, None, "awake")
        missed, self._missed = self._missed, []
        for call, args in missed:
            self._clock.call_at(self._clock.now, call, *args)

    def when_awake(self, call: Callable[..., None], *args: object) -> None:
        """Have ``call(*args)`` made as soon as the machine is awake: now, unless it sleeps."""
        if self.asleep:
            if len(self._missed) >= self.MISSED:
                raise SimulationError(f"{self.MISSED} things wait for {self.name} to wake up")
            self._missed.append((call, args))
        else:
            call(*args)

    def send(self, packet: Packet) -> None:
        """Put one packet on the link its source address belongs to, or hand it to a socket of its own."""
        serial = self._serial()
        self._trace.add(self._clock.now, Happening.SEND, self.name, serial, packet)
        if packet.destination.host in self._uplinks:
            self._clock.call_at(self._clock.now, self.receive, packet, serial)
        elif (uplink := self._uplinks.get(packet.source.host)) is not None:
            uplink.send(packet, serial)
        else:
            self._drop(packet, serial, "no such source address")

    def receive(self, packet: Packet, serial: int) -> None:
        """Take one packet off the link."""
        if self.asleep:
            self._drop(packet, serial, "asleep")
            return
        socket = self._sockets.get(packet.destination) if packet.protocol is IpProtocol.UDP else None
        if socket is None:
            self._drop(packet, serial, "no socket")
            return
        self._trace.add(self._clock.now, Happening.RECEIVE, self.name, serial, packet)
        socket.receive(packet.payload, packet.source)

    def plug(self, address: str, uplink: Pipe) -> None:
        """Give it ``address`` on a link; what :meth:`Network.connect` calls."""
        self._uplinks[address] = uplink

    def unplug(self, address: str) -> None:
        """Take ``address`` away; sockets bound to it hear nothing any more."""
        self._uplinks.pop(address, None)

    def _ephemeral(self, ip: str) -> Address:
        first, last = EPHEMERAL
        for _ in range(64):
            address = Address(ip, self._rng.randint(first, last))
            if address not in self._sockets:
                return address
        raise LocalProtocolError(f"no free port on {self.name}")

    def _drop(self, packet: Packet, serial: int, why: str) -> None:
        self.drops.add(why)
        self._trace.add(self._clock.now, Happening.DROP, self.name, serial, packet, why)
