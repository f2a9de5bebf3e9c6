"""tcp://HOST:PORT — frames over a TCP socket, on this host only: between hosts it is tls://."""

import ipaddress
import socket
import time

from twofold.errors import ConfigurationError, Unreachable
from twofold.link.base import Address, bounded, reason
from twofold.link.calling import PortConnection
from twofold.link.channel import REQUEST_BYTES, SocketChannel
from twofold.link.greet import greeted
from twofold.link.listener import BACKLOG, accepted
from twofold.link.port import Kind, Port, room
from twofold.link.stream import MessageStream
from twofold.units import Seconds
from twofold.wire.handshake import layout_of
from twofold.wire.message import Hello

SocketAddress = tuple[socket.AddressFamily, tuple[str, int]]


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
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            raise Unreachable(
                f"cannot listen at {address.url}: {reason(error)}; "
                "stop what listens there or choose another port (0 takes a free one)"
            ) from error
        self.url = f"tcp://[{host}]" if family == socket.AF_INET6 else f"tcp://{host}"
        self.url += f":{sock.getsockname()[1]}"
        self._socket = sock

    def fileno(self) -> int:
        """The socket."""
        return self._socket.fileno()

    def accept(self) -> SocketChannel | None:
        """The next connection (`Listener.accept`)."""
        sock = accepted(self._socket)
        if sock is None:
            return None
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return SocketChannel(sock, "client of a tcp:// link")

    def close(self) -> None:
        """Close the port; a second time is nothing."""
        self._socket.close()


def connect(address: Address, hello: Hello, deadline: Seconds) -> PortConnection:
    """A connection to the weight processor at `address`; Unreachable, Refused or ConfigurationError."""
    expiry = time.monotonic() + bounded(deadline)
    stream = MessageStream(_connected(address, expiry), f"weight processor at {address.url}")
    with greeted(stream, address.url, hello, expiry) as welcome:
        layout = layout_of(welcome)
        inward = room(max(layout.longest(gives=True), REQUEST_BYTES))
        port = Port(Kind.SOCKET, inward, room(layout.longest(gives=False)), stream.socket.fileno())
        port.expect(layout)
        return PortConnection(stream, welcome, layout, port)


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
