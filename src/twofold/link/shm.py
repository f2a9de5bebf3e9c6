"""shm://NAME — the planes in memory that both ends map, so that none is ever copied.

Handshake, questions and errors are frames over a Unix socket; a call is a few fields in the control page
and a ring (`link/region.py`). The socket also shows the death of either end at once, as its end of file.
"""

import contextlib
import os
import socket
import time

from twofold.errors import DeadlinePassed, FrameError, InternalError, Unreachable
from twofold.link import region
from twofold.link.base import Address, Call, bounded, check_call, expiry_of, reason, time_left
from twofold.link.greet import ask, checked, greeted
from twofold.link.mailbox import WORD
from twofold.link.place import bind, socket_path
from twofold.link.region import CallFields, Region
from twofold.link.stream import REQUEST_BYTES, Acceptor, FrameStream
from twofold.units import Nanoseconds, Seconds
from twofold.wire.handshake import layout_of
from twofold.wire.message import Failed, Hello, Message, Welcome, error_of
from twofold.wire.rows import Layout, Rows

SLICE_NS = 20_000_000  # of waiting, between two looks at the socket
IDLE_NS = 16 * SLICE_NS  # the longest slice of a server that nobody calls


class ShmConnection:
    """The calling end (`Connection`)."""

    def __init__(self, stream: FrameStream, welcome: Welcome, shared: Region) -> None:
        self.manifest = welcome.manifest
        self.held = frozenset(welcome.segments)
        self.peer = stream.peer
        self.rows = shared.rows
        self._stream = stream
        self._region = shared
        self._sequence = 0  # of our last ring
        self._answered = 0  # the last word seen in `replies`

    def call(self, segment: int, count: int, deadline: Seconds) -> Nanoseconds:
        """Run `segment` on the first `count` rows (`Connection.call`)."""
        self._stream.check_open()
        check_call(segment, count, self.rows.layout, self.held, self.peer)
        left = time_left(deadline, self.peer)
        try:
            answer = self._exchange(segment, count, left)
        except BaseException:
            self.close()  # the other side may still be writing the rows
            raise
        if isinstance(answer, Failed):
            raise error_of(answer)
        return answer

    def _exchange(self, segment: int, count: int, deadline: Seconds) -> Nanoseconds | Failed:
        expiry = time.monotonic() + deadline
        sequence = self._sequence = (self._sequence + 1) % WORD
        self._region.write_call(CallFields(sequence, segment, count, int(deadline * 1e9)))
        self._region.calls.ring(sequence)
        while self._answered != sequence:
            left_ns = int((expiry - time.monotonic()) * 1e9)
            if left_ns <= 0:
                raise DeadlinePassed(f"{self.peer} did not answer in time")
            self._answered = self._region.replies.wait(self._answered, min(left_ns, SLICE_NS))
            if self._answered != sequence and self._stream.readable():
                return self._failure(expiry)
        failed, worked = self._region.read_reply()
        return self._failure(expiry) if failed else Nanoseconds(worked)

    def _failure(self, expiry: float) -> Failed:
        message = self._stream.receive_message(expiry)
        if not isinstance(message, Failed):
            raise FrameError(f"{self.peer} answered a call with {type(message).__name__}")
        return message

    def ask(self, message: Message, deadline: Seconds) -> Message:
        """The answer to a message (`Connection.ask`)."""
        return checked(ask(self._stream, message, deadline, sent=self._nudge))

    def close(self) -> None:
        """Close; a second time is nothing."""
        self._stream.close()
        self._nudge()

    def _nudge(self) -> None:
        """A ring that is no call: look at the socket."""
        self._sequence = (self._sequence + 1) % WORD
        self._region.calls.ring(self._sequence)


