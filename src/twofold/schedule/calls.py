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
they save.

    put ──▶ waiting, by segment ──linger, next──▶ a batch ──ran──▶ expected at the segment after it
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
        self._waiting: dict[int, list[Waiting]] = {}
        self._coming: dict[int, Coming] = {}  # by port
        self._had: dict[str, Had] = {}
        self._usual_ns = 0.0  # of a batch
        self._following = 0  # the segment after the one that ran last
        self._idle_since = 0

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, call: Waiting) -> None:
        """`call` arrived."""
        self._waiting.setdefault(call.segment, []).append(call)
        self._coming.pop(call.port, None)

    def withdraw(self, port: int) -> None:
        """The connection is gone, with what it had waiting."""
        self._coming.pop(port, None)
        for segment, calls in list(self._waiting.items()):
            self._keep(segment, [call for call in calls if call.port != port])

    def expired(self, now: int) -> list[Waiting]:
        """Calls whose deadline has passed, which wait no more."""
        late = [call for call in self._all() if call.expiry <= now]
        for call in late:
            self._keep(call.segment, [other for other in self._waiting[call.segment] if other is not call])
        return late

    def linger(self, now: int) -> int:
        """Nanoseconds to wait before `next`, because rows are expected at the segment with the highest score."""
        if not self._coming or not self._waiting:
            return 0
        expected = self._expected(now)
        if not expected:
            return 0
        best = self._best(now, expected)
        longest = LINGER * self._usual_ns * len(expected.get(best, ()))
        return max(0, int(self._idle_since + longest) - now)

    def next(self, now: int) -> list[Waiting]:
        """The calls to run together now, in the order of their rows; none if none wait."""
        if not self._waiting:
            return []
        segment = next(iter(self._waiting)) if len(self._waiting) == 1 else self._best(now, {})
        calls, limit = self._waiting[segment], self._limit(segment)
        if sum([call.rows for call in calls]) <= limit:
            del self._waiting[segment]
            return calls
        greed = self._greed(now)
        batch, rows = [], 0
        for call in sorted(calls, key=lambda call: (greed.get(call.owner, 0.0), call.arrived)):
            if rows + call.rows <= limit:
                batch.append(call)
                rows += call.rows
        chosen = set(map(id, batch))
        self._keep(segment, [call for call in calls if id(call) not in chosen])
        return batch

    def ran(self, batch: list[Waiting], now: int, took: int) -> None:
        """`batch` was answered at `now` after `took` nanoseconds."""
        self._usual_ns += (SMOOTH if self._usual_ns else 1.0) * (took - self._usual_ns)
        self._idle_since = now
        self._following = (batch[0].segment + 1) % self._segments
        rows = sum([call.rows for call in batch])
        for call in batch:
            had = self._had.get(call.owner)
            self._had[call.owner] = Had((had.at(now) if had else 0.0) + took * call.rows / rows, now)
            self._coming[call.port] = Coming(self._following, call.owner, call.rows, now)
        if len(self._had) > 2 * len(self._coming) + len(self) + 16:
            self._had = {owner: had for owner, had in self._had.items() if had.at(now) > 1.0}

    def check(self) -> None:
        """Raise AssertionError unless every connection waits at most once, at its own segment, or is expected."""
        ports = [call.port for call in self._all()]
        assert len(ports) == len(set(ports)), "a connection waits twice"
        assert not set(ports) & set(self._coming), "a connection waits and is expected"
        for segment, calls in self._waiting.items():
            assert calls, f"segment {segment} has an empty queue"
            assert all(call.segment == segment for call in calls), f"a call waits at segment {segment} by mistake"

    def _expected(self, now: int) -> dict[int, list[Coming]]:
        """Connections that are not late yet, by the segment they are expected at."""
        latest = now - LINGER * self._usual_ns * (len(self._coming) + len(self))
        found: dict[int, list[Coming]] = {}
        for coming in self._coming.values():
            if coming.answered > latest:
                found.setdefault(coming.segment, []).append(coming)
        return found

    def _best(self, now: int, expected: dict[int, list[Coming]]) -> int:
        """The segment with the highest score among those where calls wait or are expected."""
        patience = max(TOKENS * self._segments * self._usual_ns, LEAST_PATIENCE_NS)
        rows = {segment: sum([call.rows for call in calls]) for segment, calls in self._waiting.items()}
        for segment, comings in expected.items():
            rows[segment] = rows.get(segment, 0) + sum([coming.rows for coming in comings])
        most, greed = max(rows.values()), self._greed(now)

        def score(segment: int) -> float:
            calls = self._waiting.get(segment, ())
            owners = [one.owner for one in (*calls, *expected.get(segment, ()))]
            age = max([now - call.arrived for call in calls if not greed.get(call.owner)], default=0)
            least = min([greed.get(owner, 0.0) for owner in owners])
            return rows[segment] / most + GOING_ON * (segment == self._following) + age / patience - least

        return max(rows, key=score)

    def _greed(self, now: int) -> dict[str, float]:
        """What is taken from the score for owners that had more than the average of those who wait or are expected."""
        owners = {call.owner for call in self._all()} | {coming.owner for coming in self._coming.values()}
        if len(owners) < 2:
            return {}
        had = {owner: self._had[owner].at(now) if owner in self._had else 0.0 for owner in owners}
        average = sum(had.values()) / len(had)
        if not average:
            return {}
        return {owner: GREED * max(0.0, amount / average - FAIR) for owner, amount in had.items()}

    def _all(self) -> Iterator[Waiting]:
        for calls in self._waiting.values():
            yield from calls

    def _keep(self, segment: int, calls: list[Waiting]) -> None:
        if calls:
            self._waiting[segment] = calls
        else:
            self._waiting.pop(segment, None)
