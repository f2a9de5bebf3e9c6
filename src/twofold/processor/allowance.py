"""How much a token may have worked on: rows a second, and rows at once. Decides; the time is an argument.

    put ──▶ waits for its owner's allowance ──ready──▶ may wait for the weight memory ──ended──▶ answered, or gone

The rate is a bucket that fills with time up to one second's worth and may be overdrawn: a call starts as soon as
nothing is owed, however many rows it has, and its rows are owed from then on. So the average holds, and no call is
too large to ever start.
"""

import math
from collections import deque
from collections.abc import Iterable

from twofold.schedule.calls import Waiting
from twofold.store.grant import Scope
from twofold.units import Nanoseconds, Seconds

NEVER = Seconds(math.inf)
LONGEST_NS = 3_600_000_000_000  # `Gate.pause`


class Allowance:
    """The allowance of one owner, over all of its connections."""

    def __init__(self, scope: Scope, now: float) -> None:
        """`now`: seconds on the monotonic clock, here and below."""
        self._rows, self._rate = scope.rows, scope.rate
        self._credit, self._since = scope.rate or 0.0, now
        self._at_work = 0

    def wait(self, count: int, now: float) -> Seconds:
        """How long a call of `count` rows must still wait: 0 if it may start, NEVER if first another must end."""
        if self._rows is not None and self._at_work and self._at_work + count > self._rows:
            return NEVER
        if self._rate is None:
            return Seconds(0.0)
        return Seconds(max(0.0, -self._filled(now) / self._rate))

    def start(self, count: int, now: float) -> None:
        """A call of `count` rows starts."""
        if self._rate is not None:
            self._credit, self._since = self._filled(now) - count, now
        self._at_work += count

    def end(self, count: int) -> None:
        """A call of `count` rows has ended, however it did."""
        self._at_work -= count

    def _filled(self, now: float) -> float:
        rate = self._rate or 0.0
        return min(rate, self._credit + max(0.0, now - self._since) * rate)


class Gate:
    """Calls of owners that have an allowance, in the order in which they came. Times in nanoseconds, monotonic."""

    def __init__(self) -> None:
        self._allowances: dict[str, Allowance] = {}
        self._waiting: dict[str, deque[Waiting]] = {}
        self._started: dict[int, Waiting] = {}  # by connection, until `ended`

    def __len__(self) -> int:
        """How many owners have calls that wait here."""
        return len(self._waiting)

    def limit(self, owner: str, scope: Scope, now: int) -> bool:
        """Whether `owner` has an allowance; from now on, if it has a `scope` that limits it."""
        if scope.rows is None and scope.rate is None:
            return False
        self._allowances.setdefault(owner, Allowance(scope, now / 1e9))
        return True

    def put(self, call: Waiting) -> None:
        """`call` of an owner with an allowance arrived."""
        self._waiting.setdefault(call.owner, deque()).append(call)

    def ready(self, now: int) -> Iterable[Waiting]:
        """The calls that may start now; they have started."""
        for owner, calls in list(self._waiting.items()):
            allowance = self._allowances[owner]
            while calls and not allowance.wait(calls[0].rows, now / 1e9):
                call = calls.popleft()
                allowance.start(call.rows, now / 1e9)
                self._started[call.port] = call
                yield call
            if not calls:
                del self._waiting[owner]

    def pause(self, now: int) -> Nanoseconds:
        """How long until the next call may start, at most `LONGEST_NS`."""
        waits = (self._allowances[owner].wait(calls[0].rows, now / 1e9) for owner, calls in self._waiting.items())
        return Nanoseconds(math.ceil(min([*waits, LONGEST_NS / 1e9]) * 1e9))

    def ended(self, port: int) -> None:
        """What the connection had here has been answered, or the connection is gone."""
        call = self._started.pop(port, None)
        if call is not None:
            self._allowances[call.owner].end(call.rows)
        for owner, calls in list(self._waiting.items()):
            kept = deque(other for other in calls if other.port != port)
            if kept:
                self._waiting[owner] = kept
            else:
                del self._waiting[owner]

    def expired(self, now: int) -> list[Waiting]:
        """Calls that wait here and whose deadline has passed; `ended` is still to be said of each."""
        return [call for calls in self._waiting.values() for call in calls if call.expiry <= now]
