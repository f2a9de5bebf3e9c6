"""shm://NAME — a call is a frame in memory that both ends map (`link/region.py`).

Handshake, questions and answers to them are messages over a Unix socket. It also shows the death of either end at
once, as its end of file.
"""

import contextlib
import os
import socket
import time

from twofold.errors import DeviceError, ProcessorLost, Unreachable
from twofold.link import region
from twofold.link.base import Address, bounded, reason
from twofold.link.calling import PortConnection
from twofold.link.channel import SocketChannel
from twofold.link.greet import greeted
from twofold.link.joined import Introduction
from twofold.link.listener import accepted
from twofold.link.place import bind, socket_path
from twofold.link.port import Port
from twofold.link.region import Region
from twofold.link.stream import DESCRIPTOR, MessageStream
from twofold.units import Seconds
from twofold.wire.handshake import layout_of
from twofold.wire.message import Hello, Message, Welcome, encode
from twofold.wire.rows import Layout
from twofold.wire.token import NO_FINGERPRINT


class ShmConnection(PortConnection):
    """The calling end (`Connection`)."""

    def __init__(self, stream: MessageStream, welcome: Welcome, layout: Layout, port: Port, bell: int) -> None:
        super().__init__(stream, welcome, layout, port)
        self._bell = bell

    def close(self) -> None:
        """Close; a second time is nothing."""
        super().close()
        bell, self._bell = self._bell, -1
        if bell >= 0:
            os.close(bell)

    def _look_around(self) -> None:
        if self._stream.ended():
            raise ProcessorLost(f"{self.peer} went away (it closed the link)")


class ShmChannel(SocketChannel):
    """The serving end (`Channel`)."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock, "client of a shm:// link")
        self._bell = -1

    def bell(self) -> int:
        """The eventfd by which the client wakes this side (`Channel.bell`); -1 before the welcome."""
        return self._bell

    def welcome(self, message: Message, layout: Layout) -> None:
        """Accept the client (`Channel.welcome`): its memory follows the Welcome."""
        descriptor = region.create(layout)
        try:
            try:
                self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            except OSError as error:
                raise DeviceError(f"no eventfd for a link ({reason(error)}); raise the limit (ulimit -n)") from error
            self.calls = Region(descriptor, layout).serving(self._bell)
            if not self.send(message):
                raise ProcessorLost(f"{self.peer} does not read its welcome")
            self._pass(descriptor, self._bell)
        finally:
            os.close(descriptor)

    def fail(self, message: Message) -> bool:
        """Answer the call that arrived with a message (`Channel.fail`)."""
        self.calls.fail(encode(message))
        return True

    def close(self) -> None:
        """Close; a second time is nothing."""
        super().close()
        bell, self._bell = self._bell, -1
        if bell >= 0:
            os.close(bell)

    def _pass(self, *descriptors: int) -> None:
        try:
            socket.send_fds(self._socket, [DESCRIPTOR], descriptors)
        except OSError as error:
            raise ProcessorLost(f"{self.peer} went away ({reason(error)})") from error


class ShmListener:
    """A Unix socket (`Listener`)."""

    shared_memory = True
    token_required = False  # the socket's mode lets in this user alone
    fingerprint = NO_FINGERPRINT

    def __init__(self, address: Address) -> None:
        self.url = address.url
        self._path = socket_path(address)
        self._socket = bind(self._path, address.url)
        self._socket.setblocking(False)
        self._inode: int | None = self._path.lstat().st_ino

    def fileno(self) -> int:
        """The socket."""
        return self._socket.fileno()

    def accept(self) -> ShmChannel | None:
        """The next connection (`Listener.accept`)."""
        sock = accepted(self._socket)
        return ShmChannel(sock) if sock else None

    def close(self) -> None:
        """Close the socket and remove its file, unless another server has taken the place."""
        inode, self._inode = self._inode, None
        if inode is not None:
            with contextlib.suppress(OSError):
                if self._path.lstat().st_ino == inode:
                    self._path.unlink()
        self._socket.close()


def connect(address: Address, hello: Hello, deadline: Seconds) -> ShmConnection:
    """A connection to the weight processor at `address`; Unreachable, Refused or ConfigurationError."""
    expiry = time.monotonic() + bounded(deadline)
    stream = MessageStream(_connected(address, expiry), f"weight processor at {address.url}")
    with greeted(stream, address.url, Introduction(hello), expiry) as welcome:
        layout = layout_of(welcome)
        memory, bell = stream.receive_descriptors(2, expiry)
        try:
            region.check(memory, layout)
            port = Region(memory, layout).calling(bell)
        except BaseException:
            os.close(bell)
            raise
        finally:
            os.close(memory)
        return ShmConnection(stream, welcome, layout, port, bell)


def _connected(address: Address, expiry: float) -> socket.socket:
    path = socket_path(address)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(max(expiry - time.monotonic(), 0.001))
        sock.connect(str(path))
    except OSError as error:
        sock.close()
        raise Unreachable(
            f"nobody answers at {address.url} ({reason(error)}); "
            f"start one with: twofold weights MODEL --listen {address.url}"
        ) from error
    return sock
