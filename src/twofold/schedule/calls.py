"""Which calls a weight memory runs next, together.

Rows that wait for the same segment run as one batch, whoever they belong to. The choice among segments:

    score = rows waiting (up to FULL) / FULL  +  (longest wait, less what its owner has had) / patience

The longest queue goes first, because a pass over a segment's weights costs about the same for one row as for many; a
call left behind gains a full batch's worth of score in `patience`, the time of one token, so that it meets the others
when they come round to its segment again. Who has had more of the memory lately than the others waits as if it had
come that much later, so that many connections or long prompts buy nobody a larger share.

    put ──▶ waiting, by segment ──next──▶ a batch ──ran──▶ what its owners have had, and what such a batch costs
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

FULL = 32  # rows of a batch beyond which more rows no longer make a row cheaper
MEMORY_NS = 200_000_000  # what an owner had fades by 1 / e in this time
LEAST_PATIENCE_NS = 1_000_000
LINGER = 0.5  # of the cost of a batch: the longest wait for rows that are expected at the same segment
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
class Turn:
    """A connection's last answer: where its next call is expected, and how long it usually takes to make it."""

    segment: int
    answered: int
    usual_ns: float


class CallQueue:
    """Calls that wait for one weight memory of `segments` segments; `limit(segment)`: most rows of one batch."""

    def __init__(self, segments: int, limit: Callable[[int], int]) -> None:
        self._limit = limit
        self._segments = segments
        self._waiting: dict[int, list[Waiting]] = {}
        self._had: dict[str, Had] = {}
        self._turns: dict[int, Turn] = {}
        self._usual_ns = 0.0  # of a batch

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, call: Waiting) -> None:
        """`call` arrived."""
        self._waiting.setdefault(call.segment, []).append(call)
        turn = self._turns.get(call.port)
        if turn is not None:
            turn.usual_ns += SMOOTH * (call.arrived - turn.answered - turn.usual_ns)

    def withdraw(self, port: int) -> None:
        """The connection is gone, with what it had waiting."""
        self._turns.pop(port, None)
        for segment, calls in list(self._waiting.items()):
            self._keep(segment, [call for call in calls if call.port != port])

    def expired(self, now: int) -> list[Waiting]:
        """Calls whose deadline has passed, which wait no more."""
        late = [call for call in self._all() if call.expiry <= now]
        for call in late:
            self._keep(call.segment, [other for other in self._waiting[call.segment] if other is not call])
        return late

    def linger(self, now: int) -> int:
        """Nanoseconds to wait before `next`, because more rows are expected at the segment that it would choose."""
        segment = self._choose(now)
        if segment is None:
            return 0
        calls = self._waiting[segment]
        latest = min(call.arrived for call in calls) + int(LINGER * self._usual_ns)
        waiting = {call.port for call in self._all()}
        due = 0
        for port, turn in self._turns.items():
            if turn.segment == segment and port not in waiting and turn.usual_ns < LINGER * self._usual_ns:
                expected = turn.answered + int(2 * turn.usual_ns)
                due = max(due, expected) if expected > now else due
        return max(0, min(due, latest) - now)

    def next(self, now: int) -> list[Waiting]:
        """The calls to run together now, in the order of their rows; none if none wait."""
        segment = self._choose(now)
        if segment is None:
            return []
        calls = sorted(self._waiting[segment], key=lambda call: call.arrived + self._excess(call.owner, now))
        batch, rows, limit = [], 0, self._limit(segment)
        for call in calls:
            if rows + call.rows <= limit:
                batch.append(call)
                rows += call.rows
        chosen = set(map(id, batch))
        self._keep(segment, [call for call in self._waiting[segment] if id(call) not in chosen])
        return batch

    def ran(self, batch: list[Waiting], now: int, took: int) -> None:
        """`batch` was answered at `now` after `took` nanoseconds."""
        self._usual_ns += (SMOOTH if self._usual_ns else 1.0) * (took - self._usual_ns)
        rows = sum(call.rows for call in batch)
        for call in batch:
            had = self._had.get(call.owner)
            before = had.at(now) if had else 0.0
            self._had[call.owner] = Had(before + took * call.rows / rows, now)
            turn = self._turns.setdefault(call.port, Turn(0, now, 0.0))
            turn.segment, turn.answered = (call.segment + 1) % self._segments, now
        if len(self._had) > 2 * len(self._turns) + 16:
            self._had = {owner: had for owner, had in self._had.items() if had.at(now) > 1.0}

    def check(self) -> None:
        """Raise AssertionError unless every connection waits at most once, at its own segment."""
        ports = [call.port for call in self._all()]
        assert len(ports) == len(set(ports)), "a connection waits twice"
        for segment, calls in self._waiting.items():
            assert calls, f"segment {segment} has an empty queue"
            assert all(call.segment == segment for call in calls), f"a call waits at segment {segment} by mistake"

    def _choose(self, now: int) -> int | None:
        """The segment with the highest score."""
        if len(self._waiting) <= 1:
            return next(iter(self._waiting), None)
        patience = max(self._segments * self._usual_ns, LEAST_PATIENCE_NS)
        best, chosen = -math.inf, None
        for segment, calls in self._waiting.items():
            rows = min(sum(call.rows for call in calls), FULL)
            age = max(now - call.arrived - self._excess(call.owner, now) for call in calls)
            score = rows / FULL + age / patience
            if score > best:
                best, chosen = score, segment
        return chosen

    def _excess(self, owner: str, now: int) -> float:
        """What `owner` had beyond the waiting owner that had least."""
        had = self._had.get(owner)
        if had is None:
            return 0.0
        return had.at(now) - min(self._had[o].at(now) if o in self._had else 0.0 for o in self._owners())

    def _owners(self) -> set[str]:
        return {call.owner for call in self._all()}

    def _all(self) -> Iterator[Waiting]:
        for calls in self._waiting.values():
            yield from calls

    def _keep(self, segment: int, calls: list[Waiting]) -> None:
        if calls:
            self._waiting[segment] = calls
        else:
            self._waiting.pop(segment, None)
