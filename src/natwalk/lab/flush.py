"""Empties the connection tracking table of the namespace it runs in, as ``conntrack -F`` would.

Run as a script (``python -I -S flush.py``), never imported: one netlink message (nfnetlink, ctnetlink
subsystem, delete without a tuple), so that neither conntrack-tools nor another package is needed.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

NETLINK_NETFILTER = 12
NFNL_SUBSYS_CTNETLINK = 1
IPCTNL_MSG_CT_DELETE = 2
NLM_F_REQUEST = 1
NLM_F_ACK = 4
NLMSG_ERROR = 2
HEADER = struct.Struct("=IHHII")
NFGENMSG = struct.Struct("=BBH")


def flush() -> None:
    """Delete every connection tracking entry; raises OSError with what the kernel answered."""
    kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE
    message = HEADER.pack(HEADER.size + NFGENMSG.size, kind, NLM_F_REQUEST | NLM_F_ACK, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as netlink:
        netlink.settimeout(5.0)
        netlink.sendto(message + NFGENMSG.pack(socket.AF_UNSPEC, 0, 0), (0, 0))
        answer = netlink.recv(4096)
    _, answer_kind, _, _, _ = HEADER.unpack_from(answer)
    (code,) = struct.unpack_from("=i", answer, HEADER.size)
    if answer_kind != NLMSG_ERROR or code != 0:
        raise OSError(-code, os.strerror(-code))


if __name__ == "__main__":
    flush()
    sys.exit(0)
