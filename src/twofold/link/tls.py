"""tls://HOST:PORT — the frames of tcp:// inside TLS 1.3: between hosts, and to a host known by its fingerprint."""

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from twofold.errors import ConfigurationError, TwofoldError
from twofold.link.base import Address, bounded
from twofold.link.calling import PortConnection, port_over
from twofold.link.certificate import ALPN, calling_context, check_server, failure, serving_context
from twofold.link.channel import SocketChannel
from twofold.link.exposure import Tokens
from twofold.link.fed import FedChannel, welcomed
from twofold.link.flow import Flow, Parts, SocketFlow, Wrapped, ended
from twofold.link.greet import greeted
from twofold.link.joined import introduced, invitation_for
from twofold.link.openssl import Context, Session, openssl
from twofold.link.port import Kind
from twofold.link.stream import FlowStream
from twofold.link.tcp import TcpListener, connected, resolved
from twofold.store.grant import Invitation
from twofold.store.keys import identity, keys_folder
from twofold.units import KIB, Seconds
from twofold.wire.handshake import layout_of
from twofold.wire.message import Hello

RECORDS_BYTES = 256 * KIB  # given to TLS at once
ARRIVING_BYTES = 64 * KIB  # taken from the socket at once


class TlsFlow(Wrapped):
    """A TLS session over another flow. Its handshake is made by `receive`."""

    def __init__(self, below: Flow, context: ssl.SSLContext, *, serving: bool) -> None:
        super().__init__(below)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.session = context.wrap_bio(self._in, self._out, server_side=serving)
        self._arriving = memoryview(bytearray(ARRIVING_BYTES))

    def wrap(self, parts: Parts) -> int:
        """Encrypt (`Wrapped.wrap`)."""
        data = bytearray()
        for part in parts:
            data += memoryview(part)[: RECORDS_BYTES - len(data)]
        self.session.write(data)
        data[:] = bytes(len(data))  # it may be planes of a reply, of which nothing is to stay
        self._outbox += self._out.read()
        return len(data)

    def receive(self, view: memoryview) -> int:
        """As `Flow.receive`."""
        if not self.pending():
            self.fill()
        while True:
            try:
                got = int(self.session.read(len(view), view))  # with a buffer it is a count, whatever typeshed says
            except ssl.SSLWantReadError:
                self.answer()
                self.fill()
                continue
            except ssl.SSLError:
                self.answer()  # with an alert, which says why
                raise
            if not got:
                raise ended()
            return got

    def pending(self) -> bool:
        """As `Flow.pending`."""
        return bool(self._in.pending or self.session.pending())

    def fill(self) -> None:
        """Take what has arrived; as `Flow.receive`."""
        self._in.write(self._arriving[: self.below.receive(self._arriving)])

    def answer(self) -> None:
        """Send what TLS itself has to say, as far as it leaves now."""
        if self._out.pending:
            self._outbox += self._out.read()
            with contextlib.suppress(BlockingIOError):
                self.drain()

    def close(self) -> None:
        """As `Flow.close`."""

    def shake(self) -> bool:
        """Go on with the handshake of the calling side, with what has arrived; whether it is done. OSError."""
        with contextlib.suppress(BlockingIOError):
            self.fill()
        try:
            self.session.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self.answer()
        return True

    def certificate(self) -> bytes:
        """What the other side has shown, DER; empty if nothing."""
        return self.session.getpeercert(binary_form=True) or b""

    def protocol(self) -> str | None:
        """The ALPN protocol that both sides speak."""
        return self.session.selected_alpn_protocol()


Tls = TlsFlow | Session


class TlsChannel(SocketChannel):
    """The serving end, whose bytes native code moves (`Channel`)."""

    def __init__(self, sock: socket.socket, session: Session, peer: str) -> None:
        super().__init__(sock, peer)
        self._session = session
        self.port.secure(session)

    def _send(self, parts: Sequence[memoryview]) -> int:
        return self._session.send(parts)


class TlsListener(TcpListener):
    """A port of this host, for others (`Listener`)."""

    def __init__(self, address: Address, tokens: Tokens) -> None:
        shown = identity(keys_folder())
        self._tls = serving_tls(shown.path, ALPN)
        self.fingerprint = shown.fingerprint
        super().__init__(address, tokens)

    def _channel(self, sock: socket.socket) -> SocketChannel:
        tls, peer = self._tls(sock), "client of a tls:// link"
        return TlsChannel(sock, tls, peer) if isinstance(tls, Session) else FedChannel(sock, tls, peer)


def connect(address: Address, hello: Hello, deadline: Seconds) -> PortConnection:
    """A connection to the weight processor at `address`; Unreachable, Refused or ConfigurationError."""
    expiry = time.monotonic() + bounded(deadline)
    invitation = invitation_for(address, keys_folder())
    if invitation is None:
        raise ConfigurationError(f"this host has not joined {address.url}; use: twofold join LINK")
    address = Address("tls", invitation.place)
    stream, tls = secured(connected(address, resolved(address), expiry), invitation, address.url, ALPN, expiry)
    introduction = introduced(hello, invitation, invitation.fingerprint)
    if not isinstance(tls, Session):
        return welcomed(stream, address.url, introduction, expiry)
    with greeted(stream, address.url, introduction, expiry) as welcome:
        layout = layout_of(welcome)
        return PortConnection(stream, welcome, layout, port_over(stream, Kind.SOCKET, layout, tls))


def secured(sock: socket.socket, invitation: Invitation, url: str, alpn: str, expiry: float) -> tuple[FlowStream, Tls]:
    """TLS with the server of the invitation over `sock`, and with no other; closes it if that fails."""
    tls = _calling_tls(sock, alpn)
    stream = FlowStream(sock, tls, f"weight processor at {url}")
    try:
        while not tls.shake():
            stream.wait(expiry)
        check_server(tls.certificate(), tls.protocol(), invitation.fingerprint, url, alpn)
    except OSError as error:
        stream.close()
        raise failure(error, url) from error
    except TwofoldError:
        stream.close()
        raise
    return stream, tls


def serving_tls(identity: Path, alpn: str) -> Callable[[socket.socket], Tls]:
    """What makes the side that is connected to of TLS over a socket; ConfigurationError as `serving_context`."""
    functions = openssl()
    if functions:
        native = Context(functions, alpn, identity=identity)
        return lambda sock: Session(native, sock)
    context = serving_context(identity, alpn)
    return lambda sock: TlsFlow(SocketFlow(sock), context, serving=True)


def _calling_tls(sock: socket.socket, alpn: str) -> Tls:
    functions = openssl()
    if functions:
        return Session(Context(functions, alpn), sock)
    return TlsFlow(SocketFlow(sock), calling_context(alpn), serving=False)
