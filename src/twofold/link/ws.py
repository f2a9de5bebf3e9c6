"""ws://HOST:PORT and wss:// — the frames of tcp:// in the binary messages of a WebSocket, for who has nothing else.

What leaves is one frame a message; what arrives may be cut into messages and fragments in any way.
"""

import contextlib
import socket
import time
from collections.abc import Callable, Sequence

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from twofold.errors import DeadlinePassed, FrameError, LinkError, Refused, one_line
from twofold.link.base import Address, bounded
from twofold.link.certificate import HTTP_ALPN
from twofold.link.exposure import ENCRYPTED, Tokens
from twofold.link.fed import FedChannel, FedConnection, welcomed
from twofold.link.flow import Flow, Parts, SocketFlow, Wrapped, ended
from twofold.link.joined import introduced, invitation_for
from twofold.link.stream import FlowStream
from twofold.link.tcp import TcpListener, connected, loopback, resolved
from twofold.link.tls import secured, serving_tls
from twofold.link.upgrade import HEAD_BYTES, PATH, Denied, Upgrade, allowed_origins, denial
from twofold.store.keys import identity, keys_folder
from twofold.units import KIB, Seconds
from twofold.wire.message import Failed, Hello, Message
from twofold.wire.token import NO_FINGERPRINT

ARRIVING_BYTES = 64 * KIB  # taken from the flow below at once
EMPTY_EVENTS = 64  # pings and fragments without bytes, in what arrives at once


class WsFlow(Wrapped):
    """A WebSocket over another flow; opened by `opening`, which is given what arrives until it gives the socket."""

    def __init__(self, below: Flow) -> None:
        super().__init__(below)
        self.open: WSConnection | None = None
        self._arriving = memoryview(bytearray(ARRIVING_BYTES))
        self._inbox = memoryview(b"")  # of what has arrived, not taken yet
        self._after: list[Exception] = []  # what ends the flow once that is taken

    def wrap(self, parts: Parts) -> int:
        """One binary message (`Wrapped.wrap`)."""
        data = b"".join(parts)
        self.say(BytesMessage(data=data))
        return len(data)

    def receive(self, view: memoryview) -> int:
        """As `Flow.receive`; FrameError for what is no binary message."""
        while not self._inbox:
            self._inbox = memoryview(self._next())
        got = min(len(view), len(self._inbox))
        view[:got] = self._inbox[:got]
        self._inbox = self._inbox[got:]
        return got

    def pending(self) -> bool:
        """As `Flow.pending`."""
        return bool(self._inbox) or bool(self._after) or self.below.pending()

    def arrived(self) -> bytes:
        """Raw bytes, at least one; as `Flow.receive`."""
        return bytes(self._arriving[: self.below.receive(self._arriving)])

    def say(self, event: Event) -> None:
        """Put an event into the outbox; BrokenPipeError if the WebSocket is not open any more."""
        if self.open is None or self.open.state is not ConnectionState.OPEN:
            raise BrokenPipeError("the link is closing")
        self._outbox += self.open.send(event)

    def close(self) -> None:
        """As `Flow.close`."""
        with contextlib.suppress(OSError, ProtocolError):
            if self.open is not None:
                self._outbox += self.open.send(CloseConnection(code=1000))
            self.drain()
        self.below.close()

    def _next(self) -> bytes | bytearray:
        """The payload of what arrives next; BlockingIOError if that has none, so that others get their turn."""
        if self._after:
            raise self._after.pop()
        if self.open is None:
            raise BlockingIOError
        self.open.receive_data(self.arrived())
        payload = bytearray()
        try:
            self._take(self.open, payload)
        except (FrameError, OSError) as error:
            if not payload:
                raise
            self._after = [error.with_traceback(None)]  # what came before it counts
        if not payload:
            raise BlockingIOError
        return payload

    def _take(self, found: WSConnection, payload: bytearray) -> None:
        """Put the payload of all that has arrived behind `payload`."""
        empty = 0
        for event in found.events():
            data = self._payload(event)
            payload += data
            empty += not data
            if empty > EMPTY_EVENTS:
                raise FrameError(f"more than {EMPTY_EVENTS} pings or empty messages at once")

    def _payload(self, event: Event) -> bytes | bytearray:
        match event:
            case BytesMessage():
                return event.data
            case Ping() if not self._outbox:  # a pong that could not leave yet stands for those after it
                self.say(event.response())
                with contextlib.suppress(BlockingIOError):
                    self.drain()
            case TextMessage():
                raise FrameError("text came; frames are binary messages")
            case CloseConnection() if self.open and self.open.state is ConnectionState.OPEN:
                raise FrameError(f"no WebSocket: {one_line(event.reason or 'it cannot be read')}")
            case CloseConnection():
                raise ended()
        return b""


