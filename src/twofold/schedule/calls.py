"""Which calls a weight memory runs next, together.

Rows at the same segment run as one batch, whoever they belong to, because a pass over a segment's weights costs about
the same for one row as for many. Each segment where calls wait, or are expected from connections that were answered a
moment ago, has a score, and the highest runs:

      rows there / most rows anywhere      the fullest goes first,
    + GOING_ON if it follows the last      and goes on, until those that were left behind have joined it;
    + longest wait / patience              a call left behind waits two tokens' time at most,
    - GREED x what its owners had beyond   and many connections or long prompts buy nobody more than a fair share:
      the average of all who wait          who had more does not age.

If the best lacks rows that are expected, the memory waits for them, but not for longer than a part of the passes that
they save; and not for rows of who waits already, as lanes of one owner are out of step on purpose.

    put ──▶ waiting, by segment ──linger, next──▶ a batch ──ran──▶ expected at the segment after it
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

GREED_NS = 5_000_000  # between two looks at who had how much
MEMORY_NS = 200_000_000  # what an owner had fades by 1 / e in this time
GOING_ON = 0.5
GREED, FAIR = 3.0, 1.25  # FAIR: the multiple of the average from which on an owner had more than the others
TOKENS = 2.0  # of patience
LEAST_PATIENCE_NS = 1_000_000
LINGER = 0.5  # of the cost of a batch: the longest wait for each connection that is expected
SMOOTH = 0.1  # weight of the newest cost among the usual ones


@dataclass(eq=False, slots=True)
class Waiting:
    """A call that waits: `rows` rows of `owner` for `segment`, from `arrived` until `expiry` (ns, any clock)."""

    port: int  # which connection's; a connection has one call at a time
    owner: str
    segment: int
    rows: int
    arrived: int
    expiry: int


@dataclass(slots=True)
class Had:
    """Nanoseconds of the memory that an owner had, as of `when`."""

    amount: float
    when: int

    def at(self, now: int) -> float:
        """What is left of it at `now`."""
        return self.amount * math.exp(-(now - self.when) / MEMORY_NS)


@dataclass(slots=True)
class Coming:
    """A connection that was answered: it is expected at `segment` with as many rows again."""

    segment: int
    owner: str
    rows: int
    answered: int


class CallQueue:
    """Calls that wait for one weight memory of `segments` segments; `limit(segment)`: most rows of one batch."""

    def __init__(self, segments: int, limit: Callable[[int], int]) -> None:
        self._limit = limit
        self._segments = segments
        self._waiting: dict[int, list[Waiting]] = {}  # by segment, in order of arrival
        self._coming: dict[int, Coming] = {}  # by port, in order of their answers
        self._expected: Counter[int] = Counter()  # how many of them at each segment
        self._rows: Counter[int] = Counter()  # that wait or are expected at each segment
        self._had: dict[str, Had] = {}
        self._greed: dict[str, float] = {}  # by how much owners had more than the others, as of `_greed_at`
        self._greed_at = 0
        self._usual_ns = 0.0  # of a batch
        self._following = 0  # the segment after the one that ran last
        self._idle_since = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, call: Waiting) -> None:
        """`call` arrived."""
        self._forget(call.port)
        self._waiting.setdefault(call.segment, []).append(call)
        self._rows[call.segment] += call.rows
        self._count += 1

    def withdraw(self, port: int) -> None:
        """The connection is gone, with what it had waiting."""
        self._forget(port)
        for call in [call for calls in self._waiting.values() for call in calls if call.port == port]:
            self._take(call.segment, [call])

    def expired(self, now: int) -> list[Waiting]:
        """Calls whose deadline has passed, which wait no more."""
        late = [call for calls in self._waiting.values() for call in calls if call.expiry <= now]
        for call in late:
            self._take(call.segment, [call])
        return late

    def linger(self, now: int) -> int:
        """Nanoseconds to wait before `next`, because rows are expected at the segment with the highest score."""
        if not self._coming or not self._waiting:
            return 0
        self._give_up(now)
        if not self._coming:
            return 0
        longest = LINGER * self._usual_ns * self._missed(self._best(now, self._rows))
        return max(0, int(self._idle_since + longest) - now)

    def next(self, now: int) -> list[Waiting]:
        """The calls to run together now, in the order of their rows; none if none wait."""
        if not self._waiting:
            return []
        segment = next(iter(self._waiting)) if len(self._waiting) == 1 else self._best(now, self._waiting)
        calls, limit = self._waiting[segment], self._limit(segment)
        if sum([call.rows for call in calls]) > limit:
            room, batch = limit, []
            for call in sorted(calls, key=lambda call: (self._greed.get(call.owner, 0.0), call.arrived)):
                if call.rows <= room:
                    batch.append(call)
                    room -= call.rows
            calls = batch
        self._take(segment, calls)
        return calls

    def ran(self, batch: list[Waiting], now: int, took: int) -> None:
        """`batch` was answered at `now` after `took` nanoseconds."""
        self._usual_ns += (SMOOTH if self._usual_ns else 1.0) * (took - self._usual_ns)
        self._idle_since = now
        self._following = following = (batch[0].segment + 1) % self._segments
        a_row = took / sum([call.rows for call in batch])
        for call in batch:
            had = self._had.get(call.owner)
            self._had[call.owner] = Had((had.at(now) if had else 0.0) + a_row * call.rows, now)
            self._forget(call.port)  # it is known already if a batch failed and each of its calls ran by itself
            self._coming[call.port] = Coming(following, call.owner, call.rows, now)
            self._expected[following] += 1
            self._rows[following] += call.rows
        if now - self._greed_at > GREED_NS:
            self._compare(now)

    def check(self) -> None:
        """Raise AssertionError unless every connection waits at most once, or is expected, and the counts fit."""
        calls = [call for calls in self._waiting.values() for call in calls]
        ports = [call.port for call in calls]
        assert len(ports) == len(set(ports)) == self._count, "a connection waits twice, or is not counted"
        assert not set(ports) & set(self._coming), "a connection waits and is expected"
        assert all(self._waiting.values()), "a segment has an empty queue"
        rows: Counter[int] = Counter()
        for call in calls:
            rows[call.segment] += call.rows
        for coming in self._coming.values():
            rows[coming.segment] += coming.rows
        assert rows == +self._rows, "rows are not counted"
        assert Counter(coming.segment for coming in self._coming.values()) == +self._expected, "who is expected is not"

    def _best(self, now: int, segments: Iterable[int]) -> int:
        """The one with the highest score."""
        patience = max(TOKENS * self._segments * self._usual_ns, LEAST_PATIENCE_NS)
        most = max(self._rows.values())
        best, chosen = -math.inf, 0
        for segment in segments:
            if not self._rows[segment]:
                continue
            calls = self._waiting.get(segment, ())
            score = self._rows[segment] / most + GOING_ON * (segment == self._following)
            if self._greed:
                score -= min([self._greed.get(owner, 0.0) for owner in self._owners(segment)])
                calls = [call for call in calls if call.owner not in self._greed]
            if calls:
                score += (now - calls[0].arrived) / patience
            if score > best:
                best, chosen = score, segment
        return chosen

    def _missed(self, segment: int) -> int:
        """How many connections are expected at `segment` whose owner waits for nothing else meanwhile."""
        if not self._expected[segment]:
            return 0
        waiting = {call.owner for calls in self._waiting.values() for call in calls}
        return sum([come.segment == segment and come.owner not in waiting for come in self._coming.values()])

    def _owners(self, segment: int) -> set[str]:
        """Who waits or is expected at `segment`."""
        expected = {coming.owner for coming in self._coming.values() if coming.segment == segment}
        return expected | {call.owner for call in self._waiting.get(segment, ())}

    def _compare(self, now: int) -> None:
        """Find out who had more than the average of those who wait or are expected."""
        self._greed_at = now
        owners = {call.owner for calls in self._waiting.values() for call in calls}
        owners |= {coming.owner for coming in self._coming.values()}
        had = {owner: self._had[owner].at(now) if owner in self._had else 0.0 for owner in owners}
        limit = FAIR * sum(had.values()) / max(len(had), 1)
        self._greed = {o: GREED * (amount - limit) * FAIR / limit for o, amount in had.items() if amount > limit}
        if len(self._had) > 2 * len(owners) + 16:
            self._had = {owner: self._had[owner] for owner in owners if owner in self._had}

    def _give_up(self, now: int) -> None:
        """Expect those no longer who should have called by now."""
        latest = now - LINGER * self._usual_ns * (len(self._coming) + self._count)
        while self._coming:
            port = next(iter(self._coming))
            if self._coming[port].answered > latest:
                return
            self._forget(port)

    def _forget(self, port: int) -> None:
        """Expect the connection no longer."""
        coming = self._coming.pop(port, None)
        if coming is not None:
            self._expected[coming.segment] -= 1
            self._rows[coming.segment] -= coming.rows

    def _take(self, segment: int, calls: list[Waiting]) -> None:
        """`calls`, which wait for `segment`, wait no longer."""
        self._count -= len(calls)
        self._rows[segment] -= sum([call.rows for call in calls])
        if len(calls) == len(self._waiting[segment]):
            del self._waiting[segment]
        else:
            gone = set(map(id, calls))
            self._waiting[segment] = [call for call in self._waiting[segment] if id(call) not in gone]
