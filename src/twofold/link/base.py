"""Links: how calls reach weight memory. The contracts; one file a scheme beside this one.

    inproc://           the service is in this process
    shm://NAME          same host: planes in shared memory, never copied (also shm:///absolute/path)
    tcp://HOST:PORT     a socket
    tls://HOST:PORT     the same inside TLS
    ws://HOST:PORT      messages of a WebSocket; wss:// inside TLS

The side that connects hands over rows with the planes of a call, and finds those of the reply in the same rows. A
connection carries one call at a time and belongs to one thread.
"""

import math
import os
from typing import NamedTuple, Protocol

from twofold.errors import ConfigurationError, DeadlinePassed, InternalError, LinkError
from twofold.link.port import Port
from twofold.model.manifest import Manifest
from twofold.units import Nanoseconds, Seconds
from twofold.wire.message import Message, Welcome
from twofold.wire.rows import Layout, Rows

HANDSHAKE_SECONDS = Seconds(3.0)
LONGEST = Seconds(86400.0)  # one wait: what every system call of ours can express


class Connection(Protocol):
    """The calling end of a link."""

    manifest: Manifest
    held: frozenset[int]  # segments that the other side holds
    layout: Layout  # how many rows a call may have
    peer: str  # for messages: "weight processor 4711 at shm://a"

    def begin(self, rows: Rows, segment: int, count: int, deadline: Seconds) -> None:
        """Send a call: `segment` on the first `count` of `rows`, to be answered within `deadline` from now.

        The caller leaves the rows alone until `finish`. With no time left it raises DeadlinePassed before
        anything is sent, and the connection goes on; errors as for `finish`.
        """

    def finish(self) -> Nanoseconds:
        """Wait for the reply to the call begun and write the planes that the segment gives into its rows.

        Returns the time that the other side worked. Raises the error that the other side answered; then
        the connection goes on. Raises ProcessorLost, DeadlinePassed or FrameError of its own; then the
        connection is closed and every later call raises ProcessorLost. After any error the rows are as they
        were, so that the call can be made again elsewhere.
        """

    def call(self, rows: Rows, segment: int, count: int, deadline: Seconds) -> Nanoseconds:
        """`begin` and `finish`."""

    def port(self, rows: Rows) -> int | None:
        """Address of the native port that calls of `rows` can be made at (`native/walk.c`); None if there is none."""

    def resume(self, segment: int, count: int, deadline: Seconds, what: int) -> Nanoseconds:
        """`finish` for a call begun at `port`, which came to `what` there."""

    def ask(self, message: Message, deadline: Seconds) -> Message:
        """The answer to a message; errors as for `finish`."""

    def interrupt(self) -> None:
        """End a `finish` or `ask` in another thread, now and for ever: it raises ProcessorLost."""

    def close(self) -> None:
        """Close; a second time is nothing."""


class Service(Protocol):
    """What a weight processor offers. No two of its methods are ever called at once."""

    @property
    def manifest(self) -> Manifest:
        """The model."""

    @property
    def held(self) -> frozenset[int]:
        """Segments held here."""

    @property
    def layout(self) -> Layout:
        """Where the planes of a call lie, and how many rows it may have."""

    def work(self, segment: int, rows: Rows, count: int) -> Nanoseconds:
        """Run a segment held here on the first `count` rows, in place; the time that took."""

    def native_segments(self) -> int | None:
        """Address of an array of the native calls by segment (`native/segment.c`); None if `work` is to be called."""

    def expert_rows(self) -> dict[int, tuple[int, ...]]:
        """Rows that went to each expert so far, by the segment that its mixture belongs to; from any thread."""

    def forget(self) -> None:
        """Wipe whatever of earlier calls is still in memory beside the rows."""

    def tokenizer(self) -> bytes:
        """The tokenizer, encoded."""


class Channel(Protocol):
    """The serving end of a link. Nothing here waits."""

    peer: str
    port: Port  # where messages arrive, and calls too unless `calls` is another
    calls: Port  # where calls arrive

    def fileno(self) -> int:
        """The socket."""

    def bell(self) -> int:
        """The eventfd that wakes this side for `calls`, if that is another port."""

    def read(self) -> int:
        """Pull the next frame of a port that is FED (`What`)."""

    def pending(self) -> bool:
        """Whether to `read` again now, although the socket may not tell so."""

    def welcome(self, message: Message, layout: Layout) -> None:
        """Accept the other side: send the Welcome and expect calls of this layout; before it no call is taken."""

    def fail(self, message: Message) -> bool:
        """Answer the call that arrived with a message; whether all of it has left."""

    def send(self, message: Message) -> bool:
        """Send a message; whether all of it has left."""

    def flush(self) -> bool:
        """Send what has not left; whether all of it has now. ProcessorLost once the other side has gone."""

    def close(self) -> None:
        """Close; a second time is nothing."""


class Listener(Protocol):
    """Where a processor is reached."""

    url: str  # as it can be connected to: with the port chosen for port 0
    shared_memory: bool  # what a Hello must want
    token_required: bool  # of a Hello
    fingerprint: bytes  # of the certificate that clients are shown, or NO_FINGERPRINT

    def fileno(self) -> int:
        """The socket: readable when `accept` has something."""

    def accept(self) -> Channel | None:
        """The next connection, if there is one; DeviceError if out of files."""

    def close(self) -> None:
        """Close and free the address; a second time is nothing."""


class Address(NamedTuple):
    """A URL in two parts."""

    scheme: str
    place: str

    @property
    def url(self) -> str:
        """The parts joined again."""
        return f"{self.scheme}://{self.place}"


def parse(url: str) -> Address:
    """`scheme://place`; ConfigurationError if it is not of that form."""
    scheme, separator, place = url.partition("://")
    if not separator or not scheme:
        raise ConfigurationError(f"'{url}' is not an address; write tcp://127.0.0.1:PORT or shm://NAME")
    return Address(scheme.lower(), place)


def check_call(segment: int, count: int, layout: Layout, held: frozenset[int], peer: str) -> None:
    """Raise LinkError if `peer` does not hold the segment, InternalError if the rows are too many."""
    if segment not in held:
        raise LinkError(f"segment {segment} is not held by {peer}; ask a processor that holds it")
    if not 1 <= count <= layout.limit(segment):
        raise InternalError(f"call of {count} rows; segment {segment} takes 1 to {layout.limit(segment)}")


def welcome_of(service: Service, title: str) -> Welcome:
    """What a processor that offers `service` answers to a Hello."""
    layout = service.layout
    return Welcome(service.manifest, tuple(sorted(service.held)), layout.rows, layout.head_rows, os.getpid(), title)


def bounded(deadline: float) -> Seconds:
    """A deadline that came from a caller or a wire, between 0 and LONGEST."""
    return LONGEST if math.isnan(deadline) else Seconds(min(max(deadline, 0.0), LONGEST))


def time_left(deadline: Seconds, peer: str) -> Seconds:
    """A deadline that has not passed yet; else DeadlinePassed."""
    if deadline <= 0:
        raise DeadlinePassed(f"{peer} was called with no time left")
    return bounded(deadline)


def reason(error: OSError) -> str:
    """What the system says was wrong, for the middle of a sentence."""
    return (error.strerror or str(error)).lower()
