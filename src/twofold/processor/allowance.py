"""How much a token may have worked on: rows a second, and rows at once. Decides; the time is an argument.

The rate is a bucket that fills with time up to one second's worth and may be overdrawn: a call starts as soon as
nothing is owed, however many rows it has, and its rows are owed from then on. So the average holds, and no call is
too large to ever start.
"""

import math

from twofold.store.grant import Scope
from twofold.units import Seconds

NEVER = Seconds(math.inf)


class Allowance:
    """The allowance of one token, over all of its connections."""

    def __init__(self, scope: Scope, now: float) -> None:
        """`now`: seconds on the monotonic clock, here and below."""
        self._rows, self._rate = scope.rows, scope.rate
        self._credit, self._since = scope.rate or 0.0, now
        self._at_work = 0

    def wait(self, count: int, now: float) -> Seconds:
        """How long a call of `count` rows must still wait: 0 if it may start, infinite if first another must end."""
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


def most_rows(limit: int, scope: Scope) -> int:
    """The most rows of one call, where the processor takes `limit` of anybody."""
    return limit if scope.rows is None else min(limit, scope.rows)
