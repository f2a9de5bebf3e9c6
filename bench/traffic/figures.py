"""From what became of requests to throughput, TTFT and TPOT. Pure."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Timing(NamedTuple):
    """One answered request: when it was sent, its first token came, its last, in seconds; and how many came."""

    sent: float
    first: float
    last: float
    tokens: int


class Figures(NamedTuple):
    """Of the requests of one turn. TTFT: until the first token; TPOT: of each after it. In milliseconds."""

    tokens_per_second: float
    ttft_p50: float
    ttft_p99: float
    tpot_p50: float
    tpot_p99: float


def figures(timings: Sequence[Timing]) -> Figures:
    """Of at least one request of at least two tokens."""
    seconds = max(one.last for one in timings) - min(one.sent for one in timings)
    ttft = [1000 * (one.first - one.sent) for one in timings]
    tpot = [1000 * (one.last - one.first) / (one.tokens - 1) for one in timings if one.tokens > 1]
    return Figures(
        sum(one.tokens for one in timings) / seconds, at(ttft, 0.5), at(ttft, 0.99), at(tpot, 0.5), at(tpot, 0.99)
    )


def at(values: Sequence[float], share: float) -> float:
    """The least value that such a share of all values does not exceed."""
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]
