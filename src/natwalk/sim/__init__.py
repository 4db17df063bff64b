"""The internet in a process: hosts, links, routers and NATs on a virtual clock, driving the real cores.

The simulator is no core: it may use ``random.Random`` with a seed, which gives each host the ``random_bytes``
its cores need. It never reads a clock and never touches a socket. Same seed, same trace, byte for byte.
"""

from natwalk.sim.channel import Channel, ChannelEnd
from natwalk.sim.clock import START, WALL_OFFSET, Alarm, Clock, SimulationError
from natwalk.sim.diagram import sequence
from natwalk.sim.driver import Driver, MessageCore, attach, attach_messages
from natwalk.sim.host import Host, SimSocket
from natwalk.sim.ladder import LADDER, allowance
from natwalk.sim.link import Link, LinkConfig, Pipe
from natwalk.sim.network import Network
from natwalk.sim.pcapng import Capture
from natwalk.sim.picture import sequence_svg
from natwalk.sim.router import Router
from natwalk.sim.trace import Happening, Record, Trace

__all__ = [
    "LADDER",
    "START",
    "WALL_OFFSET",
    "Alarm",
    "Capture",
    "Channel",
    "ChannelEnd",
    "Clock",
    "Driver",
    "Happening",
    "Host",
    "Link",
    "LinkConfig",
    "MessageCore",
    "Network",
    "Pipe",
    "Record",
    "Router",
    "SimSocket",
    "SimulationError",
    "Trace",
    "allowance",
    "attach",
    "attach_messages",
    "sequence",
    "sequence_svg",
]
