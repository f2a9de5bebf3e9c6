"""Links: how calls reach weight memory. The contracts; one file a scheme beside this one.

    inproc://           the service is in this process
    shm://NAME          same host: planes in shared memory, never copied (also shm:///absolute/path)
    tcp://HOST:PORT     a socket

The side that connects writes the planes of a call into `connection.rows`, calls, and reads the planes of the
reply there. A connection carries one call at a time and belongs to one thread.
"""

import math
import os
import time
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from twofold.errors import ConfigurationError, DeadlinePassed, InternalError, LinkError
from twofold.model.manifest import Manifest
from twofold.units import Nanoseconds, Seconds
from twofold.wire.message import Message, Welcome
from twofold.wire.rows import Layout, Rows

HANDSHAKE_SECONDS = Seconds(3.0)
LONGEST = Seconds(86400.0)  # one wait: what every system call of ours can express


class Connection(Protocol):
    """The calling end of a link."""

    manifest: Manifest
    rows: Rows
    held: frozenset[int]  # segments that the other side holds
    peer: str  # for messages: "weight processor 4711 at shm://a"

    def call(self, segment: int, count: int, deadline: Seconds) -> Nanoseconds:
        """Run `segment` on the first `count` rows, within `deadline` from now.

        Returns the time that the other side worked. Raises the error that the other side answered; then
        the connection goes on. Raises ProcessorLost, DeadlinePassed or FrameError of its own; then the
        connection is closed, the rows are undefined, and every later call raises ProcessorLost. With no
        time left it raises DeadlinePassed before anything is sent, and the connection goes on.
        """

    def ask(self, message: Message, deadline: Seconds) -> Message:
        """The answer to a message; errors as for `call`."""

    def close(self) -> None:
        """Close; a second time is nothing."""


class Service(Protocol):
    """What a weight processor offers. `work` and `tokenizer` are never called by two threads at once."""

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

    def tokenizer(self) -> bytes:
        """The tokenizer, encoded."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that arrived: its planes are in the rows of the channel."""

    segment: int
    count: int
    deadline: Seconds  # left, from its arrival


class Channel(Protocol):
    """The serving end of a link. One thread uses it; `interrupt` is for any other."""

    peer: str
    rows: Rows  # from `welcome` on

    def receive(self, deadline: Seconds | None) -> Call | Message:
        """The next call or message; ProcessorLost once the other side has gone, DeadlinePassed, FrameError.

        The deadline holds for the handshake; None waits for ever.
        """

    def welcome(self, message: Message, layout: Layout, digest: bytes) -> None:
        """Accept the other side: send the Welcome and lay out the rows; before it no call is received."""

    def reply(self, worked: Nanoseconds) -> None:
        """Answer the last call with the planes that its segment gives."""

    def send(self, message: Message) -> None:
        """Answer with a message: the last call if it failed, or a message."""

    def interrupt(self) -> None:
        """End a `receive` or `reply` in another thread, now and for ever."""

    def close(self) -> None:
        """Close; a second time is nothing."""


class Listener(Protocol):
    """Where a processor is reached."""

    url: str  # as it can be connected to: with the port chosen for port 0
    shared_memory: bool  # what a Hello must want

    def accept(self, timeout: Seconds | None) -> Channel | None:
        """The next connection; None after `timeout` or an `interrupt`."""

    def interrupt(self) -> None:
        """End an `accept` in another thread, now and for ever."""

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


def expiry_of(deadline: Seconds | None) -> float | None:
    """The moment on the monotonic clock that is `deadline` from now; None for never."""
    return None if deadline is None else time.monotonic() + bounded(deadline)


def reason(error: OSError) -> str:
    """What the system says was wrong, for the middle of a sentence."""
    return (error.strerror or str(error)).lower()
