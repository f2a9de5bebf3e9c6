"""A proxy for frames that makes faults by command: what a network or a broken machine does, when it is wanted.

    cd bench; python -m fabric.proxy 127.0.0.1:0 127.0.0.1:7070 SEED

It prints `listening HOST:PORT`, takes one fault a line (`faults`) on standard input and ends with it. Every direction
of every connection is one thread: a header, the payload that it announces, the faults in force, and on.
"""

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Self

from fabric.faults import Fault, Faults, parse
from twofold.errors import FrameError
from twofold.wire import frame

CONNECT_SECONDS = 5.0
Place = tuple[str, int]


class Proxy:
    """Passes connections to `place` on to `target`; a context manager."""

    def __init__(self, place: Place, target: Place, *, seed: int = 0) -> None:
        self._target = target
        self._listener = socket.create_server(place, backlog=128)
        self.place: Place = self._listener.getsockname()[:2]
        self._faults = Faults(seed)
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._sockets: set[socket.socket] = set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # Linux: wakes who waits for a connection
        self._listener.close()
        self._drop()

    def order(self, fault: Fault) -> None:
        """Put a fault in force."""
        if fault.kind == "drop":
            self._drop()
        else:
            with self._lock:
                self._faults.order(fault, time.monotonic())

    def _drop(self) -> None:
        with self._lock:
            for sock in self._sockets:
                _shut(sock)

    def _accept(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError):
                client = self._listener.accept()[0]
                threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        """The life of one connection."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._kept(client))
            try:
                server = socket.create_connection(self._target, CONNECT_SECONDS)
            except OSError:
                return
            stack.enter_context(self._kept(server))
            back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
            back.start()
            self._pump(client, server)
            back.join()

    @contextlib.contextmanager
    def _kept(self, sock: socket.socket) -> Iterator[None]:
        """The socket is ours to end until the block does."""
        with sock:
            sock.settimeout(None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets.add(sock)
            try:
                yield
            finally:
                with self._lock:
                    self._sockets.discard(sock)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        """Frames from one side to the other until either ends, and then both do."""
        with contextlib.suppress(OSError, FrameError):
            while data := _frame(source):
                with self._lock:
                    pieces = self._faults.treat(data, time.monotonic())
                for wait, piece in pieces:
                    self._ended.wait(wait)
                    target.sendall(piece)
        _shut(source)
        _shut(target)


def _frame(source: socket.socket) -> bytes:
    """The next frame; empty once the other side has gone."""
    head = _exactly(source, frame.HEADER_BYTES)
    return head and head + _exactly(source, frame.unpack(head).length)


def _exactly(source: socket.socket, count: int) -> bytes:
    data = bytearray(count)
    left = memoryview(data)
    while left:
        got = source.recv_into(left)
        if not got:
            return b""
        left = left[got:]
    return bytes(data)


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def place_of(text: str) -> Place:
    """HOST:PORT in two."""
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    """Serve until standard input ends."""
    listen, target, seed = sys.argv[1:]
    with Proxy(place_of(listen), place_of(target), seed=int(seed)) as proxy:
        print("listening {}:{}".format(*proxy.place), flush=True)
        for line in sys.stdin:
            proxy.order(parse(line))


if __name__ == "__main__":
    main()
