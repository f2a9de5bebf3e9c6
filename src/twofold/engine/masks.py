"""When the masks of constrained answers are made: beside the step, unless that takes longer than making them.

To hand work to another thread and to wait for it costs a step 50 to 250 µs where the weights are in this process and
use every core; most masks take 5 to 50 µs. So one that took little the last time is made at once, and one that took
long while weight memory works.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Protocol

from twofold.errors import RequestError
from twofold.units import Seconds

HANDOVER = Seconds(100e-6)


class Preparing(Protocol):
    """Somebody who has a mask to make: `Sampler`."""

    def prepare(self) -> None:
        """Make it; in any thread."""


class Mask:
    """The next mask of one answer."""

    def __init__(self, preparing: Preparing, clock: Callable[[], float]) -> None:
        """`clock` in seconds."""
        self._preparing, self._clock = preparing, clock
        self.seconds = Seconds(0.0)  # that it took the last time

    def make(self) -> None:
        """Make it; a constraint that became too costly is told to whoever chooses by it."""
        start = self._clock()
        with contextlib.suppress(RequestError):
            self._preparing.prepare()
        self.seconds = Seconds(self._clock() - start)


class Masks:
    """Makes masks, in a thread of its own where that pays."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "constraints")

    @contextlib.contextmanager
    def made(self, masks: Iterable[Mask]) -> Iterator[None]:
        """Those that take little are made before what is inside, the others while that runs, and all after it."""
        costly = {mask: mask.seconds > HANDOVER for mask in masks}
        away = [self._thread.submit(mask.make) for mask, long in costly.items() if long]
        try:
            for mask, long in costly.items():
                if not long:
                    mask.make()
            yield
        finally:
            wait(away)

    def close(self) -> None:
        """The thread ends."""
        self._thread.shutdown()
