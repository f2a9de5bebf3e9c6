"""tls://HOST:PORT — the frames of tcp:// inside TLS 1.3: between hosts, and to a host known by its fingerprint."""

import socket
import ssl
import time
from collections.abc import Sequence

from twofold.errors import ConfigurationError, DeadlinePassed, Refused
from twofold.link.base import Address, bounded
from twofold.link.calling import PortConnection
from twofold.link.certificate import calling_context, check_server, failure, serving_context
from twofold.link.channel import REQUEST_BYTES, SocketChannel
from twofold.link.exposure import Tokens
from twofold.link.greet import greeted
from twofold.link.joined import introduced, invitation_for
from twofold.link.port import Kind, Port, What, room
from twofold.link.stream import MessageStream
from twofold.link.tcp import TcpListener, connected, resolved
from twofold.store.grant import Invitation
from twofold.store.keys import identity, keys_folder
from twofold.units import KIB, Nanoseconds, Seconds
from twofold.wire.handshake import layout_of
from twofold.wire.message import Hello, Welcome
from twofold.wire.rows import Layout, Rows

RECORDS_BYTES = 256 * KIB  # given to TLS at once
NOT_NOW = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


class TlsStream(MessageStream):
    """Messages inside TLS."""

    def __init__(self, session: ssl.SSLSocket, peer: str) -> None:
        super().__init__(session, peer)
        self.session = session

    def wait(self, expiry: float, *, writable: bool = False) -> None:
        """As the socket's; what TLS has decrypted already can be read at once."""
        if writable or not self.session.pending():
            super().wait(expiry, writable=writable)

    def _send(self, parts: Sequence[memoryview | bytes]) -> int:
        return sent(self.session, parts)

    def _receive(self, view: memoryview) -> int:
        return received(self.session, view)


class TlsConnection(PortConnection):
    """The calling end (`Connection`)."""

    def __init__(self, stream: TlsStream, welcome: Welcome, layout: Layout, port: Port) -> None:
        super().__init__(stream, welcome, layout, port)
        self._session = stream.session

    def begin(self, rows: Rows, segment: int, count: int, deadline: Seconds) -> None:
        """Send a call (`Connection.begin`)."""
        nanoseconds = self._prepare(rows, segment, count, deadline)
        self._port.begin(rows, self._native, segment, count, nanoseconds)
        expiry = time.monotonic() + nanoseconds / 1e9
        try:
            while len(self._port.leaving):
                self._push(expiry)
        except BaseException:
            self.close()
            raise

    def call(self, rows: Rows, segment: int, count: int, deadline: Seconds) -> Nanoseconds:
        """`begin` and `finish`."""
        self.begin(rows, segment, count, deadline)
        return self.finish()

    def _push(self, expiry: float) -> None:
        try:
            self._port.handed_on(sent(self._session, [self._port.leaving]))
        except BlockingIOError:
            self._stream.wait(expiry, writable=True)
        except OSError as error:
            raise self._port.gone(error, self.peer) from error

    def _wait(self, rows: Rows, segment: int, count: int, timeout_ns: int) -> int:
        what = self._pull()
        if what == What.NOTHING:
            self._port.await_bytes(timeout_ns)
            what = self._pull()
        if what == What.CALL:
            what = self._port.finish(rows, self._native, segment, count, 0)
        return what

    def _pull(self) -> int:
        """The next frame, if it is there whole."""
        what = int(What.NOTHING)
        try:
            while what == What.NOTHING:
                what = self._port.fed(received(self._session, self._port.space()))
        except BlockingIOError:
            pass
        except OSError as error:
            raise self._port.gone(error, self.peer) from error
        return what


class TlsChannel(SocketChannel):
    """The serving end (`Channel`). The TLS handshake is made as its parts arrive."""

    kind = Kind.FED

    def __init__(self, session: ssl.SSLSocket) -> None:
        super().__init__(session, "client of a tls:// link")
        self._session = session
        self._shaken = False

    def read(self) -> int:
        """Pull the next frame (`Channel.read`)."""
        what = int(What.NOTHING)
        try:
            if not self._shaken:
                self._session.do_handshake()
                self._shaken = True
            while what == What.NOTHING:
                what = self.port.fed(received(self._session, self.port.space()))
        except (*NOT_NOW, BlockingIOError):
            pass
        except (OSError, ValueError) as error:
            raise self.port.gone(error, self.peer) from error
        return what

    def _flush_port(self) -> bool:
        try:
            while len(self.port.leaving):
                self.port.handed_on(sent(self._session, [self.port.leaving]))
        except BlockingIOError:
            return False
        except OSError as error:
            raise self.port.gone(error, self.peer) from error
        return True

    def _send(self, parts: Sequence[memoryview]) -> int:
        return sent(self._session, parts)


class TlsListener(TcpListener):
    """A port of this host, for others (`Listener`)."""

    def __init__(self, address: Address, tokens: Tokens) -> None:
        shown = identity(keys_folder())
        self._context = serving_context(shown.path)
        self.fingerprint = shown.fingerprint
        super().__init__(address, tokens)

    def _channel(self, sock: socket.socket) -> TlsChannel:
        return TlsChannel(self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False))


def connect(address: Address, hello: Hello, deadline: Seconds) -> TlsConnection:
    """A connection to the weight processor at `address`; Unreachable, Refused or ConfigurationError."""
    expiry = time.monotonic() + bounded(deadline)
    invitation = invitation_for(address, keys_folder())
    if invitation is None:
        raise ConfigurationError(f"this host has not joined {address.url}; use: twofold join LINK")
    address = Address("tls", invitation.place)
    sock = connected(address, resolved(address), expiry)
    stream = TlsStream(_shaken(sock, invitation, address.url, expiry), f"weight processor at {address.url}")
    with greeted(stream, address.url, introduced(hello, invitation, invitation.fingerprint), expiry) as welcome:
        layout = layout_of(welcome)
        inward = room(max(layout.longest(gives=True), REQUEST_BYTES))
        port = Port(Kind.FED, inward, room(layout.longest(gives=False)), stream.socket.fileno())
        port.expect(layout)
        return TlsConnection(stream, welcome, layout, port)


def _shaken(sock: socket.socket, invitation: Invitation, url: str, expiry: float) -> ssl.SSLSocket:
    """TLS with the server of the invitation over `sock`, and with no other; closes it if that fails."""
    session = calling_context().wrap_socket(sock, do_handshake_on_connect=False)
    try:
        session.settimeout(max(expiry - time.monotonic(), 0.001))
        session.do_handshake()
        check_server(session, invitation.fingerprint, url)
    except TimeoutError as error:
        session.close()
        raise DeadlinePassed(f"weight processor at {url} did not answer in time") from error
    except OSError as error:
        session.close()
        raise failure(error, url) from error
    except Refused:
        session.close()
        raise
    return session


def sent(session: ssl.SSLSocket, parts: Sequence[memoryview | bytes]) -> int:
    """Bytes from the front of `parts` that left; BlockingIOError if none can now."""
    data = bytearray()
    for part in parts:  # after BlockingIOError the same bytes must be given again: always as many as fit
        data += memoryview(part)[: RECORDS_BYTES - len(data)]
    try:
        return session.send(data)
    except NOT_NOW as error:
        raise BlockingIOError from error


def received(session: ssl.SSLSocket, view: memoryview) -> int:
    """Bytes received into `view`; BlockingIOError if none are there, ConnectionResetError at the end."""
    try:
        got = session.recv_into(view) if len(view) else 0
    except NOT_NOW as error:
        raise BlockingIOError from error
    if not got:
        raise ConnectionResetError("it closed the link")
    return got
