"""Flows: how the bytes of FED ports and of messages move. One over the other: TLS over a socket, WebSocket over either.

A flow carries one stream of bytes each way and never waits.
"""

import abc
import errno
import socket
from collections.abc import Sequence
from typing import Protocol

Parts = Sequence[memoryview | bytearray | bytes]


class Flow(Protocol):
    """Bytes both ways."""

    def send(self, parts: Parts) -> int:
        """Bytes from the front of `parts` that left. BlockingIOError if none can now: give the same again."""

    def receive(self, view: memoryview) -> int:
        """Bytes received into `view`; BlockingIOError if none are there, ConnectionResetError at the end, OSError."""

    def pending(self) -> bool:
        """Whether something may be received that the socket no longer tells of."""

    def close(self) -> None:
        """Say goodbye, as far as that needs no waiting. The socket is not closed."""


class SocketFlow:
    """The bytes as they are."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def send(self, parts: Parts) -> int:
        """As `Flow.send`."""
        return self._socket.sendmsg(parts)

    def receive(self, view: memoryview) -> int:
        """As `Flow.receive`."""
        got = self._socket.recv_into(view)
        if not got:
            raise ended()
        return got

    def pending(self) -> bool:
        """As `Flow.pending`."""
        return False

    def close(self) -> None:
        """As `Flow.close`."""


class Wrapped(abc.ABC):
    """What a flow that puts bytes into another form has in common with its like: `wrap`, and sending all of that."""

    def __init__(self, below: Flow) -> None:
        self.below = below
        self._outbox = bytearray()  # wrapped, and not left
        self._taken = 0  # bytes of the parts given to `send` that are in it

    def send(self, parts: Parts) -> int:
        """As `Flow.send`."""
        if not self._taken:
            self._taken = self.wrap(parts)
        self.drain()
        taken, self._taken = self._taken, 0
        return taken

    def drain(self) -> None:
        """Send all that is wrapped; BlockingIOError if not all leaves now."""
        while self._outbox:
            del self._outbox[: self.below.send([self._outbox])]

    @abc.abstractmethod
    def wrap(self, parts: Parts) -> int:
        """Put bytes from the front of `parts` into the outbox; how many."""


def ended() -> ConnectionResetError:
    """What a flow raises at its end."""
    return ConnectionResetError(errno.ECONNRESET, "it closed the link")
