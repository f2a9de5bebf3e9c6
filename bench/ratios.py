"""Ratios of one comparison and the bars they must reach. Pure: rounds in, rows and verdicts out.

A round is one value a system, in the order they were taken. Ratios are formed inside a round, so a drift of the
machine meets both sides, and only then summed up.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from twofold.errors import ConfigurationError, RequestError

OURS = "twofold"
BEST = "best peer"
LIMIT = "share of limit"
QUIET = "own quiet rate"
Round = Mapping[str, float]
Rounds = Sequence[Round]
Row = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Spread:
    """Minimum, median and maximum over the rounds."""

    minimum: float
    median: float
    maximum: float


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(min(values), statistics.median(values), max(values))


def ratios(rounds: Rounds, *, less_is_better: bool = False) -> Row:
    """Ours over each peer and over the best peer of each round; empty if nobody ran beside us.

    With `less_is_better` (seconds) the best peer is the one with the least. Raises RequestError if a value is not
    positive, which no measurement is.
    """
    for values in rounds:
        for system, value in values.items():
            if not value > 0:
                raise RequestError(f"{system} gave {value}, which is no measurement; run the comparison again")
    peers = [system for system in rounds[0] if system != OURS]
    row = {peer: asdict(spread([values[OURS] / values[peer] for values in rounds])) for peer in peers}
    if peers:
        best = min if less_is_better else max
        row[BEST] = asdict(spread([values[OURS] / best(values[peer] for peer in peers) for values in rounds]))
    return row


@dataclass(frozen=True)
class Bar:
    """What the median of one ratio of one work must reach: at least `least`, or at most `most`."""

    work: str
    against: str
    least: float | None = None
    most: float | None = None

    def missed(self, rows: Mapping[str, Row]) -> str | None:
        """What is wrong, or None; a ratio that was not measured is wrong too."""
        found = rows.get(self.work, {}).get(self.against)
        if found is None:
            return f"{self.work}: no ratio to {self.against} was measured"
        median = found["median"]
        if self.least is not None and median < self.least:
            return f"{self.work}: {median:.2f} of {self.against}, at least {self.least} is wanted"
        if self.most is not None and median > self.most:
            return f"{self.work}: {median:.2f} of {self.against}, at most {self.most} is wanted"
        return None


BARS: dict[str, tuple[Bar, ...]] = {
    "smollm2": (
        Bar("decode 1", BEST, 2.8),
        Bar("decode 1", LIMIT, 0.8),
        Bar("decode 8", BEST, 3.0),
        Bar("decode 32", BEST, 2.1),
        Bar("prefill 700", BEST, 1.25),
        Bar("attention 8192", LIMIT, 0.7),
        Bar("busy neighbour", QUIET, 0.45),
        Bar("start", "llama.cpp", most=1.0),
    ),
    "llama-1b-q4_0": (
        Bar("decode 1", BEST, 1.4),
        Bar("decode 32", BEST, 1.7),
        Bar("prefill 700", BEST, 1.3),
    ),
    "llama-1b-q8_0": (
        Bar("decode 1", BEST, 1.2),
        Bar("decode 32", BEST, 1.6),
        Bar("prefill 700", BEST, 1.3),
    ),
}


def missed(model: str, rows: Mapping[str, Row], works: Sequence[str]) -> list[str]:
    """A line for each bar of `model` that a work among `works` misses; ConfigurationError if it has no bars."""
    if model not in BARS:
        raise ConfigurationError(f"no bars are known for {model}; they are of {', '.join(BARS)} (bench/ratios.py)")
    lines = [bar.missed(rows) for bar in BARS[model] if bar.work in works]
    return [line for line in lines if line]
