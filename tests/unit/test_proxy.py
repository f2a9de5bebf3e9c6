"""The proxy of faults, before a server that echoes."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from fabric.faults import Fault
from fabric.proxy import Proxy

from twofold.wire import frame
from twofold.wire.frame import CONTROL, Header, pack

PAYLOAD = bytes(range(256)) * 40
FRAME = pack(Header(CONTROL, length=len(PAYLOAD)), [PAYLOAD]) + PAYLOAD


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends back whatever comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        yield server.getsockname()
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def serve(server: socket.socket) -> None:
    try:
        while True:
            with server.accept()[0] as client:
                while data := client.recv(1 << 16):
                    client.sendall(data)
    except OSError:  # the test is over
        return


@pytest.fixture
def proxy(echo: tuple[str, int]) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", 0), echo) as made:
        yield made


@pytest.fixture
def client(proxy: Proxy) -> Iterator[socket.socket]:
    with socket.create_connection(proxy.place, 5) as sock:
        yield sock


def receive(sock: socket.socket, count: int) -> bytes:
    """So many bytes, or what came before the end."""
    data = b""
    while len(data) < count and (piece := sock.recv(count - len(data))):
        data += piece
    return data


def test_frames_pass_as_they_are_both_ways(client: socket.socket) -> None:
    client.sendall(3 * FRAME)
    assert receive(client, 3 * len(FRAME)) == 3 * FRAME


def test_a_corrupt_frame_fails_its_checksum(proxy: Proxy, client: socket.socket) -> None:
    proxy.order(Fault("corrupt"))
    client.sendall(FRAME)
    came = receive(client, len(FRAME))  # ends early if the flipped bit is one that the proxy itself reads
    assert came != FRAME


def test_a_duplicate_frame_comes_twice(proxy: Proxy, client: socket.socket) -> None:
    proxy.order(Fault("duplicate"))
    client.sendall(FRAME)
    assert receive(client, 2 * len(FRAME)) == 2 * FRAME


def test_a_drop_ends_every_connection_and_the_next_one_works(proxy: Proxy, client: socket.socket) -> None:
    client.sendall(FRAME)
    receive(client, len(FRAME))
    proxy.order(Fault("drop"))
    assert client.recv(1) == b""
    with socket.create_connection(proxy.place, 5) as again:
        again.sendall(FRAME)
        assert receive(again, len(FRAME)) == FRAME


def test_held_frames_come_after_the_hold(proxy: Proxy, client: socket.socket) -> None:
    proxy.order(Fault("hold", 0.2))
    start = time.monotonic()
    client.sendall(FRAME)
    assert receive(client, len(FRAME)) == FRAME
    assert time.monotonic() - start >= 0.19


def test_slow_frames_are_late_each_way(proxy: Proxy, client: socket.socket) -> None:
    proxy.order(Fault("slow", 60, 30))
    start = time.monotonic()
    for _ in range(2):
        client.sendall(FRAME)
        assert receive(client, len(FRAME)) == FRAME
    assert time.monotonic() - start >= 4 * 0.03


def test_the_end_of_either_side_reaches_the_other(proxy: Proxy, client: socket.socket) -> None:
    client.sendall(frame.MAGIC)  # a part of a header
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""


def test_a_server_that_is_not_there_is_the_end_of_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nowhere = server.getsockname()
    with Proxy(("127.0.0.1", 0), nowhere) as proxy, socket.create_connection(proxy.place, 5) as client:
        assert client.recv(1) == b""
