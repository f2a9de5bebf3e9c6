"""The HTTP request that becomes a WebSocket: read whole, bounded, and answered. No socket.

A browser says of which page it runs (`Origin`), and any page may try to connect: only known origins are let in.
"""

import urllib.parse
from collections.abc import Collection, Sequence

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request
from wsproto.utilities import ProtocolError

from twofold.errors import ConfigurationError, Refused, one_line

PATH = "/twofold"
HEAD_BYTES = 8192  # of a request or an answer
_GET, _END = b"GET ", b"\r\n\r\n"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_WHAT = f"a weight processor of Twofold listens here, for WebSockets at {PATH} (RFC 6455)"


class Denied(Refused):
    """A request that is answered with `status` and no WebSocket."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status


class Upgrade:
    """A request as it arrives. `origins`: as `allowed_origins` gives them."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = origins
        self._head = bytearray()

    def feed(self, data: bytes | memoryview) -> tuple[WSConnection, bytes] | None:
        """The WebSocket and the answer that opens it, once the request is there whole; Denied."""
        self._head += data
        if self._head[:4] != _GET[: len(self._head)]:
            raise Denied("400 Bad Request", f"this is no GET request; {_WHAT}")
        end = self._head.find(_END)
        if end < 0 and len(self._head) <= HEAD_BYTES:
            return None
        if end < 0 or end > HEAD_BYTES:
            raise Denied("431 Request Header Fields Too Large", f"a request has at most {HEAD_BYTES} bytes; {_WHAT}")
        if len(self._head) != end + len(_END):
            raise Denied("400 Bad Request", f"more came than the request; wait for its answer. {_WHAT}")
        return self._answered()

    def _answered(self) -> tuple[WSConnection, bytes]:
        found = WSConnection(ConnectionType.SERVER)
        try:
            found.receive_data(bytes(self._head))
            requests = list(found.events())
        except ProtocolError as error:
            raise Denied("426 Upgrade Required", f"{_WHAT}; this request is none: {one_line(str(error))}") from error
        except ValueError as error:  # letters that its headers cannot have
            raise Denied("400 Bad Request", f"the request is damaged; {_WHAT}") from error
        if len(requests) != 1 or not isinstance(requests[0], Request):
            raise Denied("400 Bad Request", f"the request is damaged; {_WHAT}")
        self._check(requests[0])
        return found, found.send(AcceptConnection())

    def _check(self, request: Request) -> None:
        if request.target != PATH:
            raise Denied("404 Not Found", _WHAT)
        for name, value in request.extra_headers:
            if name == b"origin" and value.decode("latin-1").lower() not in self._origins:
                shown = one_line(value.decode("latin-1"))[:200]
                raise Denied("403 Forbidden", f"pages of {shown} may not connect; --origin {shown} would let them")


def denial(status: str, why: str) -> bytes:
    """The HTTP answer to a request that is denied."""
    body = f"{why}\n".encode()
    upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" if status.startswith("426") else ""
    head = f"HTTP/1.1 {status}\r\n{upgrade}Connection: {'upgrade, ' if upgrade else ''}close\r\n"
    return f"{head}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def allowed_origins(given: Sequence[str], own: Sequence[str]) -> frozenset[str]:
    """What `Origin` may say: the URLs `given`, and the addresses `own`; ConfigurationError if one is no origin."""
    return frozenset([*(_origin(url) for url in given), *(_origin(url.replace("ws", "http", 1)) for url in own)])


def _origin(url: str) -> str:
    """`url` as browsers write an origin."""
    try:
        parts = urllib.parse.urlsplit(url.lower())
        fits = parts.scheme and parts.netloc and parts.path in ("", "/") and "@" not in parts.netloc
        fits = fits and not (parts.query or parts.fragment) and url.isascii() and url.isprintable()
    except ValueError:
        fits = False
    if not fits:
        raise ConfigurationError(
            f"'{one_line(url)}' is no origin; write it like https://chat.example or http://[::1]:8000"
        )
    place = parts.netloc.removesuffix(_DEFAULT_PORTS.get(parts.scheme, " "))
    return f"{parts.scheme}://{place}"
