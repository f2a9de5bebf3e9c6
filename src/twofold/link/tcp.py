"""tcp://HOST:PORT — frames over a TCP socket, on this host only until links are encrypted."""

import ipaddress
import socket
import time

from twofold.errors import ConfigurationError, FrameError, Unreachable
from twofold.link.base import Address, Call, bounded, check_call, expiry_of, reason, time_left
from twofold.link.greet import ask, checked, greeted
from twofold.link.stream import BACKLOG, REQUEST_BYTES, Acceptor, FrameStream
from twofold.units import Nanoseconds, Seconds
from twofold.wire import frame
from twofold.wire.frame import Header, check_planes, digest_prefix, pack
from twofold.wire.handshake import layout_of
from twofold.wire.message import Failed, Hello, Message, Welcome, error_of
from twofold.wire.rows import Layout, Rows

SocketAddress = tuple[socket.AddressFamily, tuple[str, int]]


class TcpConnection:
    """The calling end (`Connection`)."""

    def __init__(self, stream: FrameStream, welcome: Welcome) -> None:
        self.manifest = welcome.manifest
        self.held = frozenset(welcome.segments)
        self.peer = stream.peer
        self.rows = Rows(layout_of(welcome))
        self._stream = stream
        self._digest = digest_prefix(welcome.manifest)
        self._sequence = 0

    def call(self, segment: int, count: int, deadline: Seconds) -> Nanoseconds:
        """Run `segment` on the first `count` rows (`Connection.call`)."""
        self._stream.check_open()
        check_call(segment, count, self.rows.layout, self.held, self.peer)
        left = time_left(deadline, self.peer)
        try:
            answer = self._exchange(segment, count, left)
        except BaseException:
            self.close()  # a reply under way would be taken for that of the next call
            raise
        if isinstance(answer, Failed):
            raise error_of(answer)
        return Nanoseconds(answer.nanoseconds)

    def _exchange(self, segment: int, count: int, deadline: Seconds) -> Header | Failed:
        stream, rows = self._stream, self.rows
        expiry = time.monotonic() + deadline
        self._sequence += 1
        planes = rows.views(segment, count, gives=False)
        length = sum(map(len, planes))
        call = Header(frame.CALL, self._digest, segment, count, self._sequence, int(deadline * 1e9), length)
        stream.send([pack(call, planes), *planes], expiry)
        header = stream.receive_header(expiry)
        if header.kind == frame.CONTROL:
            message = stream.message_of(header, expiry)
            if not isinstance(message, Failed):
                raise FrameError(f"{self.peer} answered a call with {type(message).__name__}")
            return message
        asked = (frame.REPLY, segment, count, self._sequence)
        if (header.kind, header.segment, header.rows, header.sequence) != asked:
            raise FrameError(f"{self.peer} answered another call than the one in flight (segment {segment})")
        check_planes(header, rows.layout, self._digest)
        stream.receive_planes(header, rows.views(segment, count, gives=True), expiry)
        return header

    def ask(self, message: Message, deadline: Seconds) -> Message:
        """The answer to a message (`Connection.ask`)."""
        return checked(ask(self._stream, message, deadline))

    def close(self) -> None:
        """Close; a second time is nothing."""
        self._stream.close()


