"""The connections of one client to its server: one, and two while it moves from one to the other."""

from __future__ import annotations

from collections.abc import Callable

from natwalk.aio.server_link import ServerLink
from natwalk.core import Drops, Path, Transmit


class Links(dict[Path, ServerLink]):
    """Links by path."""

    def drop(self, path: Path) -> None:
        """Close the link on ``path``, if there is one."""
        link = self.pop(path, None)
        if link is not None:
            link.close()

    def send(self, poll: Callable[[], Transmit | None], drops: Drops) -> None:
        """Send everything there is to send, runs on one path together."""
        run: list[bytes] = []
        path: Path | None = None
        while (out := poll()) is not None:
            if out.path != path:
                self._send_run(run, path, drops)
                run, path = [], out.path
            run.append(out.data)
        self._send_run(run, path, drops)

    def _send_run(self, run: list[bytes], path: Path | None, drops: Drops) -> None:
        if path is None:
            return
        link = self.get(path)
        if link is None:
            drops.add("the connection to the server is closed")
        else:
            link.send(run)
