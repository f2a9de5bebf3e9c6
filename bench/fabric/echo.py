"""A program for hosts: echo over TCP, and the round trips of a client, as one line of JSON in milliseconds.

python echo.py serve PORT            prints a line once it listens
python echo.py measure HOST PORT COUNT BYTES SECONDS
"""

import json
import socket
import sys
import time


def serve(port: str) -> None:
    """Echo, one client after the other, until killed."""
    with socket.create_server(("", int(port))) as server:
        print("listening", flush=True)
        while True:
            client = server.accept()[0]
            with client:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while data := client.recv(1 << 16):
                    client.sendall(data)


def measure(host: str, port: str, count: str, size_bytes: str, seconds: str) -> None:
    """Round trips of so many bytes; ends early, with those it has, once one takes longer than `seconds`."""
    times: list[float] = []
    payload = bytes(int(size_bytes))
    try:
        with socket.create_connection((host, int(port)), timeout=float(seconds)) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(int(count)):
                start = time.perf_counter()
                server.sendall(payload)
                left = len(payload)
                while left:
                    left -= len(server.recv(1 << 16))
                times.append(1000 * (time.perf_counter() - start))
    except OSError:
        pass
    print(json.dumps(times))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        measure(*sys.argv[2:])
