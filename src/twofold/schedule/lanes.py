"""How many lanes a step's rows are dealt to, and which rows each gets.

While one lane's rows are with weight memory, or on the link, the rows of others can be in context memory. With m lanes
of r rows each, a layer takes, of work W at the weights, context operations C here, and L on the link,

    max(m · W(r), m · C(r), W(r) + L(r) + C(r))      instead of      W(m · r) + L(m · r) + C(m · r)

so m ≥ 1 + (L + C) / W keeps weight memory busy. But W of few rows is often that of many, as a pass over the weights
costs what it costs; then lanes lose. So nothing is configured. What is known of W, L and C says which number is worth a
try, a try measures whole steps, and only what came out quicker is kept. Several lanes live on credit: a share of the
time of all steps, and what they gained or lost. What was not measured for a while is known no more. Pure: times are
arguments.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

MOST_LANES = 8
PROMISE = 0.95  # share of the best time that another number must promise before it is tried
WORTH = 0.98  # share of the time of one lane that several must not pass
TRIES = 3  # steps of a try
SAMPLES = 7  # of the latest steps, whose median counts
SHARE = 0.015  # of all time that several lanes may lose
FIRST_CREDIT_NS, MOST_CREDIT_NS = 1_000_000, 200_000_000
ENOUGH_NS = 50_000_000  # of steps in one lane, until others are tried, if they were not TRIES
AGAIN = 50  # one lane is measured again after so many times the time of its step
FORGET_NS = 20_000_000_000
RECENT = 1 / 4  # weight of the newest time in a mean


class Piece(NamedTuple):
    """Rows of one lane: `rows` of part number `part`, from its row `first` on; the last `wanted` of them are wanted."""

    part: int
    first: int
    rows: int
    wanted: int


def deal(parts: Sequence[tuple[int, int]], lanes: int, *, most: int, most_wanted: int) -> list[list[Piece]]:
    """Cut the rows of `parts` (rows, how many of the last are wanted), in their order, evenly into loads for lanes.

    A load has at most `most` rows, of which at most `most_wanted` are wanted; so there may be more loads than lanes.
    """
    size = min(most, max(1, -(-sum(rows for rows, _ in parts) // lanes)))
    loads: list[list[Piece]] = []
    room = room_wanted = 0
    for part, (rows, wanted) in enumerate(parts):
        first = 0
        while first < rows:
            count = min(rows - first, room, max(0, rows - wanted - first) + room_wanted)
            if not count:
                loads.append([])
                room, room_wanted = size, most_wanted
                continue
            kept = max(0, first + count - max(first, rows - wanted))
            loads[-1].append(Piece(part, first, count, kept))
            first, room, room_wanted = first + count, room - count, room_wanted - kept
    return loads


class Ran(NamedTuple):
    """One step as it was measured: nanoseconds in all, at work in weight memory, in context memory; and calls made."""

    took: int
    worked: int
    context: int
    calls: int


class _Record:
    """What steps of one kind took with one number of lanes: nanoseconds a row."""

    def __init__(self) -> None:
        self.samples: deque[float] = deque(maxlen=SAMPLES)
        self.value = 0.0
        self.took = 0
        self.when = 0

    def add(self, value: float, took: int, now: int) -> None:
        if now - self.when >= FORGET_NS:
            self.samples.clear()
        self.samples.append(value)
        self.value, self.took, self.when = sorted(self.samples)[len(self.samples) // 2], took, now

    def unsure(self, now: int) -> bool:
        """Whether it is to be measured again, as what others are held against."""
        few = len(self.samples) < TRIES and len(self.samples) * self.took < ENOUGH_NS
        return few or now - self.when > AGAIN * self.took


class _Curve:
    """A time by the number of rows of a call, as far as it is known: means, by powers of two."""

    def __init__(self) -> None:
        self._means: dict[int, tuple[float, float]] = {}  # rows, nanoseconds

    def add(self, rows: float, value: float) -> None:
        key = round(rows).bit_length()
        old = self._means.get(key, (rows, value))
        self._means[key] = (old[0] + RECENT * (rows - old[0]), old[1] + RECENT * (value - old[1]))

    def at(self, rows: float) -> float:
        """At least so much for fewer rows than are known, if that is in proportion; in proportion for more."""
        key = round(rows).bit_length()
        known = [k for k in self._means if k >= key] or list(self._means)
        if not known:
            return 0.0
        measured_rows, value = self._means[min(known) if min(known) >= key else max(known)]
        return value * rows / measured_rows


class LaneChoice:
    """How many lanes the next step gets. `ran` tells what came of it."""

    def __init__(self) -> None:
        self._records: dict[int, dict[int, _Record]] = {}  # by kind of step, then lanes
        self._work, self._link, self._context = _Curve(), _Curve(), _Curve()
        self._credit = float(FIRST_CREDIT_NS)
        self._stages = 1.0  # calls that a lane makes in a step

    def choose(self, rows: int, most: int, now: int) -> int:
        """Lanes for a step of `rows` rows, of which a lane takes at most `most`."""
        records = self._records.get(kind_of(rows, most), {})
        fresh = {lanes: record for lanes, record in records.items() if now - record.when < FORGET_NS}
        if rows < 2 or 1 not in fresh or fresh[1].unsure(now) or self._credit <= 0:
            return 1
        best = min(fresh, key=lambda lanes: fresh[lanes].value * (WORTH if lanes == 1 else 1))
        tries = self._promising(fresh, rows, most, fresh[best].value)
        return min(tries, key=lambda lanes: tries[lanes]) if tries else best

    def ran(self, rows: int, most: int, lanes: int, ran: Ran, now: int) -> None:
        """A step that was chosen for `rows` and `most` ran with so many lanes."""
        done = min(rows, lanes * most)
        a_row, calls = ran.took / done, max(ran.calls, 1)
        self._stages = calls / lanes
        self._work.add(done / lanes, ran.worked / calls)
        self._context.add(done / lanes, ran.context / calls)
        if lanes == 1:
            self._link.add(done, max(0, ran.took - ran.worked - ran.context) / calls)
        records = self._records.setdefault(kind_of(rows, most), {})
        records.setdefault(lanes, _Record()).add(a_row, ran.took, now)
        lost = ran.took - done * records[1].value if lanes > 1 and 1 in records else 0.0
        self._credit = min(self._credit + SHARE * ran.took - lost, MOST_CREDIT_NS)

    def _promising(self, fresh: dict[int, _Record], rows: int, most: int, best: float) -> dict[int, float]:
        """Numbers of lanes worth a try → nanoseconds a row that are expected of them."""
        found = {}
        lanes = 2
        while lanes <= min(MOST_LANES, rows):
            record = fresh.get(lanes)
            expected = self._predicted(rows, most, lanes)
            if (record is None and expected < PROMISE * best) or (record and len(record.samples) < TRIES):
                found[lanes] = expected
            lanes *= 2
        return found

    def _predicted(self, rows: int, most: int, lanes: int) -> float:
        """Nanoseconds a row of a step, if nothing else holds it up."""
        done = min(rows, lanes * most)
        each = done / lanes
        work, link, context = self._work.at(each), self._link.at(each), self._context.at(each)
        return self._stages * max(lanes * work, lanes * context, work + link + context) / done


def kind_of(rows: int, most: int) -> int:
    """What steps of about as many rows have in common: their three leading bits."""
    rows = min(rows, most)
    shift = max(0, rows.bit_length() - 3)
    return rows >> shift << shift
