"""Frames over a connected stream socket (TCP or Unix), with deadlines and without copies.

A header and the planes behind it leave in one `sendmsg` and arrive by `recvmsg_into` straight in the rows.
The socket never blocks; `poll` waits, until an expiry on the monotonic clock (None: for ever).
"""

import contextlib
import errno
import os
import select
import socket
import threading
import time
from collections.abc import Sequence

from twofold.errors import DeadlinePassed, DeviceError, FrameError, ProcessorLost
from twofold.link.base import LONGEST, bounded
from twofold.units import KIB, MIB, bytes_text
from twofold.wire import frame
from twofold.wire.frame import Header
from twofold.wire.message import Message, decode, encode

FRAME_SECONDS = 30.0  # for the rest of a frame once it has begun, and to send one
REQUEST_BYTES = 64 * KIB  # the longest message a server takes
BACKLOG = 64  # connections that wait for a server to accept them
DESCRIPTOR = b"D"  # the byte that a descriptor travels with


class FrameStream:
    """Frames both ways over `sock`, which it owns. One thread uses it; `interrupt` is for any other.

    Raises ProcessorLost naming `peer` once the other side has gone, DeadlinePassed at an expiry, FrameError.
    """

    def __init__(self, sock: socket.socket, peer: str, *, message_bytes: int = frame.CONTROL_BYTES) -> None:
        sock.setblocking(False)
        self.peer = peer
        self._socket = sock
        self._message_bytes = message_bytes  # longest message that is taken
        self._head = memoryview(bytearray(frame.HEADER_BYTES))
        self._readable = _poll(sock, select.POLLIN)
        self._writable = _poll(sock, select.POLLOUT)
        self._closing = threading.Lock()

    def check_open(self) -> None:
        """Raise ProcessorLost once `close` was called."""
        if self._socket.fileno() < 0:
            raise self._lost("the link was closed after an earlier failure")

    def send(self, parts: Sequence[memoryview | bytes], expiry: float | None) -> None:
        """Send the bytes of `parts` one after the other."""
        left: Sequence[memoryview | bytes] = parts
        while left:
            try:
                left = _after(left, self._socket.sendmsg(left))
            except BlockingIOError:
                self.wait(self._writable, expiry)
            except OSError as error:
                raise self._lost(error.strerror) from error

    def receive_header(self, expiry: float | None) -> Header:
        """The next header; once its first byte is there the rest has FRAME_SECONDS."""
        self.wait(self._readable, expiry)
        self.fill([self._head], self.rest(expiry))
        return frame.unpack(self._head)

    def receive_planes(self, header: Header, planes: list[memoryview], expiry: float | None) -> None:
        """The payload of `header`, which `check_planes` has passed, into `planes`."""
        self.fill(planes, expiry)
        frame.check_sum(header, planes)

    def fill(self, views: Sequence[memoryview], expiry: float | None) -> None:
        """Receive until `views` are full."""
        left: Sequence[memoryview] = views
        while left:
            try:
                got = self._socket.recvmsg_into(left)[0]
            except BlockingIOError:
                self.wait(self._readable, expiry)
                continue
            except OSError as error:
                raise self._lost(error.strerror) from error
            if got == 0:
                raise self._lost("it closed the link")
            left = _after(left, got)

    def send_message(self, message: Message, expiry: float | None) -> None:
        """Send `message` as a CONTROL frame."""
        payload = encode(message)
        self.send([frame.pack(Header(frame.CONTROL, length=len(payload)), [payload]), payload], expiry)

    def receive_message(self, expiry: float | None) -> Message:
        """The next message; FrameError if a call or reply comes instead."""
        return self.message_of(self.receive_header(expiry), self.rest(expiry))

    def message_of(self, header: Header, expiry: float | None) -> Message:
        """The message whose header was just received."""
        if header.kind != frame.CONTROL:
            raise FrameError(f"{self.peer} sent planes where a message was expected")
        if header.length > self._message_bytes:
            raise FrameError(
                f"{self.peer} announces a message of {bytes_text(header.length)}; "
                f"the limit here is {bytes_text(self._message_bytes)}"
            )
        payload = bytearray()
        while len(payload) < header.length:  # memory grows with what arrives, not with what is announced
            piece = bytearray(min(header.length - len(payload), MIB))
            self.fill([memoryview(piece)], expiry)
            payload += piece
        frame.check_sum(header, [payload])
        return decode(payload)

    def send_descriptor(self, descriptor: int) -> None:
        """Pass an open file to the other side (Unix sockets only), on one byte of its own."""
        try:
            socket.send_fds(self._socket, [DESCRIPTOR], [descriptor])
        except OSError as error:
            raise self._lost(error.strerror) from error

    def receive_descriptor(self, expiry: float | None) -> int:
        """The open file that the other side passed; the caller closes it."""
        self.wait(self._readable, expiry)
        try:
            byte, descriptors, _, _ = socket.recv_fds(self._socket, 1, 1, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise self._lost(error.strerror) from error
        if byte != DESCRIPTOR or len(descriptors) != 1:
            for descriptor in descriptors:
                os.close(descriptor)
            raise FrameError(f"{self.peer} passed no shared memory")
        return descriptors[0]

    def readable(self) -> bool:
        """Whether something arrived, or the other side has gone."""
        return bool(self._readable.poll(0))

    def wait(self, poll: "select.poll", expiry: float | None) -> None:
        """Until `poll` reports; DeadlinePassed at `expiry`."""
        while True:
            left = LONGEST if expiry is None else expiry - time.monotonic()
            if poll.poll(max(left, 0) * 1000):
                return
            if left <= 0:
                raise DeadlinePassed(f"{self.peer} did not answer in time")

    def rest(self, expiry: float | None) -> float:
        """The expiry of the rest of a frame that has begun."""
        latest = time.monotonic() + FRAME_SECONDS
        return latest if expiry is None else min(expiry, latest)

    def interrupt(self) -> None:
        """End what another thread waits for here: it sees the link closed."""
        with self._closing, contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; a second time is nothing."""
        with self._closing:
            self._socket.close()

    def _lost(self, why: str | None) -> ProcessorLost:
        return ProcessorLost(f"{self.peer} went away ({why or 'the socket failed'})")


def _poll(sock: socket.socket, events: int) -> "select.poll":
    poll = select.poll()
    poll.register(sock, events)
    return poll


def _after(views: Sequence[memoryview | bytes], done: int) -> list[memoryview]:
    """What is left of `views` after their first `done` bytes."""
    left: list[memoryview] = []
    for view in views:
        if done < len(view):
            left.append(memoryview(view)[done:])
        done = max(done - len(view), 0)
    return left


class Acceptor:
    """A listening socket, which it owns, that another thread or a signal handler can interrupt."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._readable = _poll(sock, select.POLLIN)
        self._ended = False

    def accept(self, timeout: float | None) -> socket.socket | None:
        """The next connection; None after `timeout` or an `interrupt`; DeviceError if out of files."""
        if self._ended or not self._readable.poll(None if timeout is None else bounded(timeout) * 1000):
            return None
        try:
            return self._socket.accept()[0]
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise DeviceError("too many open files to accept a connection; raise the limit (ulimit -n)") from error
            return None  # the other side has gone again, or we were interrupted

    def interrupt(self) -> None:
        """End an `accept`, now and for ever."""
        self._ended = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # Linux: wakes who waits for a connection

    def close(self) -> None:
        """Close the socket; a second time is nothing."""
        self._ended = True
        self._socket.close()
