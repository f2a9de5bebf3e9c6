"""What an engine that serves many tells of itself: counts, and how long things took."""

import bisect

import msgspec

from twofold.engine.work import Work

# Upper ends of buckets, the last without: 1, 2, 5 times the powers of ten from 1 ms to 1000 s, and from 1 to 100,000
# tokens.
BUCKETS = (*(digit * 10.0**power for power in range(-3, 3) for digit in (1, 2, 5)), 1000.0)
TOKEN_BUCKETS = (*(digit * 10.0**power for power in range(5) for digit in (1, 2, 5)), 100_000.0)


class Histogram(msgspec.Struct):
    """Values: `counts[i]` were at most `limits[i]` and more than the bucket before; the last has the rest."""

    limits: tuple[float, ...] = BUCKETS
    counts: list[int] = msgspec.field(default_factory=list)
    sum: float = 0.0

    def __post_init__(self) -> None:
        """As many buckets as limits, and one."""
        self.counts = self.counts or [0] * (len(self.limits) + 1)

    def add(self, value: float) -> None:
        """One more."""
        self.counts[bisect.bisect_left(self.limits, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.counts)


class Times(msgspec.Struct):
    """Seconds of answers. `queue`: until the first step; `first_token`: TTFT; `token`: of each after the first."""

    queue: Histogram = msgspec.field(default_factory=Histogram)
    first_token: Histogram = msgspec.field(default_factory=Histogram)
    token: Histogram = msgspec.field(default_factory=Histogram)
    prefill: Histogram = msgspec.field(default_factory=Histogram)  # from the first step to the first token
    decode: Histogram = msgspec.field(default_factory=Histogram)  # from that to the end
    answer: Histogram = msgspec.field(default_factory=Histogram)  # end to end


def _of_tokens() -> Histogram:
    return Histogram(TOKEN_BUCKETS)


class Sizes(msgspec.Struct):
    """Tokens of answers that ended: of the prompt, of the answer, and that were allowed."""

    prompt: Histogram = msgspec.field(default_factory=_of_tokens)
    generated: Histogram = msgspec.field(default_factory=_of_tokens)
    allowed: Histogram = msgspec.field(default_factory=_of_tokens)


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
    sizes: Sizes
    work: Work
