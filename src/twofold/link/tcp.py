"""tcp://HOST:PORT — frames over a TCP socket, on this host only: between hosts it is tls://."""

import socket
import time

from twofold.errors import ConfigurationError, Unreachable
from twofold.link.base import Address, bounded, reason
from twofold.link.calling import PortConnection, port_over
from twofold.link.channel import SocketChannel
from twofold.link.exposure import Tokens, on_this_host, token_required
from twofold.link.greet import greeted
from twofold.link.joined import introduced, invitation_for
from twofold.link.listener import accepted, bound
from twofold.link.port import Kind
from twofold.link.stream import MessageStream
from twofold.store.keys import keys_folder
from twofold.units import Seconds
from twofold.wire.handshake import layout_of
from twofold.wire.message import Hello
from twofold.wire.token import NO_FINGERPRINT

SocketAddress = tuple[socket.AddressFamily, tuple[str, int]]


class TcpListener:
    """A port of this host (`Listener`); port 0 lets the system choose a free one."""

    shared_memory = False
    fingerprint = NO_FINGERPRINT

    def __init__(self, address: Address, tokens: Tokens) -> None:
        found = resolved(address)
        self.token_required = token_required(address, [ip for _, (ip, _) in found], tokens)
        family, (host, port) = found[0]
        try:
            sock = bound(family, (host, port))
        except OSError as error:
            raise Unreachable(
                f"cannot listen at {address.url}: {reason(error)}; "
                "stop what listens there or choose another port (0 takes a free one)"
            ) from error
        self.url = f"{address.scheme}://[{host}]" if family == socket.AF_INET6 else f"{address.scheme}://{host}"
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
        return self._channel(sock)

    def close(self) -> None:
        """Close the port; a second time is nothing."""
        self._socket.close()

    def _channel(self, sock: socket.socket) -> SocketChannel:
        return SocketChannel(sock, "client of a tcp:// link")


def connect(address: Address, hello: Hello, deadline: Seconds) -> PortConnection:
    """A connection to the weight processor at `address`; Unreachable, Refused or ConfigurationError."""
    expiry = time.monotonic() + bounded(deadline)
    places = loopback(address)
    introduction = introduced(hello, invitation_for(address, keys_folder()))
    stream = MessageStream(connected(address, places, expiry), f"weight processor at {address.url}")
    with greeted(stream, address.url, introduction, expiry) as welcome:
        layout = layout_of(welcome)
        return PortConnection(stream, welcome, layout, port_over(stream, Kind.SOCKET, layout))


def connected(address: Address, places: list[SocketAddress], expiry: float) -> socket.socket:
    """A socket connected to one of `places`, before `expiry` on the monotonic clock; Unreachable."""
    why = "no address"
    for family, place in places:
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
    places = resolved(address)
    if not all(on_this_host(ip) for _, (ip, _) in places):
        raise ConfigurationError(
            f"{address.url} is not on this host, and {address.scheme}:// is not encrypted; "
            f"use tls://{address.place}, or 127.0.0.1 for this host"
        )
    return places


def resolved(address: Address) -> list[SocketAddress]:
    """The socket addresses of HOST:PORT; ConfigurationError if it is not of that form, Unreachable if none is known."""
    host, _, port = address.place.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(
            f"'{address.url}' is not of the form {address.scheme}://HOST:PORT; write {address.scheme}://127.0.0.1:7000"
        )
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"the host of {address.url} is not known; check the name") from error
    return [(family, (str(place[0]), int(place[1]))) for family, _, _, _, place in found]
