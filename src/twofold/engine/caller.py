"""Weight memory as the step loop sees it: the memory map turned into one function, with the time it took."""

import time

from twofold.memory.map import MemoryMap, Replica
from twofold.units import Nanoseconds, Seconds

CALL_DEADLINE = Seconds(60.0)


class Caller:
    """Calls whoever the map says holds a segment, on one set of rows; adds up where the time went."""

    def __init__(self, memory_map: MemoryMap, *, deadline: Seconds = CALL_DEADLINE) -> None:
        """`deadline`: the longest one call may take."""
        self.map = memory_map
        self.deadline = deadline
        self.rows = memory_map.replicas(0)[0].rows
        self.weights_ns = 0  # time the weight memories say they worked
        self.link_ns = 0  # the rest of the time calls took
        self.calls = 0

    def __call__(self, segment: int, count: int) -> None:
        """Run `segment` on the first `count` rows."""
        start = time.perf_counter_ns()
        replica = self.map.replicas(segment)[0]
        if replica.rows is self.rows:
            worked = replica.call(segment, count, self.deadline)
        else:
            worked = self._call_elsewhere(replica, segment, count)
        self.weights_ns += worked
        self.link_ns += max(0, time.perf_counter_ns() - start - worked)
        self.calls += 1

    def _call_elsewhere(self, replica: Replica, segment: int, count: int) -> Nanoseconds:
        """A call of a replica whose rows are not the step's: the planes are copied there and back."""
        cut = self.map.manifest.cuts[segment]
        for plane in cut.takes:
            replica.rows[plane.name][:count] = self.rows[plane.name][:count]
        worked = replica.call(segment, count, self.deadline)
        for plane in cut.gives:
            self.rows[plane.name][:count] = replica.rows[plane.name][:count]
        return worked
