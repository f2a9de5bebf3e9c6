"""What is attacked: raw sockets to a weight processor, before and after a valid handshake."""

import contextlib
import socket
import time
from collections.abc import Sequence

from fabric import keyring
from fabric.mutations import call_frame, message_frame
from fabric.proxy import Place, place_of
from twofold import link
from twofold.store.grant import Token
from twofold.units import Nanoseconds
from twofold.wire import frame
from twofold.wire.frame import HEADER_BYTES
from twofold.wire.message import Challenge, Failed, Hello, Message, Welcome, decode
from twofold.wire.token import NO_FINGERPRINT, proved

PATIENCE_SECONDS = 10.0  # for the other side to end a connection
OPTIONS = ("--tokens", "--listen", "tls://127.0.0.1:0", "--listen", "ws://127.0.0.1:0")  # beside a tcp:// address


class Target:
    """A processor that was started with OPTIONS, and valid calls of its model."""

    def __init__(self, urls: Sequence[str]) -> None:
        """`urls`: where it is reached, in the order of OPTIONS, then tcp://."""
        self.tls, self.ws, self.place = (place_of(url.partition("://")[2]) for url in urls)
        self.token = keyring.own_token("{}:{}".format(*self.place))
        connection = link.connect(urls[-1])
        self.digest = connection.manifest.digest
        layout = connection.layout
        connection.close()
        self.hello = Hello(digest=self.digest, token=self.token.id)
        self.call = call_frame(self.digest, 0, 1, bytes(layout.payload_bytes(layout.cuts[0].takes, 1)))
        rows = layout.limit(1)
        self.large = call_frame(self.digest, 1, rows, bytes(layout.payload_bytes(layout.cuts[1].takes, rows)))

    def connect(self, place: Place | None = None) -> socket.socket:
        """A connection that has said nothing."""
        sock = socket.create_connection(place or self.place, PATIENCE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def greeted(self) -> socket.socket:
        """A connection after a valid handshake; OSError if it was refused."""
        sock = self.connect()
        if not isinstance(self.introduced(sock, self.token), Welcome):
            sock.close()
            raise ConnectionRefusedError
        return sock

    def introduced(self, sock: socket.socket, token: Token, moment_ns: int | None = None) -> Message | None:
        """The answer to the proof of a token, by a clock that shows `moment_ns`, or the right time."""
        challenge = said(sock, Hello(digest=self.digest, token=token.id))
        return said(sock, self.proof(token, challenge, moment_ns)) if isinstance(challenge, Challenge) else challenge

    def proof(self, token: Token, challenge: Challenge, moment_ns: int | None = None) -> Hello:
        """The Hello that answers `challenge`."""
        now = Nanoseconds(time.time_ns() if moment_ns is None else moment_ns)
        return proved(Hello(digest=self.digest), token, NO_FINGERPRINT, time=now, nonce=challenge.nonce)


def said(sock: socket.socket, message: Message) -> Message | None:
    """The answer to `message`; None if the connection ended instead."""
    with contextlib.suppress(OSError):  # it was answered and closed before
        sock.sendall(message_frame(message))
    return answer(sock)


def answer(sock: socket.socket) -> Message | None:
    """The message that comes next; None if the connection ends."""
    head = _exactly(sock, HEADER_BYTES)
    return decode(_exactly(sock, frame.unpack(head).length)) if head else None


def told(message: Message | None) -> str:
    """In short: the kind of a message, or of the error that it tells of."""
    return message.kind if isinstance(message, Failed) else type(message).__name__


def ended(sock: socket.socket) -> str:
    """How a connection ended after all was sent."""
    with sock:
        try:
            while sock.recv(1 << 16):
                pass
        except TimeoutError:
            return "unended"
        except OSError:
            return "reset"
    return "ended"


def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionError):
        while len(data) < count and (piece := sock.recv(count - len(data))):
            data += piece
    return data if len(data) == count else b""
