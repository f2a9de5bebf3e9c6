"""Weight memory as the step loop sees it: the memory map turned into one function, with the time it took."""

import time

from twofold.memory.map import MemoryMap
from twofold.units import Seconds
from twofold.wire.rows import Rows

CALL_DEADLINE = Seconds(60.0)


class Caller:
    """Calls whoever the map says holds a segment, on one set of rows; adds up where the time went."""

    def __init__(self, memory_map: MemoryMap, *, deadline: Seconds = CALL_DEADLINE) -> None:
        """`deadline`: the longest one call may take."""
        self.map = memory_map
        self.deadline = deadline
        self.rows = Rows(memory_map.replicas(0)[0].layout)
        self.weights_ns = 0  # time the weight memories say they worked
        self.link_ns = 0  # the rest of the time calls took
        self.calls = 0

    def __call__(self, segment: int, count: int) -> None:
        """Run `segment` on the first `count` rows."""
        start = time.perf_counter_ns()
        worked = self.map.replicas(segment)[0].call(self.rows, segment, count, self.deadline)
        self.weights_ns += worked
        self.link_ns += max(0, time.perf_counter_ns() - start - worked)
        self.calls += 1
