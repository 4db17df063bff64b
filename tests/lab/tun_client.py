"""What a host does through the router on TUN, with nothing but the kernel's sockets; prints JSON."""

import errno
import json
import socket
import struct
from contextlib import suppress

SERVER = "203.0.113.10"
IP_RECVERR, MSG_ERRQUEUE = 11, 0x2000


def tcp(size: int) -> list[object]:
    """What the server saw of a stream of that many bytes."""
    with socket.create_connection((SERVER, 80), 10) as stream:
        stream.sendall(bytes(size))
        stream.shutdown(socket.SHUT_WR)
        return json.loads(stream.recv(1000))


def udp(size: int) -> bool:
    """Whether a datagram of that size, in fragments if need be, comes back as it was."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        data = bytes(range(256)) * (size // 256 + 1)
        sock.sendto(data[:size], (SERVER, 53))
        return sock.recvfrom(65535) == (data[:size], (SERVER, 53))


def error_of(kind: int, port: int) -> str:
    """The error a socket gets from a port where nobody listens."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.settimeout(5)
        try:
            sock.connect((SERVER, port))
            sock.send(b"x")
            sock.recv(10)
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
        return "none"


def expired() -> list[object]:
    """Where the ICMP error about a datagram without hops comes from, and its type."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
        sock.settimeout(5)
        sock.connect((SERVER, 53))
        sock.send(b"x")
        with suppress(OSError):
            sock.recv(10)
        [(_, _, extended)] = sock.recvmsg(100, 1000, MSG_ERRQUEUE)[1]
        type_, offender = extended[5], extended[16 + 4 : 16 + 8]
        return [socket.inet_ntoa(offender), type_]


def ping(identifier: int) -> bool:
    """Whether an echo comes back with its identifier."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.settimeout(5)
        words = (0x0800, 0, identifier, 1)
        total = sum(words)
        checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
        sock.sendto(struct.pack("!HHHH", 0x0800, checksum, identifier, 1), (SERVER, 0))
        reply = sock.recv(1000)
        return reply[20] == 0 and struct.unpack("!HH", reply[24:28]) == (identifier, 1)


print(
    json.dumps(
        {
            "tcp": tcp(1_000_000),
            "udp": [udp(size) for size in (1, 1472, 1473, 5000, 40_000)],
            "closed": [error_of(socket.SOCK_STREAM, 81), error_of(socket.SOCK_DGRAM, 99)],
            "expired": expired(),
            "ping": ping(4242),
        }
    )
)
