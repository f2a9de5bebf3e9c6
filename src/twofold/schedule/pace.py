"""How fast steps go, and how many rows of prompts one may take beside streams that decode. Pure: times are arguments.

A step takes longer the more rows it has, and everybody in it waits for its end. So a step in which streams decode takes
so many rows of prompts as keep it near `stall` seconds, or twice what it takes without them where that is longer; how
many these are is learned from the steps themselves.
"""

from twofold.units import Seconds

LEAST_ROWS = 16  # of prompts a step: they go on, however slow the steps are
SMOOTH = 0.5  # weight of what the newest mixed step says
DECODE_SMOOTH = 0.1
FADE = 0.98  # of what was counted, a step


class Pace:
    """Learns from the times of steps of at most `rows` rows."""

    def __init__(self, rows: int, stall: Seconds) -> None:
        self._most, self._stall = rows, stall
        self._fits = float(rows)  # rows of a mixed step that take as long as one should
        self._decode_seconds = 0.0
        self._rows = self._seconds = 0.0

    @property
    def rows_per_second(self) -> float:
        """Rows a second of late; 0 before the first step."""
        return self._rows / self._seconds if self._seconds else 0.0

    def prompt_rows(self, decoding: int) -> int:
        """Rows of prompts that the next step may take if `decoding` streams decode in it."""
        if not decoding:
            return self._most
        return max(min(int(self._fits), self._most) - decoding, min(LEAST_ROWS, self._most - decoding))

    def add(self, rows: int, decoding: int, seconds: float) -> None:
        """A step of `rows` rows, those of `decoding` streams among them, took so long."""
        seconds = max(seconds, 1e-9)
        self._rows = FADE * self._rows + rows
        self._seconds = FADE * self._seconds + seconds
        if rows == decoding:
            self._decode_seconds += (DECODE_SMOOTH if self._decode_seconds else 1.0) * (seconds - self._decode_seconds)
        elif decoding:
            wanted = max(self._stall, 2 * self._decode_seconds)
            fits = min(max(rows * wanted / seconds, self._fits / 2), 2 * self._fits)
            if fits < self._fits or rows > self._fits / 2:  # a small step says little of large ones
                self._fits = min(self._fits + SMOOTH * (fits - self._fits), float(self._most))
