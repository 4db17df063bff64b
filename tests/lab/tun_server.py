"""The other end: TCP port 80 says who came and how much, UDP port 53 echoes. Prints "ready"."""

import json
import socket
import threading

HOST = "203.0.113.10"


def echo(sock: socket.socket) -> None:
    while True:
        data, source = sock.recvfrom(65535)
        sock.sendto(data, source)


datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind((HOST, 53))
listener = socket.create_server((HOST, 80))
threading.Thread(target=echo, args=(datagrams,), daemon=True).start()
print("ready", flush=True)
while True:
    stream, (peer, _) = listener.accept()
    size = 0
    while data := stream.recv(65536):
        size += len(data)
    stream.sendall(json.dumps([peer, size]).encode())
    stream.close()
