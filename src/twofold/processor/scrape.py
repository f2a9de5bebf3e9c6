"""Where a weight processor is read by Prometheus: http://HOST:PORT/metrics, on this host alone.

One thread, one request at a time, one answer a connection. It reads counts that the loop wrote and touches nothing
else, so a slow or hostile reader delays other readers by at most REQUEST_SECONDS and the loop not at all.
"""

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

from twofold.errors import ConfigurationError, Unreachable
from twofold.link.base import Address, reason
from twofold.link.exposure import on_this_host
from twofold.link.listener import bound
from twofold.link.tcp import resolved
from twofold.processor.metrics import CONTENT_TYPE
from twofold.units import KIB

REQUEST_BYTES = 8 * KIB
REQUEST_SECONDS = 2.0  # for a request to arrive, and for its answer to leave


class Scrape:
    """A port for metrics: taken when it is made, answered inside `serving`."""

    def __init__(self, place: str) -> None:
        """Take HOST:PORT; ConfigurationError if other hosts can reach it, Unreachable if it cannot be had."""
        self._socket = _listening(place)
        host, port = self._socket.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"

    @contextlib.contextmanager
    def serving(self, text: Callable[[], str]) -> Iterator[None]:
        """Answer with `text()`, from a thread of its own; afterwards the port is free."""
        end = os.eventfd(0, os.EFD_CLOEXEC)
        thread = threading.Thread(target=self._serve, args=(text, end), name="metrics", daemon=True)
        thread.start()
        try:
            yield
        finally:
            os.eventfd_write(end, 1)
            thread.join()
            self._socket.close()
            os.close(end)

    def _serve(self, text: Callable[[], str], end: int) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(end, select.POLLIN)
        while all(ready != end for ready, _ in poll.poll()):
            with contextlib.suppress(OSError):
                client, _ = self._socket.accept()
                with client:
                    client.settimeout(REQUEST_SECONDS)
                    client.sendall(answer(_head(client), text))


def answer(request: bytes, text: Callable[[], str]) -> bytes:
    """The response to what arrived of a request: `text()` to `GET /metrics`, else an error that says what is here."""
    words = request.partition(b"\r\n")[0].split(b" ")
    whole = b"\r\n\r\n" in request and len(words) == 3 and words[2].startswith(b"HTTP/1.")
    if not whole:
        return _response("400 Bad Request", "this is HTTP/1.1; use GET /metrics\n")
    if words[0] != b"GET":
        return _response("405 Method Not Allowed", "use GET /metrics\n")
    if words[1].partition(b"?")[0] != b"/metrics":
        return _response("404 Not Found", "the metrics are at /metrics\n")
    return _response("200 OK", text())


def _response(status: str, text: str) -> bytes:
    body = text.encode()
    head = (f"HTTP/1.1 {status}", f"Content-Type: {CONTENT_TYPE}", f"Content-Length: {len(body)}", "Connection: close")
    return "\r\n".join((*head, "", "")).encode() + body


def _head(client: socket.socket) -> bytes:
    """The request up to the empty line, or what of it arrived in time."""
    expiry = time.monotonic() + REQUEST_SECONDS
    request = b""
    while b"\r\n\r\n" not in request and len(request) < REQUEST_BYTES and time.monotonic() < expiry:
        piece = client.recv(REQUEST_BYTES - len(request))
        if not piece:
            break
        request += piece
    return request


def _listening(place: str) -> socket.socket:
    address = Address("http", place)
    family, where = resolved(address)[0]
    if not on_this_host(where[0]):
        raise ConfigurationError(
            f"metrics at {place} could be read from other hosts, without encryption or a token; "
            "give 127.0.0.1:PORT and let a collector on this host pass them on"
        )
    try:
        return bound(family, where)
    except OSError as error:
        raise Unreachable(f"metrics cannot be served at {place} ({reason(error)}); give another port, or 0") from error
