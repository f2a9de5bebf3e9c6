"""What a weight processor counts while it works: a few additions a batch, and nothing of any row."""

from collections import Counter
from collections.abc import Sequence

from twofold.model.segment import Cut
from twofold.schedule.calls import Waiting
from twofold.units import Bytes, Nanoseconds
from twofold.wire.frame import HEADER_BYTES
from twofold.wire.status import BUCKETS, ROW_BUCKETS, Counts, bucket, row_bucket


class Tally:
    """Counts since it was made. One thread counts; any may read, and sees each figure as it is at that moment."""

    def __init__(self, cuts: Sequence[Cut]) -> None:
        """`cuts`: what each segment takes and gives."""
        self._row_bytes = [cut.bytes_per_row() for cut in cuts]
        self._calls = self._rows = self._batches = 0
        self._worked = self._waited = self._received = self._sent = 0
        self._batch_rows = [0] * ROW_BUCKETS
        self._waits, self._works = [0] * BUCKETS, [0] * BUCKETS
        self._failures: Counter[str] = Counter()

    def ran(self, batch: Sequence[Waiting], rows: int, start: int, worked: int) -> None:
        """A batch of `rows` rows, begun at `start`, was worked on for so long and answered; nanoseconds."""
        takes, gives = self._row_bytes[batch[0].segment]
        headers = HEADER_BYTES * len(batch)
        self._calls += len(batch)
        self._rows += rows
        self._batches += 1
        self._worked += worked
        self._received += rows * takes + headers
        self._sent += rows * gives + headers
        self._batch_rows[row_bucket(rows)] += 1
        self._works[bucket(worked)] += 1
        for call in batch:
            wait = start - call.arrived
            self._waited += wait
            self._waits[bucket(wait)] += 1

    def failed(self, kind: str) -> None:
        """A call was answered, or a connection ended, with an error of this class."""
        self._failures[kind] += 1

    def counts(self) -> Counts:
        """All of it."""
        return Counts(
            self._calls,
            self._rows,
            self._batches,
            Nanoseconds(self._worked),
            Nanoseconds(self._waited),
            Bytes(self._received),
            Bytes(self._sent),
            tuple(self._batch_rows),
            tuple(self._waits),
            tuple(self._works),
            dict(self._failures),
        )
