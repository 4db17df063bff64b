"""Where fuzzing starts: well-formed inputs, written to the corpus by ``python -m fuzz.seeds``."""

from __future__ import annotations

import hashlib
from ipaddress import ip_address
from typing import Final

from fuzz import CORPUS, ROOT
from natwalk.core import Address
from natwalk.ice.dns import AddressRecord, DnsMessage, Question
from natwalk.ice.dns import encode as encode_dns
from natwalk.relay import FrameType, RelayIdentity, frame
from natwalk.relay.upgrade import SWITCHING
from natwalk.stun import (
    CHANGE_REQUEST,
    DATA,
    PADDING,
    REQUESTED_TRANSPORT,
    RESPONSE_PORT,
    UNKNOWN_ATTRIBUTES,
    XOR_PEER_ADDRESS,
    ChangeRequest,
    Method,
    encode,
    error,
    indication,
    request,
)
from natwalk.turn.channel_data import encode_channel_data

_IP: Final = ip_address("192.168.1.3")
_TID: Final = bytes(range(12))
_BINDING: Final = request(Method.BINDING, _TID)
_PEER: Final = Address("192.0.2.77", 7000)
_VECTORS: Final = [
    bytes.fromhex("".join(line.split("#")[0] for line in file.read_text(encoding="utf-8").splitlines()))
    for file in sorted((ROOT / "tests" / "data" / "stun").glob("*.hex"))
]
_MESSAGES: Final = [
    *_VECTORS,
    encode(_BINDING),
    encode(request(Method.BINDING, _TID, (CHANGE_REQUEST, ChangeRequest(True, True)), (PADDING, bytes(8)))),
    encode(request(Method.BINDING, _TID, (RESPONSE_PORT, 4000)), fingerprint=True),
    encode(request(Method.ALLOCATE, _TID, (REQUESTED_TRANSPORT, 17)), integrity_key=b"key", sha256=True),
    encode(indication(Method.SEND, _TID, (XOR_PEER_ADDRESS, _PEER), (DATA, b"hello"))),
    encode(error(_BINDING, 420, "no", (UNKNOWN_ATTRIBUTES, (1, 2, 3)))),
]
_CHANNEL_DATA: Final = encode_channel_data(0x4001, b"hello")

SEEDS: Final[dict[str, list[bytes]]] = {
    "codec": _MESSAGES,
    "classic": [
        b"\x00\x01\x00\x08" + bytes(range(16)) + b"\x00\x03\x00\x04\x00\x00\x00\x06",
        b"\x00\x01\x00\x00" + bytes(range(16)),
        _CHANNEL_DATA,
    ],
    "framing": [
        b"\x04" + _MESSAGES[0] + _CHANNEL_DATA + bytes(3) + encode(_BINDING),
        b"\x00" + _CHANNEL_DATA + bytes(3) + _CHANNEL_DATA,
        b"\x24" + encode(_BINDING) * 3,
        b"\x01GET / HTTP/1.1\r\n",
    ],
    "proxy": [
        b"\x03PROXY TCP4 192.0.2.1 198.51.100.1 5000 3478\r\nrest",
        b"\x24PROXY TCP6 2001:db8::1 2001:db8::2 5000 3478\r\n",
        b"\x05PROXY UNKNOWN\r\n",
        b"\x07\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x01\x13\x88\x0d\x96rest",
        b"\x02\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00",
    ],
    "uri": [
        text.encode()
        for text in (
            "stun:example.org",
            "stuns:example.org:5349",
            "turn:[2001:db8::1]:3478?transport=udp",
            "turns:192.0.2.1?transport=tcp",
            "stun:b%C3%BCcher.example",
            "turn://example.org",
            "stun:0x7f.1",
        )
    ],
    "relay-frames": [
        b"\x00" + frame(FrameType.PING, bytes(8)) + frame(FrameType.SEND, bytes(32), b"packet"),
        b"\x05" + frame(FrameType.CHALLENGE, b"\x01", bytes(64)) + b"\x7f\x00\x00\x00\x02xx",
        b"\x24" + frame(FrameType.RESTARTING, bytes(8)) + b"\x10\xff\xff\xff\xff",
    ],
    "relay-cores": [
        b"\x00\x00\x04\x22" + RelayIdentity(bytes(range(2, 34))).public + b"hi",
        b"\x01\x02\x06\x08" + bytes(8) + b"\x00\x06\x00\x00\xff",
        b"\x00\x04\x0a\x08" + bytes(8) + b"\x01\x07\x00\x00",
    ],
    "relay-openings": [
        b"\x00\x03" + SWITCHING + b"frames",
        b"\x01\x09HTTP/1.1 200 Connection established\r\n\r\n",
        b"\x01\x09HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        b"\x02\x01\x05\x02\x01\x00\x05\x00\x00\x01" + bytes(6) + b"\x16",
    ],
    "mdns": [
        encode_dns(DnsMessage(questions=(Question("own.local"), Question("wanted.local", 28)))),
        encode_dns(DnsMessage(response=True, answers=(AddressRecord("wanted.local", _IP, 120),))),
        bytes.fromhex("00008400000000020000000004506565720000100001000000780002c00c")
        + bytes.fromhex("c00c00018001000000780004c0000201"),
    ],
    "description": [
        b"a=ice-lite\r\na=ice-ufrag:abcd\r\na=ice-pwd:" + b"p" * 22 + b"\r\na=ice-options:trickle ice2\r\n"
        b"a=candidate:1 1 udp 5 192.0.2.1 5000 typ host\r\na=candidate:2 1 udp 4 n.local 5001 typ host\r\n"
        b"a=candidate:3 1 udp 3 192.0.2.2 5002 typ srflx raddr 0.0.0.0 rport 9\r\na=end-of-candidates\r\n",
        b'{"usernameFragment": "abcd", "password": "' + b"p" * 22 + b'", "iceLite": false,'
        b' "options": ["ice2"], "complete": true,'
        b' "candidates": ["candidate:1 1 udp 5 192.0.2.1 5000 typ host"]}',
    ],
    "oauth": [b"\x00\x10" + bytes(range(40)), b"\x01\x00\x0c" + bytes(60)],
}


def write() -> int:
    """Write every seed that is not there; returns how many were."""
    written = 0
    for target, inputs in SEEDS.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for data in inputs:
            # the name libFuzzer would give it
            file = folder / hashlib.sha1(data, usedforsecurity=False).hexdigest()
            if not file.exists():
                file.write_bytes(data)
                written += 1
    return written


if __name__ == "__main__":
    print(f"{write()} seeds written")
