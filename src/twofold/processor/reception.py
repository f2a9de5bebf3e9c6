"""The reception of a weight processor: when new connections are taken.

Taking a connection, greeting and dismissing it cost time that calls would wait for. While calls come, all that gets
SHARE of the time: a bucket that fills with time, and is overdrawn by who comes. Who comes then waits at the door.

    open ──overdrawn, or out of files──▶ shut ──enough time has passed, or nobody calls──▶ open
"""

from collections.abc import Sequence

from twofold.link.base import Listener
from twofold.link.desk import Desk, Place
from twofold.units import Nanoseconds

SHARE = 0.03  # of the time
BURST_NS = 100_000_000  # what may be spent at once, after quiet times
BUSY_NS = 1_000_000_000  # since the last call: calls come


class Reception:
    """Has `listeners` watched at `desk` while the door is open. Times in nanoseconds, monotonic."""

    def __init__(self, desk: Desk, listeners: Sequence[Listener]) -> None:
        self._desk, self._listeners = desk, listeners
        self._places: list[Place] = []  # empty: shut
        self._credit, self._since = BURST_NS, 0
        self._rests_until = 0

    def spent(self, nanoseconds: int) -> None:
        """So much time went into who came or went."""
        self._credit -= nanoseconds

    def rest(self, until: int) -> None:
        """Take nobody until then."""
        self._rests_until = until

    def look(self, now: int, called: int) -> Nanoseconds:
        """Open or shut the door. When to look again if it is shut, else 0. `called`: when the last call came."""
        self._credit = min(BURST_NS, self._credit + int(SHARE * (now - self._since)))
        self._since = now
        if now - called > BUSY_NS:
            self._credit = max(self._credit, 0)
        opens = max(self._rests_until, now + int(max(-self._credit, 0) / SHARE))
        if opens > now:
            while self._places:
                self._desk.remove(self._places.pop())
            return Nanoseconds(opens)
        if not self._places:
            self._places = [self._desk.add(listener, listener.fileno()) for listener in self._listeners]
        return Nanoseconds(0)