class TcpChannel:
    """The serving end (`Channel`)."""

    rows: Rows

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer = "client of a tcp:// link"
        self._stream = FrameStream(sock, self.peer, message_bytes=REQUEST_BYTES)
        self._digest: bytes | None = None
        self._call = Header(frame.CALL)

    def receive(self, deadline: Seconds | None) -> Call | Message:
        """The next call or message (`Channel.receive`)."""
        expiry = expiry_of(deadline)
        stream = self._stream
        header = stream.receive_header(expiry)
        rest = stream.rest(expiry)
        if header.kind == frame.CONTROL:
            return stream.message_of(header, rest)
        if header.kind != frame.CALL or self._digest is None:
            raise FrameError("the handshake comes first, then calls; nothing else is taken here")
        check_planes(header, self.rows.layout, self._digest)
        stream.receive_planes(header, self.rows.views(header.segment, header.rows, gives=False), rest)
        self._call = header
        return Call(header.segment, header.rows, bounded(header.nanoseconds / 1e9))

    def welcome(self, message: Message, layout: Layout, digest: bytes) -> None:
        """Accept the client (`Channel.welcome`)."""
        self.rows, self._digest = Rows(layout), digest
        self.send(message)

    def reply(self, worked: Nanoseconds) -> None:
        """Answer the last call (`Channel.reply`)."""
        call = self._call
        planes = self.rows.views(call.segment, call.rows, gives=True)
        length = sum(map(len, planes))
        header = call._replace(kind=frame.REPLY, nanoseconds=worked, length=length)
        self._stream.send([pack(header, planes), *planes], self._stream.rest(None))

    def send(self, message: Message) -> None:
        """Answer with a message (`Channel.send`)."""
        self._stream.send_message(message, self._stream.rest(None))

    def interrupt(self) -> None:
        """End a `receive` in another thread (`Channel.interrupt`)."""
        self._stream.interrupt()

    def close(self) -> None:
        """Close; a second time is nothing."""
        self._stream.close()


class TcpListener:
    """A port of this host (`Listener`); port 0 lets the system choose a free one."""

    shared_memory = False

    def __init__(self, address: Address) -> None:
        family, (host, port) = loopback(address)[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # only over connections that linger
            sock.bind((host, port))
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise Unreachable(
                f"cannot listen at {address.url}: {reason(error)}; "
                "stop what listens there or choose another port (0 takes a free one)"
            ) from error
        self.url = f"tcp://[{host}]" if family == socket.AF_INET6 else f"tcp://{host}"
        self.url += f":{sock.getsockname()[1]}"
        self._acceptor = Acceptor(sock)

    def accept(self, timeout: Seconds | None) -> TcpChannel | None:
        """The next connection (`Listener.accept`)."""
        sock = self._acceptor.accept(timeout)
        return TcpChannel(sock) if sock else None

    def interrupt(self) -> None:
        """End an `accept` in another thread (`Listener.interrupt`)."""
        self._acceptor.interrupt()

    def close(self) -> None:
        """Close the port; a second time is nothing."""
        self._acceptor.close()


def connect(address: Address, hello: Hello, deadline: Seconds) -> TcpConnection:
    """A connection to the weight processor at `address`; Unreachable, Refused or ConfigurationError."""
    expiry = time.monotonic() + bounded(deadline)
    with greeted(_connected(address, expiry), address.url, hello, expiry) as (stream, welcome):
        return TcpConnection(stream, welcome)


def _connected(address: Address, expiry: float) -> socket.socket:
    why = "no address"
    for family, place in loopback(address):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(max(expiry - time.monotonic(), 0.001))
            sock.connect(place)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            why = reason(error)
        else:
            return sock
    raise Unreachable(
        f"nobody answers at {address.url} ({why}); start one with: twofold weights MODEL --listen {address.url}"
    )


def loopback(address: Address) -> list[SocketAddress]:
    """The socket addresses of HOST:PORT; ConfigurationError if one of them leaves this host."""
    host, _, port = address.place.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(f"'{address.url}' is not of the form tcp://HOST:PORT; write tcp://127.0.0.1:7000")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"the host of {address.url} is not known; write an address of this host") from error
    places: list[SocketAddress] = [(family, (str(place[0]), int(place[1]))) for family, _, _, _, place in found]
    if not all(ipaddress.ip_address(ip.partition("%")[0]).is_loopback for _, (ip, _) in places):
        raise ConfigurationError(
            f"{address.url} is not on this host: links between hosts come with TLS, later; use 127.0.0.1 or shm://"
        )
    return places
