"""Both ends of a link whose bytes Python moves, by a `Flow`: ws:// and wss://, and tls:// where it must."""

import socket
import time
from collections.abc import Sequence

from twofold.link.calling import PortConnection, port_over
from twofold.link.channel import SocketChannel
from twofold.link.flow import Flow
from twofold.link.greet import greeted
from twofold.link.joined import Introduction
from twofold.link.port import Kind, Port, What
from twofold.link.stream import FlowStream
from twofold.units import Nanoseconds, Seconds
from twofold.wire.handshake import layout_of
from twofold.wire.message import Welcome
from twofold.wire.rows import Layout, Rows

_CALL, _NOTHING = int(What.CALL), int(What.NOTHING)


class FedConnection(PortConnection):
    """The calling end (`Connection`)."""

    def __init__(self, stream: FlowStream, welcome: Welcome, layout: Layout, port: Port) -> None:
        super().__init__(stream, welcome, layout, port)
        self._flow = stream.flow

    def begin(self, rows: Rows, segment: int, count: int, deadline: Seconds) -> None:
        """Send a call (`Connection.begin`)."""
        nanoseconds = self._prepare(rows, segment, count, deadline)
        self._port.begin(rows, self._native, segment, count, nanoseconds)
        expiry = time.monotonic() + nanoseconds / 1e9
        try:
            while len(leaving := self._port.leaving):
                self._push(leaving, expiry)
        except BaseException:
            self.close()
            raise

    def call(self, rows: Rows, segment: int, count: int, deadline: Seconds) -> Nanoseconds:
        """`begin` and `finish`."""
        self.begin(rows, segment, count, deadline)
        return self.finish()

    def _push(self, leaving: memoryview, expiry: float) -> None:
        try:
            self._port.handed_on(self._flow.send([leaving]))
        except BlockingIOError:
            self._stream.wait(expiry, writable=True)
        except OSError as error:
            raise self._port.gone(error, self.peer) from error

    def _wait(self, rows: Rows, segment: int, count: int, timeout_ns: int) -> int:
        if not self._flow.pending():
            self._port.await_bytes(timeout_ns)
        what = pulled(self._port, self._flow, self.peer)
        if what == _CALL:
            what = self._port.finish(rows, self._native, segment, count, 0)
        return what


class FedChannel(SocketChannel):
    """The serving end (`Channel`). A handshake of the flow is made as its parts arrive."""

    kind = Kind.FED

    def __init__(self, sock: socket.socket, flow: Flow, peer: str) -> None:
        super().__init__(sock, peer)
        self._flow = flow

    def read(self) -> int:
        """Pull the next frame (`Channel.read`)."""
        return pulled(self.port, self._flow, self.peer)

    def pending(self) -> bool:
        """Whether to `read` again (`Channel.pending`)."""
        return self._flow.pending()

    def close(self) -> None:
        """Close; a second time is nothing."""
        if self._socket.fileno() >= 0:
            self._flow.close()
        super().close()

    def _flush_port(self) -> bool:
        try:
            while len(leaving := self.port.leaving):
                self.port.handed_on(self._flow.send([leaving]))
        except BlockingIOError:
            return False
        except OSError as error:
            raise self.port.gone(error, self.peer) from error
        return True

    def _send(self, parts: Sequence[memoryview]) -> int:
        return self._flow.send(parts[:2])  # one frame, header and payload


def pulled(port: Port, flow: Flow, peer: str) -> int:
    """The next frame that `flow` brings to `port`, if it is there whole; ProcessorLost at the end."""
    what = _NOTHING
    try:
        while what == _NOTHING:
            what = port.fed(flow.receive(port.space()))
    except BlockingIOError:
        pass
    except OSError as error:
        raise port.gone(error, peer) from error
    return what


def welcomed(stream: FlowStream, url: str, introduction: Introduction, expiry: float) -> FedConnection:
    """The connection that whoever introduces itself is welcomed with on `stream`; closed on any error (`greeted`)."""
    with greeted(stream, url, introduction, expiry) as welcome:
        layout = layout_of(welcome)
        return FedConnection(stream, welcome, layout, port_over(stream, Kind.FED, layout))
