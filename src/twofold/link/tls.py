"""tls://HOST:PORT — the frames of tcp:// inside TLS 1.3: between hosts, and to a host known by its fingerprint."""

import contextlib
import socket
import ssl
import time

from twofold.errors import ConfigurationError, TwofoldError
from twofold.link.base import Address, bounded
from twofold.link.certificate import ALPN, calling_context, check_server, failure, serving_context
from twofold.link.exposure import Tokens
from twofold.link.fed import FedChannel, FedConnection, FedStream, welcomed
from twofold.link.flow import Flow, Parts, SocketFlow, Wrapped, ended
from twofold.link.joined import introduced, invitation_for
from twofold.link.tcp import TcpListener, connected, resolved
from twofold.store.grant import Invitation
from twofold.store.keys import identity, keys_folder
from twofold.units import KIB, Seconds
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


class TlsListener(TcpListener):
    """A port of this host, for others (`Listener`)."""

    def __init__(self, address: Address, tokens: Tokens) -> None:
        shown = identity(keys_folder())
        self._context = serving_context(shown.path)
        self.fingerprint = shown.fingerprint
        super().__init__(address, tokens)

    def _channel(self, sock: socket.socket) -> FedChannel:
        flow = TlsFlow(SocketFlow(sock), self._context, serving=True)
        return FedChannel(sock, flow, "client of a tls:// link")


def connect(address: Address, hello: Hello, deadline: Seconds) -> FedConnection:
    """A connection to the weight processor at `address`; Unreachable, Refused or ConfigurationError."""
    expiry = time.monotonic() + bounded(deadline)
    invitation = invitation_for(address, keys_folder())
    if invitation is None:
        raise ConfigurationError(f"this host has not joined {address.url}; use: twofold join LINK")
    address = Address("tls", invitation.place)
    stream = secured(connected(address, resolved(address), expiry), invitation, address.url, ALPN, expiry)
    return welcomed(stream, address.url, introduced(hello, invitation, invitation.fingerprint), expiry)


def secured(sock: socket.socket, invitation: Invitation, url: str, alpn: str, expiry: float) -> FedStream:
    """TLS with the server of the invitation over `sock`, and with no other; closes it if that fails."""
    flow = TlsFlow(SocketFlow(sock), calling_context(alpn), serving=False)
    stream = FedStream(sock, flow, f"weight processor at {url}")
    try:
        while not _shaken(flow):
            stream.wait(expiry)
            flow.fill()
        check_server(flow.session, invitation.fingerprint, url, alpn)
    except OSError as error:
        stream.close()
        raise failure(error, url) from error
    except TwofoldError:
        stream.close()
        raise
    return stream


def _shaken(flow: TlsFlow) -> bool:
    """Go on with the handshake of the calling side; whether it is done."""
    try:
        flow.session.do_handshake()
    except ssl.SSLWantReadError:
        return False
    finally:
        flow.answer()
    return True
