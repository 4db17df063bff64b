"""UDP sockets inside a namespace, driven by JSON lines; answers one JSON line for each.

{"do": "bind", "name": "x", "at": [ip, port]}  -> ["ip", port]
{"do": "send", "name": "x", "to": [ip, port], "text": "t"}  -> null
{"do": "receive", "name": "x", "within": 0.5}  -> [["ip", port], "text"], or null after that many seconds
"""

import json
import socket
import sys


def main() -> None:
    sockets: dict[str, socket.socket] = {}
    for line in sys.stdin:
        order = json.loads(line)
        answer: object = None
        match order["do"]:
            case "bind":
                sockets[order["name"]] = sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.bind(tuple(order["at"]))
                answer = sock.getsockname()
            case "send":
                sockets[order["name"]].sendto(order["text"].encode(), tuple(order["to"]))
            case "receive":
                sock = sockets[order["name"]]
                sock.settimeout(order["within"])
                try:
                    data, source = sock.recvfrom(2048)
                    answer = [source, data.decode()]
                except TimeoutError:
                    answer = None
        print(json.dumps(answer), flush=True)


main()
