"""One replica as this process is attached to it: its connections, how it does, and the thread that watches it."""

import contextlib
import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from twofold.errors import FrameError, TwofoldError, Unreachable
from twofold.link.base import HANDSHAKE_SECONDS, Connection, reason
from twofold.memory.map import Burden
from twofold.memory.usual import Slowness
from twofold.units import Seconds
from twofold.wire.message import Ping, Pong

BEAT = Seconds(1.0)  # between an answer and the next ping
SILENCE = Seconds(3.0)  # without an answer to a ping, until the replica counts as down
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0  # seconds between attempts to connect

Connect = Callable[[str, Seconds], Connection]  # address, deadline


def pause(attempt: int, chance: float) -> Seconds:
    """How long to wait after `attempt` failures (from 0): twice as long each time, and by `chance` (0 to 1) apart."""
    return Seconds(min(FIRST_PAUSE * 2.0 ** min(attempt, 30), LONGEST_PAUSE) * (0.5 + chance / 2))


@dataclass(frozen=True, eq=False, slots=True)
class Lent:
    """A connection that a lane holds, made in the replica's life number `life`."""

    attachment: "Attachment"
    connection: Connection
    life: int

    @property
    def current(self) -> bool:
        """Whether the replica was not lost since."""
        return self.life == self.attachment.life


class Told(Protocol):
    """Who is told what becomes of a replica."""

    def joined(self, attachment: "Attachment", connection: Connection, pong: Pong) -> None:
        """It was greeted; Refused if it is not wanted."""

    def answered(self, attachment: "Attachment", pong: Pong) -> None:
        """It answered a ping."""

    def lost(self, attachment: "Attachment", error: TwofoldError) -> None:
        """It cannot be reached, does not answer, or is not wanted."""

    def lanes(self) -> int:
        """How many calls this process may have in flight."""


class Attachment:
    """The connections to the replica at `url`.

    A lane takes a connection once and keeps it. Spare ones are made by the thread that watches the replica, so that
    nobody waits for a handshake when calls come over from another replica.
    """

    def __init__(self, url: str, connect: Connect, told: Told) -> None:
        self.url = url
        self.life = 0
        self.error: TwofoldError | None = None  # why it is not up
        self.slowness = Slowness()
        self.in_flight: set[Lent] = set()
        self._connect, self._told = connect, told
        self._spare: deque[Connection] = deque()
        self._lent: set[Lent] = set()
        self._wake = threading.Event()
        self._ended = False
        self._heart: Connection | None = None
        self._thread: threading.Thread | None = None

    # for lanes

    def burden(self) -> Burden:
        """How busy and how slow it is."""
        return len(self.in_flight), self.slowness.level

    def take(self, deadline: Seconds) -> Lent:
        """A connection for one lane, to keep; LinkError if there is no spare one and none can be made in time."""
        life = self.life
        try:
            connection = self._spare.popleft()
        except IndexError:
            connection = self._connected(deadline)
        lent = Lent(self, connection, life)
        self._lent.add(lent)
        return lent

    def drop(self, lent: Lent) -> None:
        """A connection that is of no use any more."""
        self.in_flight.discard(lent)
        self._lent.discard(lent)
        lent.connection.close()

    def look(self) -> None:
        """Ping now: something is wrong there, or more connections are wanted."""
        self._wake.set()

    # the life of it

    def watch(self) -> None:
        """Begin to watch it, in a thread."""
        self._thread = threading.Thread(target=self._attend, name=f"attend {self.url}", daemon=True)
        self._thread.start()

    def join(self) -> Connection:
        """Greet it: it answers a ping, there are connections to spare, and whoever is told wants it."""
        connection = self._connected(HANDSHAKE_SECONDS)
        try:
            pong = _ping(connection)
            self._fill()
            self._told.joined(self, connection, pong)
        except BaseException:
            connection.close()
            raise
        self.error = None
        return connection

    def end(self) -> None:
        """Let go of it: what is in flight there fails."""
        self._ended = True
        self._wake.set()
        if self._heart is not None:
            self._heart.interrupt()
        self._forget()

    def wait_ended(self, timeout: Seconds) -> None:
        """Until its thread has ended, or is found to be stuck in a connection that nobody answers."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _attend(self) -> None:
        failures = 0
        while not self._ended:
            try:
                self._heart = self.join()
                failures = 0
                with contextlib.closing(self._heart):
                    self._beat(self._heart)
            except TwofoldError as error:
                self.error = error
                self._forget()
                self._told.lost(self, error)
                self._wait(pause(failures, random.random()))
                failures += 1
        self._forget()

    def _beat(self, heart: Connection) -> None:
        """Ping once a second, or when told to look, until that fails or the end."""
        while not self._ended:
            self._wait(BEAT)
            self._told.answered(self, _ping(heart))
            self._fill()

    def _connected(self, deadline: Seconds) -> Connection:
        try:
            return self._connect(self.url, deadline)
        except OSError as error:  # of this side: no file is left, perhaps, and later one is
            raise Unreachable(f"{self.url} cannot be reached from here: {reason(error)}") from error

    def _wait(self, seconds: Seconds) -> None:
        if not self._ended:
            self._wake.wait(seconds)
            self._wake.clear()

    def _fill(self) -> None:
        """Connections to spare: as many as there are lanes that have none."""
        while not self._ended and len(self._spare) + len(self._lent) < self._told.lanes():
            self._spare.append(self._connected(HANDSHAKE_SECONDS))

    def _forget(self) -> None:
        """Close what leads to a processor that is gone; who waits for an answer of it waits no longer."""
        self.life += 1
        while self._spare:
            self._spare.popleft().close()
        for lent in list(self._lent):
            lent.connection.interrupt()


def _ping(connection: Connection) -> Pong:
    pong = connection.ask(Ping(), SILENCE)
    if not isinstance(pong, Pong):
        raise FrameError(f"{connection.peer} answered a ping with {type(pong).__name__}")
    return pong
