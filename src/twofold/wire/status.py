"""How a weight processor does, in whole numbers: what it counts and answers to AskStatus. Nothing of any row is in it.

A duration falls into one of BUCKETS buckets, four to each doubling, so a share of them is known to a fourth or better:

    bucket     0  1  2  3  4 … 7   8     9       10 …
    from, ns   0  1  2  3  4 … 7   8-9   10-11   12-13 …    from (4 + b mod 4) · 2^(b div 4 - 1) on, b the bucket

The rows of a batch fall into the bucket of the power of two that is not below them: 1, 2, 3-4, 5-8, …
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Annotated

import msgspec

from twofold.units import Bytes, Nanoseconds, Seconds

BUCKETS = 141  # of durations; the last is for 69 s and more
ROW_BUCKETS = 17  # of batches; the last is for 65,536 rows


def bucket(duration: int) -> int:
    """The bucket of a duration in nanoseconds, at least 0."""
    bits = duration.bit_length()
    if bits < 3:
        return duration
    return min(4 * (bits - 2) + (duration >> (bits - 3) & 3), BUCKETS - 1)


def bucket_start(number: int) -> Nanoseconds:
    """The shortest duration of a bucket."""
    doublings, fourths = divmod(number, 4)
    return Nanoseconds((4 + fourths) << (doublings - 1) if doublings else fourths)


def row_bucket(rows: int) -> int:
    """The bucket of a batch of `rows` rows, 1 to 65,536."""
    return (rows - 1).bit_length()


def quantile(durations: Sequence[int], share: float) -> Seconds | None:
    """The duration that `share` of those counted stay below or reach, to the end of its bucket; None of none."""
    wanted, seen = share * sum(durations), 0
    for number, count in enumerate(durations):
        seen += count
        if count and seen >= wanted:
            return Seconds(bucket_start(number + 1) / 1e9)
    return None


class Counts(msgspec.Struct, frozen=True):
    """What was counted since the processor started, of calls that were answered with rows unless it says otherwise."""

    calls: int = 0
    rows: int = 0
    batches: int = 0
    worked: Nanoseconds = Nanoseconds(0)
    waited: Nanoseconds = Nanoseconds(0)  # sum over the calls: from arrival until their batch began
    received: Bytes = Bytes(0)  # frames of calls, headers included
    sent: Bytes = Bytes(0)  # of replies
    batch_rows: Annotated[tuple[int, ...], msgspec.Meta(max_length=ROW_BUCKETS)] = ()  # batches, by `row_bucket`
    waits: Annotated[
        tuple[int, ...], msgspec.Meta(max_length=BUCKETS)
    ] = ()  # calls, by `bucket` of how long they waited
    works: Annotated[
        tuple[int, ...], msgspec.Meta(max_length=BUCKETS)
    ] = ()  # batches, by `bucket` of how long they were worked on
    failures: dict[str, int] = {}  # by class of error: calls answered with it, connections ended with it

    def since(self, before: "Counts") -> "Counts":
        """What was counted after `before`."""
        failures = {kind: count - before.failures.get(kind, 0) for kind, count in self.failures.items()}
        return Counts(
            self.calls - before.calls,
            self.rows - before.rows,
            self.batches - before.batches,
            Nanoseconds(self.worked - before.worked),
            Nanoseconds(self.waited - before.waited),
            Bytes(self.received - before.received),
            Bytes(self.sent - before.sent),
            _less(self.batch_rows, before.batch_rows),
            _less(self.waits, before.waits),
            _less(self.works, before.works),
            failures,
        )


def _less(now: Sequence[int], before: Sequence[int]) -> tuple[int, ...]:
    return tuple(a - b for a, b in zip_longest(now, before, fillvalue=0))


class Status(msgspec.Struct, frozen=True, tag="status"):
    """The answer to AskStatus."""

    title: str
    digest: str  # of the model
    segments: tuple[int, ...]
    pid: int
    uptime: Nanoseconds
    draining: bool
    connections: int  # that have said Hello
    owners: int
    tokens: dict[str, int]  # name of a token → its connections; empty for those who may not know
    waiting: int  # calls that have no answer yet
    counts: Counts
    expert_rows: dict[int, tuple[int, ...]] = {}  # rows that went to each expert, by the mixture's segment
