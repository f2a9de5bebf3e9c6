"""Large bodies one after another, and never more than a small share of the time.

To take a body apart holds the interpreter, which the thread that runs the steps of all answers needs as well. A body of
usual size is nothing; of many large ones each waits until those before it have been paid for by others' time.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from twofold.units import KIB, Seconds

LARGE_BYTES = 256 * KIB
SHARE = 1 / 30  # of the time that large bodies may be taken apart in

Result = TypeVar("Result")


class Turnstile:
    """Where bodies pass. For one event loop; `clock` in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._one, self._opens = clock, asyncio.Lock(), 0.0

    async def passed(self, size_bytes: int, work: Callable[[], Result]) -> Result:
        """`work()`, on a body of `size_bytes`, once it may pass; what it raises is raised."""
        if size_bytes <= LARGE_BYTES:
            return work()
        async with self._one:
            await asyncio.sleep(self.closed)
            start = self._clock()
            try:
                return work()
            finally:
                end = self._clock()
                self._opens = end + (end - start) * (1 / SHARE - 1)

    @property
    def closed(self) -> Seconds:
        """How long the next large body waits, if nobody is before it."""
        return Seconds(max(0.0, self._opens - self._clock()))
