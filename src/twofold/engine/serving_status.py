"""What an engine that serves many tells of itself: counts, and how long things took."""

import bisect

import msgspec

from twofold.engine.work import Work

# Upper ends of the buckets in seconds, the last without: 1, 2, 5 times the powers of ten from 1 ms to 1000 s.
BUCKETS = (*(digit * 10.0**power for power in range(-3, 3) for digit in (1, 2, 5)), 1000.0)


class Histogram(msgspec.Struct):
    """Times in seconds: `counts[i]` were at most BUCKETS[i] and more than the bucket before; the last has the rest."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    sum_seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect.bisect_left(BUCKETS, seconds)] += 1
        self.sum_seconds += seconds

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.counts)


class Times(msgspec.Struct):
    """Times of answers. `queue`: until the first step; `first_token`: TTFT; `token`: of each after the first."""

    queue: Histogram = msgspec.field(default_factory=Histogram)
    first_token: Histogram = msgspec.field(default_factory=Histogram)
    token: Histogram = msgspec.field(default_factory=Histogram)
    answer: Histogram = msgspec.field(default_factory=Histogram)  # end to end


class ServingStatus(msgspec.Struct, frozen=True):
    """Now: streams and pages. Since the start: everything else."""

    running: int  # streams that hold pages
    waiting: int  # that hold none
    swapped: int  # of those that wait: whose pages are kept outside the pool
    oldest_waiting_seconds: float  # since the one that waits and came first arrived
    pages: int
    pages_used: int  # held by streams
    pages_cached: int  # held by none, and known by what they hold
    prompt_tokens: int
    cached_tokens: int  # of those: not computed
    generated_tokens: int
    steps: int
    rows: int
    preemptions: int
    finished: dict[str, int]  # answers by how they ended: "stop", "length", "cancelled", "error"
    refused: int
    times: Times
    work: Work
