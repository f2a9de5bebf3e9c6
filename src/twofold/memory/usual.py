"""How long calls usually take, and so how long to be patient with one. Pure: times are arguments.

A call is known by its segment and the power of two that its rows reach: weight memory takes about as long for one
row as for two, and longer for many.
"""

import math

from twofold.units import Seconds

LEAST_PATIENCE = Seconds(0.05)
UNKNOWN_PATIENCE = Seconds(1.0)  # before any call of its kind was answered
TIMES_USUAL = 8.0
RECENT = 1 / 8  # weight of the newest time in the mean
GROWTH = 2.0  # what one time may count at most, as a multiple of the mean: a pause is not how long calls take
SLOWNESS_RECENT = 1 / 4


class Usual:
    """Moving means of the times of calls."""

    def __init__(self) -> None:
        self._means: dict[tuple[int, int], float] = {}

    def add(self, segment: int, count: int, seconds: float) -> float:
        """A call was answered (or given up) after `seconds`; returns how many times the usual that was."""
        key = (segment, count.bit_length())
        mean = self._means.get(key)
        if mean is None:
            self._means[key] = seconds
            return 1.0
        self._means[key] = mean + RECENT * (min(seconds, GROWTH * mean) - mean)
        return seconds / mean if mean > 0 else 1.0

    def patience(self, segment: int, count: int) -> Seconds:
        """How long to wait for a call before another replica is asked."""
        mean = self._means.get((segment, count.bit_length()))
        return UNKNOWN_PATIENCE if mean is None else Seconds(max(LEAST_PATIENCE, TIMES_USUAL * mean))


class Slowness:
    """How a replica's times compare with the usual ones."""

    def __init__(self) -> None:
        self._mean = 1.0
        self.level = 0  # 0: usual or faster; each level is twice as slow

    def add(self, ratio: float) -> None:
        """A call took `ratio` times the usual."""
        self._mean += SLOWNESS_RECENT * (ratio - self._mean)
        self.level = max(0, round(math.log2(max(self._mean, 1.0))))
