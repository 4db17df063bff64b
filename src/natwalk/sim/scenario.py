"""What happens to peers meanwhile: cuts, one-way faults, reboots, new addresses, other networks, sleep.

Each is a command of :class:`Scenario` that happens now; have it happen later with ``network.at`` or
``network.after``. All are in the trace.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import Final

from natwalk.core import LocalProtocolError
from natwalk.nat import Nat
from natwalk.sim.clock import SimulationError
from natwalk.sim.internet import DELAY, Attachment, Builder, Internet, Kind, Region, Site, attachment
from natwalk.sim.link import LinkConfig


class Direction(Enum):
    """Seen from a peer."""

    OUTWARD = "outward"
    INWARD = "inward"


ELSEWHERE: Final = tuple(
    (
        Region(f"{network}{{:02}}", f"172.16.{number}.{{}}", f"100.64.{number + 10}.{{}}"),
        Region(
            f"2001:db8:{number + 0x100:x}::{{}}", f"fd00:{number + 0x100:x}::{{}}", f"fd00:{number:x}:1::{{}}"
        ),
    )
    for number, network in enumerate(("198.51.100.1", "192.0.2.1", "203.0.113.1", "192.0.2.2", "203.0.113.2"))
)
"""Networks to roam to, one after the other."""
_NEW: Final = (150, 199)
"""Last bytes of the addresses that a provider gives a line anew."""


class Scenario:
    """What may happen to the two peers of an :class:`~natwalk.sim.internet.Internet`.

    ``a`` and ``b`` are how the peers are attached now; after :meth:`roam` that is not what it was.
    """

    def __init__(self, internet: Internet) -> None:
        self.network = internet.network
        self.a = internet.a
        self.b = internet.b
        self._core = internet.core
        self._elsewhere = iter(ELSEWHERE)
        self._new = iter(range(*_NEW))

    def site(self, peer: str) -> Site:
        """How ``peer``, ``"a"`` or ``"b"``, is attached now."""
        match peer:
            case "a":
                return self.a
            case "b":
                return self.b
            case _:
                raise LocalProtocolError(f"there is no peer {peer!r}: they are called a and b")

    def cut(self, peer: str, direction: Direction | None = None) -> None:
        """Nothing passes the access link any more, or nothing in one direction: a one-way fault."""
        self._set(peer, direction, up=False)

    def mend(self, peer: str, direction: Direction | None = None) -> None:
        """Undo :meth:`cut`."""
        self._set(peer, direction, up=True)

    def reboot(self, peer: str) -> None:
        """Every router of the peer loses its state; ports that are given out by turns begin elsewhere."""
        site = self.site(peer)
        for router in (*site.routers, *site.routers6):
            router.reboot()

    def renumber(self, peer: str) -> str:
        """The provider gives the line another IPv4 address, as after a reconnection at night; returns it.

        Raises SimulationError for a peer without a NAT of IPv4, whose own address it would be.
        """
        site = self.site(peer)
        box = site.routers[-1].box if site.routers else None
        if not isinstance(box, Nat) or ":" in site.public:
            raise SimulationError(f"{peer} is not behind a NAT of its own")
        number = next(self._new, None)
        if number is None:
            raise SimulationError("no address is left")
        new = f"{site.public.rpartition('.')[0]}.{number}"
        for old in box.config.public_addresses:
            self._core.unroute(old)
        self._core.route(new, site.access.inward)
        site.routers[-1].plug(new, site.access.outward)
        box.move(new, now=self.network.now)
        self.network.note(site.routers[-1].name, f"now at {new}")
        self._move(peer, replace(site, public=new))
        return new

    def roam(self, peer: str, kind: Kind, *, config: LinkConfig | None = None) -> Site:
        """The host leaves its network and joins another, with routers, addresses and IP versions of ``kind``.

        Its sockets stay bound to addresses that it no longer has. Returns how it is attached then. Raises
        SimulationError when there is no further network to go to.
        """
        old = self.site(peer)
        where = next(self._elsewhere, None)
        if where is None:
            raise SimulationError(f"there are {len(ELSEWHERE)} networks to roam to")
        for address in old.host.addresses:
            old.host.unplug(address)
            self._core.unroute(address)
            for router in (*old.routers[:1], *old.routers6[:1]):
                router.unroute(address)
        number = ELSEWHERE.index(where)
        attached: Attachment = attachment(kind)
        builder = Builder(self.network, self._core, shared=False)
        site = builder.attach(old.host, f"{peer}{number}", attached, where, config or LinkConfig(delay=DELAY))
        self.network.note(old.host.name, f"now on another network, at {' and '.join(old.host.addresses)}")
        self._move(peer, site)
        return site

    def sleep(self, peer: str) -> None:
        """Suspend the host: see :meth:`Host.sleep`."""
        self.site(peer).host.sleep()

    def wake(self, peer: str) -> None:
        """Resume the host."""
        self.site(peer).host.wake()

    def _move(self, peer: str, site: Site) -> None:
        if peer == "a":
            self.a = site
        else:
            self.b = site

    def _set(self, peer: str, direction: Direction | None, *, up: bool) -> None:
        link = self.site(peer).access
        for each, pipe in ((Direction.OUTWARD, link.outward), (Direction.INWARD, link.inward)):
            if direction in (None, each):
                pipe.up = up
                self.network.note(pipe.name, "up" if up else "down")