class WsServing(WsFlow):
    """The serving end, which the request opens."""

    def __init__(self, below: Flow, origins: frozenset[str]) -> None:
        super().__init__(below)
        self._upgrade = Upgrade(origins)

    def _next(self) -> bytes | bytearray:
        if self.open is None:
            opened = self._upgrade.feed(self.arrived())
            if opened is None:
                raise BlockingIOError
            self.open, answer = opened
            self.pass_on(answer)
            raise BlockingIOError
        return super()._next()

    def pass_on(self, answer: bytes) -> None:
        """Send bytes of the handshake."""
        self._outbox += answer
        with contextlib.suppress(BlockingIOError):
            self.drain()


class WsChannel(FedChannel):
    """The serving end (`Channel`): what fails before the WebSocket is open is answered in HTTP."""

    def __init__(self, sock: socket.socket, flow: WsServing, peer: str) -> None:
        super().__init__(sock, flow, peer)
        self._ws = flow
        self._status = "503 Service Unavailable"

    def read(self) -> int:
        """Pull the next frame (`Channel.read`)."""
        try:
            return super().read()
        except Denied as error:
            self._status = error.status
            raise

    def send(self, message: Message) -> bool:
        """Send a message (`Channel.send`)."""
        if self._ws.open is None and isinstance(message, Failed):
            status = "408 Request Timeout" if message.kind == DeadlinePassed.__name__ else self._status
            self._ws.pass_on(denial(status, message.message))
            return True
        return super().send(message)


class WsListener(TcpListener):
    """A port of this host, ws:// or wss:// (`Listener`)."""

    def __init__(self, address: Address, tokens: Tokens, origins: Sequence[str]) -> None:
        self._below: Callable[[socket.socket], Flow] = SocketFlow
        if address.scheme in ENCRYPTED:
            shown = identity(keys_folder())
            self._below = serving_tls(shown.path, HTTP_ALPN)
            self.fingerprint = shown.fingerprint
        allowed_origins(origins, ())  # before the port is taken
        super().__init__(address, tokens)
        named = address._replace(place=f"{address.place.rpartition(':')[0]}:{self.url.rpartition(':')[2]}")
        self._origins = allowed_origins(origins, [self.url, named.url])

    def _channel(self, sock: socket.socket) -> WsChannel:
        return WsChannel(
            sock, WsServing(self._below(sock), self._origins), f"client of a {self.url.partition(':')[0]}:// link"
        )


def connect(address: Address, hello: Hello, deadline: Seconds) -> FedConnection:
    """A connection to the weight processor at `address`; Unreachable, Refused or ConfigurationError."""
    expiry = time.monotonic() + bounded(deadline)
    invitation = invitation_for(address, keys_folder())
    encrypted = address.scheme in ENCRYPTED
    sock = connected(address, resolved(address) if encrypted else loopback(address), expiry)
    peer = f"weight processor at {address.url}"
    fingerprint = NO_FINGERPRINT
    below: Flow = SocketFlow(sock)
    if encrypted and invitation:
        _, below = secured(sock, invitation, address.url, HTTP_ALPN, expiry)
        fingerprint = invitation.fingerprint
    flow = WsFlow(below)
    stream = FlowStream(sock, flow, peer)
    try:
        _open(stream, flow, address, expiry)
    except LinkError:
        stream.close()
        raise
    except (OSError, ValueError, ProtocolError) as error:
        stream.close()
        raise Refused(f"{peer} does not speak Twofold ({one_line(str(error))}); check the port") from error
    return welcomed(stream, address.url, introduced(hello, invitation, fingerprint), expiry)


def _open(stream: FlowStream, flow: WsFlow, address: Address, expiry: float) -> None:
    """Make a WebSocket of `flow`; Refused with what the other side says, DeadlinePassed, OSError."""
    found = WSConnection(ConnectionType.CLIENT)
    request = found.send(Request(host=address.place, target=PATH))
    while request:
        request = request[flow.below.send([request]) :]
    heard, status, said = 0, 0, bytearray()
    while heard <= HEAD_BYTES:
        try:
            data = flow.arrived()
        except BlockingIOError:
            stream.wait(expiry)
            continue
        heard += len(data)
        found.receive_data(data)
        for event in found.events():
            match event:
                case AcceptConnection():
                    flow.open = found
                    return
                case RejectConnection():
                    status = event.status_code
                case RejectData():
                    said += event.data
                    if event.body_finished:
                        raise Refused(
                            f"{stream.peer} answered HTTP {status}: {one_line(said.decode(errors='replace'))}"
                        )
    raise Refused(f"{stream.peer} does not speak Twofold (its answer has more than {HEAD_BYTES} bytes); check the port")
