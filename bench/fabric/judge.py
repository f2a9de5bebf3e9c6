"""From what a context process told to what was promised. Pure."""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from fabric.plan import Event
from fabric.streams import Told, prompt_of

AFTER_SECONDS = 1.5  # of an event: a pause that begins in it is the event's
KILL_PAUSE_SECONDS = 0.25
QUIET, RETURN = "quiet", "return"


class Happened(NamedTuple):
    """An event as it was, in seconds of the monotonic clock: from `ended` to `back` a killed replica starts again."""

    event: Event
    began: float
    ended: float
    back: float

    @property
    def spans(self) -> list[tuple[str, float, float]]:
        """What to look at: a kind, from when, until when. Starting again takes processors, so it is a kind apart."""
        if self.event.kind == "kill":
            return [("kill", self.began, self.ended), (RETURN, self.ended, self.back + AFTER_SECONDS)]
        return [(self.event.kind, self.began, self.back + AFTER_SECONDS)]


class Counts(msgspec.Struct):
    """Tokens and requests."""

    tokens: int = 0
    wrong: int = 0
    requests: int = 0
    lost: int = 0
    hung: int = 0
    errors: list[str] = []


class Pauses(msgspec.Struct, frozen=True):
    """The longest gap between two tokens of a stream, over streams and events of one kind, in milliseconds."""

    count: int
    p50: float
    p99: float
    most: float


class Promise(msgspec.Struct, frozen=True):
    """What was promised and what came."""

    value: float
    limit: float

    @property
    def kept(self) -> bool:
        """Whether it was."""
        return self.value <= self.limit


def count(told: Iterable[Told], expected: Sequence[Sequence[int]]) -> Counts:
    """Tokens that came against those that had to.

    A request that ended in an error, or was left for the next, is lost; one that never ended hangs.
    """
    counts = Counts()
    requests: dict[int, dict[int, list[Told]]] = defaultdict(lambda: defaultdict(list))
    for one in told:
        requests[one.stream][one.request].append(one)
    for stream, lines_of in requests.items():
        for request, lines in lines_of.items():
            tokens = [one.token for one in lines if one.token is not None]
            errors = [one.error for one in lines if one.error is not None]
            wanted = expected[prompt_of(stream, request)]
            counts.requests += 1
            counts.tokens += len(tokens)
            counts.wrong += sum(a != b for a, b in zip(tokens, wanted, strict=False)) + max(
                0, len(tokens) - len(wanted)
            )
            counts.errors += errors
            if len(tokens) < len(wanted):
                if errors or request < max(lines_of):
                    counts.lost += 1
                else:
                    counts.hung += 1
    return counts


def gaps(told: Iterable[Told]) -> dict[int, list[tuple[float, float]]]:
    """Of every stream, the moments of each two neighbouring tokens."""
    moments: dict[int, list[float]] = defaultdict(list)
    for one in told:
        if one.token is not None:
            moments[one.stream].append(one.at)
    return {stream: list(itertools.pairwise(times)) for stream, times in moments.items()}


def pauses(told: Sequence[Told], events: Sequence[Happened]) -> dict[str, Pauses]:
    """By kind of event; under "quiet" all gaps that touch none."""
    found: dict[str, list[float]] = defaultdict(list)
    for times in gaps(told).values():
        touched: set[int] = set()
        for kind, first, last in (span for happened in events for span in happened.spans):
            inside = [place for place, (start, end) in enumerate(times) if end >= first and start <= last]
            touched.update(inside)
            if inside:
                found[kind].append(max(times[place][1] - times[place][0] for place in inside))
        found[QUIET] += [end - start for place, (start, end) in enumerate(times) if place not in touched]
    return {kind: summary(values) for kind, values in sorted(found.items()) if values}


def summary(seconds: Sequence[float]) -> Pauses:
    """Of some gaps in seconds."""
    return Pauses(len(seconds), *(round(1000 * value, 1) for value in (*_at(seconds, 0.5, 0.99), max(seconds))))


def _at(values: Sequence[float], *shares: float) -> list[float]:
    """The least value that such a share of all values does not exceed."""
    ordered = sorted(values)
    return [ordered[max(math.ceil(share * len(ordered)) - 1, 0)] for share in shares]


def promises(counts: Counts, by_kind: Mapping[str, Pauses], swollen: Sequence[str]) -> dict[str, Promise]:
    """All that chaos must keep; `swollen`: processes that did not stay flat."""
    kept = {
        "wrong tokens": Promise(counts.wrong, 0),
        "lost requests": Promise(counts.lost, 0),
        "hung requests": Promise(counts.hung, 0),
        "processes that grow": Promise(len(swollen), 0),
    }
    if "kill" in by_kind:
        kept["p99 pause at a killed replica, ms"] = Promise(by_kind["kill"].p99, 1000 * KILL_PAUSE_SECONDS)
    return kept


def told_promises(kept: Mapping[str, Promise]) -> dict[str, dict[str, float | bool]]:
    """For a result file."""
    return {name: {"value": p.value, "limit": p.limit, "kept": p.kept} for name, p in kept.items()}
