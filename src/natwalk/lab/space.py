"""Network namespaces anchored by one keeper process, and running programs inside them.

Nothing is written under ``/run/netns`` and nothing is added to the machine's own namespace, so this works
for root and, inside a user namespace, for everybody, and nothing can be left behind: see
:mod:`natwalk.lab.keeper`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from natwalk.lab.errors import LabError, LabUnavailable

_SYSTEM_FOLDERS: Final = "/usr/sbin:/sbin:/usr/bin:/bin"  # not in the PATH of plain users on Debian
_PACKAGES: Final = {
    "ip": "iproute2",
    "tc": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "tee": "coreutils",
}
_SECONDS_TO_CLOSE: Final = 10.0

Stream = int | IO[bytes] | None


class Namespace:
    """One network namespace and the programs in it."""

    def __init__(self, space: Space, name: str, pid: int) -> None:
        self._space = space
        self.name = name
        self.pid = pid
        """The process that anchors the namespace; ``/proc/PID/ns/net`` is the namespace."""

    def argv(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs ``argv`` in this namespace, for any way of starting processes."""
        return [*self._space.enter(self.pid), *argv]

    def popen(
        self,
        argv: Sequence[str],
        *,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = None,
        stderr: Stream = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start ``argv`` in this namespace; its ``pid`` is the program's own. Killed when the lab closes."""
        process = subprocess.Popen(
            self.argv(argv), stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd
        )
        self._space.adopt(process)
        return process

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` once everything in the lab has been killed."""
        self._space.on_close(callback)

    def run(
        self, argv: Sequence[str], *, text: str = "", timeout: float = 30.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run ``argv`` to its end with ``text`` as standard input; output and exit code.

        With ``check`` raises :class:`LabError` on an exit code other than 0; always raises
        :class:`subprocess.TimeoutExpired` after ``timeout`` seconds.
        """
        done = subprocess.run(
            self.argv(argv), input=text, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode != 0:
            raise LabError(f"{' '.join(argv)} in {self.name}: {done.stderr.strip() or done.returncode}")
        return done

    def python(self, script: Path, *arguments: str, timeout: float = 30.0) -> str:
        """Run a Python script that needs only the standard library; what it printed. Raises LabError."""
        return self.run([sys.executable, "-I", "-S", str(script), *arguments], timeout=timeout).stdout

    def sysctl(self, value: str, *names: str) -> None:
        """Write ``value`` to kernel settings such as ``net/ipv4/ip_forward``. Raises LabError."""
        self.run([tool("tee"), *(f"/proc/sys/{name}" for name in names)], text=value)

    def ip(self, *lines: str) -> None:
        """Run ``ip`` commands, one a line, without the leading ``ip``. Raises LabError."""
        self.run([tool("ip"), "-batch", "-"], text="\n".join(lines) + "\n")

    def ip6(self, *lines: str) -> None:
        """Run ``ip -6`` commands, one a line, without the leading ``ip -6``. Raises LabError."""
        self.run([tool("ip"), "-6", "-batch", "-"], text="\n".join(lines) + "\n")

    def nft(self, ruleset: str) -> None:
        """Load an nftables ruleset as one transaction. Raises LabError."""
        self.run([tool("nft"), "-f", "-"], text=ruleset)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class Space:
    """All the namespaces of one lab. Raises :class:`LabUnavailable` where there can be none.

    Root gets plain network namespaces; another user, or root without the capability, gets them inside a
    user namespace (``in_user_namespace``).
    """

    def __init__(self) -> None:
        for name in _PACKAGES:
            tool(name)
        self._children: list[subprocess.Popen[bytes]] = []
        self._callbacks: list[Callable[[], None]] = []
        self.in_user_namespace = os.geteuid() != 0
        try:
            self._keeper = self._start()
        except LabUnavailable:
            if self.in_user_namespace:
                raise
            self.in_user_namespace = True
            self._keeper = self._start()

    @property
    def keeper_pid(self) -> int:
        """The keeper's process id; it ends when nothing is left in the namespaces."""
        return self._keeper.pid

    @property
    def stands(self) -> bool:
        """Whether the keeper still runs."""
        return self._keeper.poll() is None

    def new_pid(self) -> int:
        """Make one more namespace; the process id of its anchor. Raises LabUnavailable."""
        return _ask(self._keeper)

    def adopt(self, process: subprocess.Popen[bytes]) -> None:
        """Reap ``process`` when the lab closes."""
        self._children = [child for child in self._children if child.poll() is None]
        self._children.append(process)

    def enter(self, pid: int) -> list[str]:
        """The start of a command line that runs in the namespace of ``pid``."""
        if self.in_user_namespace:
            return [tool("nsenter"), "-t", str(pid), "-U", "-n", "--preserve-credentials", "--"]
        return [tool("nsenter"), "-t", str(pid), "-n", "--"]

    def close(self) -> None:
        """Kill everything in the namespaces and let the kernel remove them. Safe to call twice."""
        _stop(self._keeper)
        for child in self._children:
            child.wait(_SECONDS_TO_CLOSE)
        self._children.clear()
        while self._callbacks:
            self._callbacks.pop()()

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` at the end of :meth:`close`; the latest first."""
        self._callbacks.append(callback)

    def _start(self) -> subprocess.Popen[str]:
        """Start a keeper and see that it can make a namespace. Raises LabUnavailable."""
        mode = "user-namespace" if self.in_user_namespace else "privileged"
        keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("keeper.py")), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C on the terminal is for the owner; it ends us by closing
        )
        assert keeper.stdout is not None
        answer = keeper.stdout.readline().strip()
        if answer != "ready":
            _stop(keeper)
            raise _unavailable(answer)
        _ask(keeper)
        return keeper


def tool(name: str) -> str:
    """The full path of a system program. Raises LabUnavailable naming the package that has it."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SYSTEM_FOLDERS}")
    if path is None:
        package = _PACKAGES.get(name, name)
        raise LabUnavailable(
            f"the program {name!r} is not installed", f"install it, on Debian: apt install {package}"
        )
    return path


def _ask(keeper: subprocess.Popen[str]) -> int:
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    with suppress(BrokenPipeError):  # it has gone: then there is no answer either
        keeper.stdin.write("\n")
        keeper.stdin.flush()
    answer = keeper.stdout.readline().strip()
    if not answer.isdecimal():
        _stop(keeper)
        raise _unavailable(answer)
    return int(answer)


def _stop(keeper: subprocess.Popen[str]) -> None:
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    with suppress(BrokenPipeError):
        keeper.stdin.close()
    keeper.wait(_SECONDS_TO_CLOSE)
    keeper.stdout.close()


def _unavailable(answer: str) -> LabUnavailable:
    reason = answer.removeprefix("failed ") or "the process that keeps the namespaces ended at once"
    return LabUnavailable(reason, "run as root, or allow unprivileged user namespaces on this machine")
