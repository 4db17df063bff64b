"""The process that keeps a lab between two commands: ``python -m natwalk.lab.daemon NAME ROOT TOPOLOGY``.

It builds the topology, answers orders on a Unix socket (one JSON object each, answered by one) and takes
everything down at the order ``down``, at SIGTERM, or when the lab's own keeper has ended.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final

from natwalk.lab.errors import LabError
from natwalk.lab.layout import LayoutError
from natwalk.lab.layout_file import conditions_of, read_layout
from natwalk.lab.run_directory import MARK, Identity, RunDirectory, mark_of
from natwalk.lab.world import World

_LARGEST: Final = 1 << 20
_LOOK: Final = 1.0
"""Seconds between looks whether the lab still stands."""
_PATIENCE: Final = 10.0
"""Seconds a client has for its order."""


class _Terminated(Exception):
    """SIGTERM came."""


def obey(world: World, order: dict[str, Any]) -> object:
    """Carry out one order; what to answer. Raises LabError or ValueError for one that is wrong."""
    match order:
        case {"do": "status"}:
            return world.status()
        case {"do": "argv", "host": str(host)}:
            return world.node(host).argv([])
        case {"do": "cut", "name": str(name), "direction": str(direction)}:
            world.node(name).cut(direction)
        case {"do": "mend", "name": str(name)}:
            world.node(name).mend()
        case {"do": "reboot", "name": str(name), "new-ports": bool(new_ports)}:
            world.reboot(name, new_ports=new_ports)
        case {"do": "kind", "name": str(name), "kind": str(kind)}:
            world.change(name, kind)
        case {"do": "move", "name": str(name), "network": str(network)}:
            return world.move(name, network)
        case {"do": "fill", "name": str(name), "count": int(count)}:
            return world.fill(name, count)
        case {"do": "cable", "name": str(name), "conditions": dict(conditions)}:
            world.condition(name, conditions_of(conditions))
        case {"do": "capture", "name": str(name), "file": str(file)}:
            world.capture(name, Path(file))
        case {"do": "stop-capture", "name": str(name)}:
            return str(world.stop_capture(name))
        case _:
            raise LabError(f"no such order: {order.get('do')!r}")
    return True


def answer(world: World, connection: socket.socket) -> bool:
    """Carry out the order a connection brings and answer it; False when it was to take all down."""
    connection.settimeout(_PATIENCE)
    data = b""
    while not data.endswith(b"\n"):
        part = connection.recv(_LARGEST)
        if not part or len(data) > _LARGEST:
            return True
        data += part
    try:
        order = json.loads(data)
        if order.get("do") == "down":
            world.close()
            connection.sendall(b'{"ok": true}\n')
            return False
        reply: dict[str, object] = {"ok": obey(world, order)}
    except (LabError, ValueError) as error:
        reply = {"error": str(error)}
    connection.sendall(json.dumps(reply).encode() + b"\n")
    return True


def serve(world: World, listener: socket.socket) -> None:
    """Answer orders until one says down, or the lab is gone."""
    listener.settimeout(_LOOK)
    while world.stands:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        with connection:
            try:
                if not answer(world, connection):
                    return
            except OSError:
                continue  # the client went away: its loss


def main() -> int:
    """Build, say so, serve, remove."""
    name, root, topology = sys.argv[1:]
    run = RunDirectory(name, Path(root))
    lab = os.environ[MARK]
    me = Identity.of(os.getpid())
    assert me is not None
    state: dict[str, Any] = {"id": lab, "daemon": [me.pid, me.started], "topology": topology}
    run.write(state)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        with World(read_layout(Path(topology))) as world, socket.socket(socket.AF_UNIX) as listener:
            for node in world.nodes.values():
                node.ip(f"link set lo alias {mark_of(lab)}")
            inodes = [os.stat(f"/proc/{node.pid}/ns/net").st_ino for node in world.nodes.values()]
            run.write({**state, "namespaces": inodes})
            listener.bind(str(run.socket))
            listener.listen(8)
            _say("ready")
            serve(world, listener)
    except (LabError, LayoutError, OSError) as error:
        _say(f"failed {error}")
        return 1
    except _Terminated:
        return 0
    finally:
        run.remove()
    return 0


def _say(line: str) -> None:
    """Tell who started us; nobody else is to hear more."""
    print(" ".join(line.split()), flush=True)
    os.dup2(2, 1)


def _terminate(*_: object) -> None:
    raise _Terminated


if __name__ == "__main__":
    sys.exit(main())
