"""The calling end of every link that has a port: one call begun, one finished."""

import time
from typing import NoReturn

from twofold.errors import DeadlinePassed, FrameError, InternalError, ProcessorLost
from twofold.link.base import check_call, time_left
from twofold.link.channel import REQUEST_BYTES
from twofold.link.greet import ask, checked
from twofold.link.port import SLICE_NS, Kind, Port, Session, What, native_layout, room
from twofold.link.stream import MessageStream
from twofold.units import Nanoseconds, Seconds
from twofold.wire.message import Failed, Message, Welcome, error_of
from twofold.wire.rows import Layout, Rows

_CALL, _NOTHING, _LOST = int(What.CALL), int(What.NOTHING), int(What.LOST)


def port_over(stream: MessageStream, kind: Kind, layout: Layout, session: Session | None = None) -> Port:
    """The calling port of calls of `layout` over the socket of `stream`, through the TLS `session` if there is one."""
    inward = room(max(layout.longest(gives=True), REQUEST_BYTES))
    port = Port(kind, inward, room(layout.longest(gives=False)), stream.socket.fileno())
    port.expect(layout)
    if session:
        port.secure(session)
    return port


class PortConnection:
    """A `Connection` whose calls go through `port` and whose messages go over `stream`."""

    def __init__(self, stream: MessageStream, welcome: Welcome, layout: Layout, port: Port) -> None:
        self.manifest = welcome.manifest
        self.held = frozenset(welcome.segments)
        self.layout = layout
        self.peer = stream.peer
        self._stream = stream
        self._port = port
        self._rows: Rows | None = None
        self._begun: tuple[int, int, int] | None = None  # segment, count, expiry on the monotonic clock
        self._open = True

    def begin(self, rows: Rows, segment: int, count: int, deadline: Seconds) -> None:
        """Send a call (`Connection.begin`)."""
        nanoseconds = self._prepare(rows, segment, count, deadline)
        if self._port.begin(rows, self._native, segment, count, nanoseconds) == _LOST:
            self._fail(_LOST)

    def finish(self) -> Nanoseconds:
        """Wait for the reply (`Connection.finish`)."""
        return self._finish(_NOTHING)

    def call(self, rows: Rows, segment: int, count: int, deadline: Seconds) -> Nanoseconds:
        """`begin` and `finish`."""
        nanoseconds = self._prepare(rows, segment, count, deadline)
        slice_ns = SLICE_NS if nanoseconds > SLICE_NS else nanoseconds
        what = self._port.call(rows, self._native, segment, count, nanoseconds, slice_ns)
        if what == _CALL:
            self._begun = None
            return self._port.worked
        return self._finish(what)

    def port(self, rows: Rows) -> int | None:
        """Where calls of `rows` can be made natively (`Connection.port`)."""
        if not self._open or self._port.kind == Kind.FED:
            return None
        self._adopt(rows)
        return self._port.address

    def resume(self, segment: int, count: int, deadline: Seconds, what: int) -> Nanoseconds:
        """Go on with a call that was begun at `port` and came to `what` (`Connection.resume`)."""
        self._begun = (segment, count, time.monotonic_ns() + int(deadline * 1e9))
        return self._finish(what)

    def _adopt(self, rows: Rows) -> None:
        """Calls are of `rows` now."""
        if rows is not self._rows:
            self._rows, self._native = rows, native_layout(rows.layout)

    def _prepare(self, rows: Rows, segment: int, count: int, deadline: Seconds) -> int:
        """Check a call and take note of it; the nanoseconds that it has."""
        if not self._open:
            raise ProcessorLost(f"{self.peer}: the link was closed after an earlier failure")
        check_call(segment, count, self.layout, self.held, self.peer)
        nanoseconds = int(time_left(deadline, self.peer) * 1e9)
        self._adopt(rows)
        self._begun = (segment, count, time.monotonic_ns() + nanoseconds)
        return nanoseconds

    def _finish(self, what: int) -> Nanoseconds:
        """Wait for the reply to the call begun, of which `what` is known so far."""
        if self._begun is None or self._rows is None:
            raise InternalError("no call was begun")
        segment, count, expiry = self._begun
        self._begun = None
        try:
            while what == _NOTHING:
                left = expiry - time.monotonic_ns()
                if left <= 0:
                    raise DeadlinePassed(f"{self.peer} did not answer in time")
                what = self._wait(self._rows, segment, count, min(left, SLICE_NS))
                if what == _NOTHING:
                    self._look_around()
        except BaseException:
            self.close()  # a reply under way would be taken for that of the next call
            raise
        return self._port.worked if what == _CALL else self._fail(what)

    def _fail(self, what: int) -> NoReturn:
        """Raise what came instead of a reply; the connection goes on only after an error of the call itself."""
        try:
            message = self._answer(what)
        except BaseException:
            self.close()
            raise
        raise error_of(message)

    def ask(self, message: Message, deadline: Seconds) -> Message:
        """The answer to a message (`Connection.ask`)."""
        if not self._open:
            raise ProcessorLost(f"{self.peer}: the link was closed after an earlier failure")
        try:
            answer = ask(self._stream, message, deadline)
        except BaseException:
            self.close()
            raise
        return checked(answer)

    def interrupt(self) -> None:
        """End a wait in another thread (`Connection.interrupt`)."""
        self._stream.interrupt()

    def close(self) -> None:
        """Close; a second time is nothing."""
        self._open = False
        self._stream.close()

    def _wait(self, rows: Rows, segment: int, count: int, timeout_ns: int) -> int:
        """`Port.finish`, by whatever brings the bytes."""
        return self._port.finish(rows, self._native, segment, count, timeout_ns)

    def _look_around(self) -> None:
        """Between two slices of waiting; raises ProcessorLost if the other side has gone."""

    def _answer(self, what: int) -> Failed:
        if what != What.MESSAGE:
            raise self._port.error(what, self.peer)
        message = self._port.message()
        if not isinstance(message, Failed):
            raise FrameError(f"{self.peer} answered a call with {type(message).__name__}")
        return message
