"""Messages over a connected stream socket (TCP or Unix), as the calling side sends and waits for them.

The socket never blocks; `poll` waits, until an expiry on the monotonic clock.
"""

import contextlib
import os
import select
import socket
import time
from collections.abc import Sequence

from twofold.errors import DeadlinePassed, FrameError, ProcessorLost
from twofold.link.base import LONGEST
from twofold.link.channel import FRAME_SECONDS, after
from twofold.link.flow import Flow
from twofold.units import MIB
from twofold.wire import frame
from twofold.wire.frame import Header
from twofold.wire.message import Message, decode, encode

DESCRIPTOR = b"D"  # the byte that descriptors travel with


class MessageStream:
    """Messages both ways over `sock`, which it owns. One thread uses it.

    Raises ProcessorLost naming `peer` once the other side has gone, DeadlinePassed at an expiry, FrameError.
    """

    def __init__(self, sock: socket.socket, peer: str) -> None:
        sock.setblocking(False)
        self.peer = peer
        self.socket = sock
        self._readable = _poll(sock, select.POLLIN)
        self._writable = _poll(sock, select.POLLOUT)

    def send(self, message: Message, expiry: float) -> None:
        """Send `message` as a CONTROL frame."""
        payload = encode(message)
        left: Sequence[memoryview | bytes] = [
            frame.pack(Header(frame.CONTROL, length=len(payload)), [payload]),
            payload,
        ]
        while left:
            try:
                left = after(left, self._send(left))
            except BlockingIOError:
                self.wait(expiry, writable=True)
            except OSError as error:
                raise self._lost(error.strerror) from error

    def receive(self, expiry: float) -> Message:
        """The next message; once its first byte is there the rest has FRAME_SECONDS."""
        head = bytearray(frame.HEADER_BYTES)
        self.wait(expiry)
        rest = min(expiry, time.monotonic() + FRAME_SECONDS)
        self._fill(memoryview(head), rest)
        header = frame.unpack(head)
        if header.kind != frame.CONTROL:
            raise FrameError(f"{self.peer} sent planes where a message was expected")
        payload = bytearray()
        while len(payload) < header.length:  # memory grows with what arrives, not with what is announced
            piece = bytearray(min(header.length - len(payload), MIB))
            self._fill(memoryview(piece), rest)
            payload += piece
        frame.check_sum(header, [payload])
        return decode(payload)

    def receive_descriptors(self, count: int, expiry: float) -> list[int]:
        """The open files that the other side passed (Unix sockets only); the caller closes them."""
        self.wait(expiry)
        try:
            byte, descriptors, _, _ = socket.recv_fds(self.socket, 1, count, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise self._lost(error.strerror) from error
        if byte != DESCRIPTOR or len(descriptors) != count:
            for descriptor in descriptors:
                os.close(descriptor)
            raise FrameError(f"{self.peer} passed no shared memory")
        return descriptors

    def ended(self) -> bool:
        """Whether something arrived that nobody waits for: the other side has gone, or errs."""
        return bool(self._readable.poll(0))

    def wait(self, expiry: float, *, writable: bool = False) -> None:
        """Until something can be read, or written; DeadlinePassed at `expiry`."""
        poll = self._writable if writable else self._readable
        left = min(expiry - time.monotonic(), LONGEST)
        while not poll.poll(max(left, 0) * 1000):
            left = min(expiry - time.monotonic(), LONGEST)
            if left <= 0:
                raise DeadlinePassed(f"{self.peer} did not answer in time")

    def interrupt(self) -> None:
        """End the socket under a wait in another thread, as if the other side had gone."""
        with contextlib.suppress(OSError):  # it may be closed by now
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; a second time is nothing."""
        self.socket.close()

    def _fill(self, view: memoryview, expiry: float) -> None:
        """Receive until `view` is full."""
        while len(view):
            try:
                got = self._receive(view)
            except BlockingIOError:
                self.wait(expiry)
                continue
            except OSError as error:
                raise self._lost(error.strerror) from error
            if got == 0:
                raise self._lost("it closed the link")
            view = view[got:]

    def _send(self, parts: Sequence[memoryview | bytes]) -> int:
        """Bytes that the socket took; BlockingIOError if none."""
        return self.socket.sendmsg(parts)

    def _receive(self, view: memoryview) -> int:
        """Bytes received into `view`, 0 at the end; BlockingIOError if none are there."""
        return self.socket.recv_into(view)

    def _lost(self, why: str | None) -> ProcessorLost:
        return ProcessorLost(f"{self.peer} went away ({why or 'the socket failed'})")


class FlowStream(MessageStream):
    """Messages over a flow."""

    def __init__(self, sock: socket.socket, flow: Flow, peer: str) -> None:
        super().__init__(sock, peer)
        self.flow = flow

    def wait(self, expiry: float, *, writable: bool = False) -> None:
        """As the socket's; what the flow has already can be read at once."""
        if writable or not self.flow.pending():
            super().wait(expiry, writable=writable)

    def close(self) -> None:
        """As the socket's, with the flow's goodbye."""
        if self.socket.fileno() >= 0:
            self.flow.close()
        super().close()

    def _send(self, parts: Sequence[memoryview | bytes]) -> int:
        return self.flow.send(parts)

    def _receive(self, view: memoryview) -> int:
        return self.flow.receive(view)


def _poll(sock: socket.socket, events: int) -> "select.poll":
    poll = select.poll()
    poll.register(sock, events)
    return poll
