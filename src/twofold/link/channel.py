"""The serving end of a link over a stream socket. Nothing here waits: what a socket does not take now leaves later."""

import socket
from collections.abc import Sequence

from twofold.errors import InternalError, ProcessorLost
from twofold.link.port import Kind, Port, What, room
from twofold.units import KIB
from twofold.wire import frame
from twofold.wire.frame import Header
from twofold.wire.message import Message, encode
from twofold.wire.rows import Layout

REQUEST_BYTES = 64 * KIB  # the longest message a server takes
FRAME_SECONDS = 30.0  # for the rest of a frame that has begun, and for the other side to read one


class SocketChannel:
    """A `Channel` over `sock`, which it owns."""

    kind = Kind.SOCKET

    def __init__(self, sock: socket.socket, peer: str) -> None:
        sock.setblocking(False)
        self.peer = peer
        self._socket = sock
        self.port = Port(self.kind, room(REQUEST_BYTES), room(0), sock.fileno(), serves=True)
        self.calls = self.port
        self._outbox: list[memoryview] = []  # of messages that have not left

    def fileno(self) -> int:
        """The socket."""
        return self._socket.fileno()

    def bell(self) -> int:
        """The eventfd that wakes this side (`Channel.bell`)."""
        raise InternalError("calls come over the socket")

    def read(self) -> int:
        """Pull the next frame (`Channel.read`)."""
        return self.port.pull()

    def pending(self) -> bool:
        """Whether to `read` again (`Channel.pending`)."""
        return False

    def welcome(self, message: Message, layout: Layout) -> None:
        """Accept the other side (`Channel.welcome`)."""
        inward = room(max(layout.longest(gives=False), REQUEST_BYTES))
        self.port.give_room(inward, room(layout.longest(gives=True)))
        self.port.expect(layout)
        self.send(message)

    def fail(self, message: Message) -> bool:
        """Answer the call that arrived with a message (`Channel.fail`)."""
        self.port.forget()
        return self.send(message)

    def send(self, message: Message) -> bool:
        """Send a message (`Channel.send`)."""
        payload = encode(message)
        header = frame.pack(Header(frame.CONTROL, length=len(payload)), [payload])
        self._outbox += [memoryview(header), memoryview(payload)]
        return self.flush()

    def flush(self) -> bool:
        """Send what has not left (`Channel.flush`)."""
        if len(self.port.leaving) and not self._flush_port():
            return False
        while self._outbox:
            try:
                sent = self._send(self._outbox)
            except BlockingIOError:
                return False
            except OSError as error:
                raise ProcessorLost(f"{self.peer} went away ({(error.strerror or str(error)).lower()})") from error
            self._outbox = after(self._outbox, sent)
        return True

    def close(self) -> None:
        """Close; a second time is nothing."""
        self._socket.close()

    def _flush_port(self) -> bool:
        """Send what has not left of a reply; whether all of it has now."""
        what = self.port.flush()
        if what == What.LOST:
            raise self.port.error(what, self.peer)
        return what == What.WRITABLE

    def _send(self, parts: Sequence[memoryview]) -> int:
        """Bytes of `parts` that the socket took; BlockingIOError if none."""
        return self._socket.sendmsg(parts)


def after(views: Sequence[memoryview | bytes], done: int) -> list[memoryview]:
    """What is left of `views` after their first `done` bytes."""
    left: list[memoryview] = []
    for view in views:
        if done < len(view):
            left.append(memoryview(view)[done:])
        done = max(done - len(view), 0)
    return left
