"""Takes a code off the command line once it has been read, so that ``ps`` does not show it to everyone."""

from __future__ import annotations

from typing import Final

_ARG_START: Final = 47
_ARG_END: Final = 48
"""Fields of /proc/PID/stat, counted from 0: where the arguments lie in memory (proc_pid_stat(5))."""


def hide_argument(value: str) -> bool:
    """Overwrite ``value`` in this process's own arguments with ``x``; True when it was there and is gone.

    Works on Linux, where the arguments shown by ``ps`` are this process's memory. Elsewhere, and where the
    system forbids it, nothing happens and False is returned.
    """
    secret = value.encode(errors="surrogateescape")
    if not secret:
        return False
    try:
        with open("/proc/self/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
        start, end = (int(fields[index - 2]) for index in (_ARG_START, _ARG_END))
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            arguments = memory.read(end - start)
            at = arguments.rfind(b"\0" + secret + b"\0")
            if at < 0:
                return False
            memory.seek(start + at + 1)
            memory.write(b"x" * len(secret))
    except (OSError, ValueError, IndexError):
        return False
    return True
