"""The process that keeps a lab's network namespaces, and takes everything down with it.

Run as a script (``python -I -S keeper.py privileged|user-namespace``), never imported: it may use only the
standard library. It answers ``ready`` or ``failed STEP: REASON``; then every line read on standard input
makes one network namespace, answered by the process id of the process that anchors it. The end of standard
input, which the kernel delivers even when the owner is killed with SIGKILL, ends the lab: every process in
its namespaces is killed, and with the last one the kernel removes namespaces, links and rules.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

CLONE_NEWUSER = 0x1000_0000
CLONE_NEWNET = 0x4000_0000
PR_SET_PDEATHSIG = 1
SWEEPS = 100
SWEEP_PAUSE = 0.01
QUIET_SWEEPS = 3

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Move this process into new namespaces; raises OSError (os.unshare came with Python 3.12)."""
    if _libc.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def become_root_of_a_user_namespace() -> None:
    """Enter a new user namespace in which this user is root (user_namespaces(7)); raises OSError."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def anchor() -> int:
    """Start a process that sits in a network namespace of its own; its process id. Raises OSError."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _sit(write_end)
    os.close(write_end)
    answer = os.read(read_end, 16)
    os.close(read_end)
    if answer != b"0":
        os.waitpid(pid, 0)
        raise OSError(int(answer or 1), os.strerror(int(answer or 1)))
    return pid


def _sit(write_end: int) -> None:
    """In the child: make the namespace, report errno, wait to be killed with the keeper."""
    status = 0
    try:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        unshare(CLONE_NEWNET)
    except OSError as error:
        status = error.errno or 1
    os.write(write_end, str(status).encode())
    os.close(write_end)
    os.close(0)
    os.close(1)
    while status == 0:
        signal.pause()
    os._exit(1)


def end(anchors: dict[int, int]) -> None:
    """Kill everything that is or will be in the namespaces of ``anchors`` (process id to open namespace).

    The anchors go first: from then on no ``nsenter`` finds a way in. One that had found it before is
    recognised by its command line until it is inside, and by its namespace from then on. The namespaces
    are held open meanwhile, or their inode numbers could become those of another lab.
    """
    for pid in anchors:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    namespaces = {os.fstat(handle).st_ino for handle in anchors.values()}
    quiet = 0  # in a row, because a process in the middle of execve shows neither for an instant
    for _ in range(SWEEPS):
        quiet = 0 if _sweep(set(anchors), namespaces) else quiet + 1
        if quiet == QUIET_SWEEPS:
            return
        time.sleep(SWEEP_PAUSE)


def _sweep(anchors: set[int], namespaces: set[int]) -> int:
    """Kill every process in or on its way into the lab; how many there were."""
    found = 0
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            if _is_entering(name, anchors) or os.stat(f"/proc/{name}/ns/net").st_ino in namespaces:
                os.kill(int(name), signal.SIGKILL)
                found += 1
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile, or is somebody else's and so not in our namespaces
    return found


def _is_entering(name: str, anchors: set[int]) -> bool:
    """Whether process ``name`` is an ``nsenter -t`` into one of our namespaces (see ``Space.enter``)."""
    with open(f"/proc/{name}/cmdline", "rb") as file:
        words = file.read(256).split(b"\0")
    return (
        len(words) > 2
        and os.path.basename(words[0]) == b"nsenter"
        and words[1] == b"-t"
        and words[2] in {b"%d" % pid for pid in anchors}
    )


def main() -> int:
    """Answer the owner until it closes our standard input; then sweep and go."""
    try:
        if sys.argv[1] == "user-namespace":
            become_root_of_a_user_namespace()
    except OSError as error:
        print(f"failed making a user namespace: {error.strerror}", flush=True)
        return 1
    print("ready", flush=True)
    anchors: dict[int, int] = {}
    for _ in sys.stdin:
        try:
            pid = anchor()
        except OSError as error:
            print(f"failed making a network namespace: {error.strerror}", flush=True)
            break
        anchors[pid] = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        print(pid, flush=True)
    end(anchors)
    return 0


if __name__ == "__main__":
    sys.exit(main())
