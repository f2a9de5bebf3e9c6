"""Replicas of the toy model that do as they are told, without sockets, and attachments to them."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from toy_processor import MANIFEST

from twofold.engine.attach import Attachments
from twofold.errors import DeadlinePassed, FrameError, ProcessorLost, TwofoldError, Unreachable
from twofold.memory.map import Entry, MemoryMap
from twofold.model.manifest import Manifest
from twofold.units import Nanoseconds, Seconds
from twofold.wire.message import Message, Ping, Pong
from twofold.wire.rows import Layout, Rows

WORKED = Nanoseconds(1000)
LONG = Seconds(20.0)  # until a test gives up


class ToyReplica:
    """A weight processor of the toy model: segment 0 doubles, segment 1 adds up."""

    def __init__(self, *held: int, manifest: Manifest = MANIFEST, rows: int = 256) -> None:
        self.held = frozenset(held or (0, 1))
        self.manifest = manifest
        self.rows = rows
        self.pid = 1
        self.alive = True
        self.stopped = threading.Event()  # it neither answers nor ends
        self.draining = False
        self.faults: list[Callable[[], TwofoldError]] = []  # of the next calls
        self.calls: list[int] = []
        self.pings = 0
        self.connections: list[ToyConnection] = []

    def kill(self) -> None:
        """It goes away, with its connections."""
        self.alive = False
        for connection in self.connections:
            connection.wake.set()

    def restart(self) -> None:
        """It is there again, as another process."""
        self.pid += 1
        self.alive = True

    @property
    def open(self) -> int:
        """Connections that nobody closed."""
        return sum(not connection.closed for connection in self.connections)


class ToyConnection:
    """A `Connection` to a toy replica: fails as its contract says, the rows unchanged."""

    def __init__(self, url: str, replica: ToyReplica) -> None:
        self.manifest, self.held, self.layout = (
            replica.manifest,
            replica.held,
            Layout(replica.manifest, rows=replica.rows),
        )
        self.peer = f"weight processor {replica.pid} at {url}"
        self._replica, self._pid = replica, replica.pid
        self.closed = False
        self.wake = threading.Event()  # killed or interrupted
        replica.connections.append(self)

    def begin(self, rows: Rows, segment: int, count: int, deadline: Seconds) -> None:
        self._check()
        assert segment in self.held
        self._begun = (rows, segment, count, deadline)

    def finish(self) -> Nanoseconds:
        rows, segment, count, deadline = self._begun
        self._wait(deadline)
        if self._replica.faults:
            error = self._replica.faults.pop(0)()
            self.closed |= isinstance(error, ProcessorLost | DeadlinePassed | FrameError)
            raise error
        self._replica.calls.append(segment)
        if segment == 0:
            rows["carry"][:count] = 2 * rows["ids"][:count]
            rows["attended"][:count] = 1
        else:
            rows["logits"][:count] = rows["carry"][:count].sum(axis=1, keepdims=True)
        return WORKED

    def call(self, rows: Rows, segment: int, count: int, deadline: Seconds) -> Nanoseconds:
        self.begin(rows, segment, count, deadline)
        return self.finish()

    def ask(self, message: Message, deadline: Seconds) -> Message:
        self._check()
        self._wait(deadline)
        assert isinstance(message, Ping)
        self._replica.pings += 1
        return Pong(self._replica.draining)

    def interrupt(self) -> None:
        self.wake.set()

    def close(self) -> None:
        self.closed = True

    def _check(self) -> None:
        if self.closed or self.wake.is_set() or not self._replica.alive or self._replica.pid != self._pid:
            self.closed = True
            raise ProcessorLost(f"{self.peer} went away")

    def _wait(self, deadline: Seconds) -> None:
        if self._replica.stopped.is_set() and not self.wake.wait(deadline):
            self.closed = True
            raise DeadlinePassed(f"{self.peer} did not answer in time")
        self._check()


class Fleet:
    """Toy replicas by address."""

    def __init__(self, **replicas: ToyReplica) -> None:
        self.replicas = replicas

    def __getitem__(self, url: str) -> ToyReplica:
        return self.replicas[url]

    def connect(self, url: str, deadline: Seconds) -> ToyConnection:
        replica = self.replicas.get(url)
        if replica is None or not replica.alive:
            raise Unreachable(f"nobody answers at {url}")
        if replica.stopped.is_set():
            raise DeadlinePassed(f"{url} did not answer in time")
        return ToyConnection(url, replica)

    @contextlib.contextmanager
    def attached(self, *urls: str) -> Iterator[Attachments]:
        """Attachments to the replicas at `urls` (default: all); afterwards every connection is closed."""
        with Attachments(self.connect, [Entry(url) for url in urls or self.replicas]) as attachments:
            yield attachments
        assert not [thread for thread in threading.enumerate() if thread.name.startswith(("attend ", "follow "))]


def until(attachments: Attachments, arrived: Callable[[MemoryMap], bool]) -> MemoryMap:
    """The first map of which `arrived` is true."""
    while not arrived(seen := attachments.map):
        attachments.wait_change(seen, LONG)
        assert attachments.map is not seen, f"it did not come to that: {seen}"
    return seen