class ShmChannel:
    """The serving end (`Channel`)."""

    rows: Rows

    def __init__(self, sock: socket.socket) -> None:
        self.peer = "client of a shm:// link"
        self._stream = FrameStream(sock, self.peer, message_bytes=REQUEST_BYTES)
        self._region: Region | None = None
        self._seen = 0  # the last word of `calls`
        self._owed: int | None = None  # sequence of the call that has no answer yet

    def receive(self, deadline: Seconds | None) -> Call | Message:
        """The next call or message (`Channel.receive`)."""
        shared = self._region
        if shared is None:
            return self._stream.receive_message(expiry_of(deadline))
        slice_ns = SLICE_NS
        while True:
            word = shared.calls.wait(self._seen, slice_ns)
            if word != self._seen:
                self._seen, slice_ns = word, SLICE_NS
                call = shared.read_call()
                if call.sequence == word:
                    return self._arrived(call)
            if self._stream.readable():
                return self._stream.receive_message(self._stream.rest(None))
            slice_ns = min(2 * slice_ns, IDLE_NS)

    def _arrived(self, call: CallFields) -> Call:
        self._owed = call.sequence
        layout = self.rows.layout
        if call.segment >= len(layout.cuts):
            raise FrameError(f"CALL of segment {call.segment}; the model has {len(layout.cuts)} segments")
        if not 1 <= call.rows <= layout.limit(call.segment):
            raise FrameError(
                f"CALL of {call.rows} rows; segment {call.segment} takes 1 to {layout.limit(call.segment)}"
            )
        return Call(call.segment, call.rows, bounded(call.nanoseconds / 1e9))

    def welcome(self, message: Message, layout: Layout, digest: bytes) -> None:
        """Accept the client (`Channel.welcome`): its memory follows the Welcome."""
        descriptor = region.create(layout)
        try:
            shared = Region(descriptor, layout)
            self.send(message)
            self._stream.send_descriptor(descriptor)
        finally:
            os.close(descriptor)
        self.rows, self._region = shared.rows, shared

    def reply(self, worked: Nanoseconds) -> None:
        """Answer the last call (`Channel.reply`)."""
        self._answer(failed=False, nanoseconds=worked)

    def send(self, message: Message) -> None:
        """Answer with a message (`Channel.send`)."""
        self._stream.send_message(message, self._stream.rest(None))
        if self._owed is not None:
            self._answer(failed=True, nanoseconds=0)

    def _answer(self, *, failed: bool, nanoseconds: int) -> None:
        shared, sequence = self._region, self._owed
        if shared is None or sequence is None:
            raise InternalError("a reply without a call")
        self._owed = None
        shared.write_reply(failed=failed, nanoseconds=nanoseconds)
        shared.replies.ring(sequence)

    def interrupt(self) -> None:
        """End a `receive` in another thread (`Channel.interrupt`)."""
        self._stream.interrupt()
        shared = self._region
        if shared is not None:
            shared.calls.wake()

    def close(self) -> None:
        """Close and let go of the memory; a second time is nothing."""
        self._stream.close()
        self._region = None
        self.__dict__.pop("rows", None)


class ShmListener:
    """A Unix socket (`Listener`)."""

    shared_memory = True

    def __init__(self, address: Address) -> None:
        self.url = address.url
        self._path = socket_path(address)
        self._acceptor = Acceptor(bind(self._path, address.url))
        self._inode: int | None = self._path.lstat().st_ino

    def accept(self, timeout: Seconds | None) -> ShmChannel | None:
        """The next connection (`Listener.accept`)."""
        sock = self._acceptor.accept(timeout)
        return ShmChannel(sock) if sock else None

    def interrupt(self) -> None:
        """End an `accept` in another thread (`Listener.interrupt`)."""
        self._acceptor.interrupt()

    def close(self) -> None:
        """Close the socket and remove its file, unless another server has taken the place."""
        inode, self._inode = self._inode, None
        if inode is not None:
            with contextlib.suppress(OSError):
                if self._path.lstat().st_ino == inode:
                    self._path.unlink()
        self._acceptor.close()


def connect(address: Address, hello: Hello, deadline: Seconds) -> ShmConnection:
    """A connection to the weight processor at `address`; Unreachable, Refused or ConfigurationError."""
    expiry = time.monotonic() + bounded(deadline)
    with greeted(_connected(address, expiry), address.url, hello, expiry) as (stream, welcome):
        return ShmConnection(stream, welcome, _shared(stream, layout_of(welcome), expiry))


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


def _shared(stream: FrameStream, layout: Layout, expiry: float) -> Region:
    """The memory that follows the Welcome."""
    descriptor = stream.receive_descriptor(expiry)
    try:
        region.check(descriptor, layout)
        return Region(descriptor, layout)
    finally:
        os.close(descriptor)
