"""The engine: sessions over the two memories. Feed tokens, get logits."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from twofold.engine.caller import Caller
from twofold.engine.ending import Ending
from twofold.engine.lane import Lane, Share
from twofold.engine.step import step, together
from twofold.engine.walk import Walk
from twofold.engine.work import Work, at_work
from twofold.errors import RequestError
from twofold.kernels.arithmetic import F32
from twofold.memory.context import ContextMemory
from twofold.schedule.lanes import MOST_LANES, LaneChoice, Piece, Ran, deal


class Session:
    """One conversation: its number in context memory and the tokens it has seen."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.tokens: list[int] = []


class Part(NamedTuple):
    """What a session sees in a step; logits of the last `wanted` tokens are wanted."""

    session: Session
    tokens: Sequence[int]
    wanted: int = 1


class Engine:
    """Walks the layers of one model for sessions in `context`, with weights wherever the map says."""

    def __init__(self, weights: Caller, context: ContextMemory, *, lanes: int | None = None) -> None:
        """`lanes`: to how many lanes to deal the rows of a step; default: as many as pay, found out on the way."""
        self.weights, self.context = weights, context
        self.manifest = context.manifest
        layout = weights.rows.layout
        self.chunk, self._head_rows = min(context.rows, layout.rows), layout.head_rows
        self._lanes = [Lane(weights, context)]
        self._walk = Walk(layout, max(lanes or 1, MOST_LANES))
        self._given, self._choice = lanes, LaneChoice()
        self._ending = Ending(self.manifest)
        self._meanwhile: Callable[[], None] | None = None  # to be called when the next rows go

    @property
    def context_ns(self) -> int:
        """Time that context memory worked."""
        return self._walk.context_ns + sum(lane.context_ns for lane in self._lanes)

    def work(self) -> Work:
        """What the memories did since the start; from any thread."""
        spent, seen, layers = self.weights.spent, self.weights.attachments.map, range(len(self.manifest.layers))
        lanes = list(self._lanes)
        segments = [walked + spent.segments_ns[i] for i, walked in enumerate(self._walk.segments_ns)]
        for mixture in self.manifest.mixtures:
            for part in (mixture.front, *mixture.experts, mixture.back):
                segments[mixture.segment] += segments[part]
                segments[part] = 0
        return Work(
            calls=spent.calls,
            failovers=spent.failovers,
            weights_ns=spent.weights_ns,
            context_ns=self.context_ns,
            link_ns=spent.link_ns,
            segments_ns=[*segments[: len(layers)], sum(segments[end] for end in self.manifest.ends)],
            layers_ns=[self._walk.layers_ns[i] + sum(lane.layers_ns[i] for lane in lanes) for i in layers],
            processors=[at_work(replica) for replica in seen.replicas],
        )

    def open(self) -> Session:
        """A new session."""
        return Session(self.context.open())

    def close(self, session: Session) -> None:
        """Forget a session."""
        self.context.close(session.number)

    def feed(
        self,
        session: Session,
        tokens: Sequence[int],
        *,
        chunk: int | None = None,
        wanted: int = 1,
        largest: int | None = None,
    ) -> F32:
        """The session sees `tokens`; returns logits f32[wanted, vocabulary] of the last `wanted` of them.

        `chunk`: the most rows of one call (any value gives the same bits). `largest`: as for `step`. The logits are a
        view that the next call overwrites. If a step fails, the session keeps what earlier steps gave it and can go on.
        """
        if not 1 <= wanted <= min(len(tokens), self._head_rows):
            raise RequestError(f"logits of {wanted} rows were asked for; 1 to {self._head_rows} can be had")
        most, done = max(wanted, min(chunk or self.chunk, self.chunk)), 0
        while True:
            rest = len(tokens) - done
            lanes = self._lanes_for(rest, most)
            count = rest if rest <= lanes * most else min(lanes * most, rest - wanted)
            part = Part(session, tokens[done : done + count], wanted if count == rest else 0)
            logits = self._step([part], lanes, most, largest, asked=rest)
            if count == rest:
                return logits[0][None] if wanted == 1 else np.stack(logits)
            done += count

    def decode(self, sessions: Sequence[Session], tokens: Sequence[int], *, largest: int | None = None) -> list[F32]:
        """Each session sees one token, all in one step; their logits, as for `step`."""
        return self.step([Part(s, [t]) for s, t in zip(sessions, tokens, strict=True)], largest=largest)

    def step(
        self, parts: Sequence[Part], *, largest: int | None = None, meanwhile: Callable[[], None] | None = None
    ) -> list[F32]:
        """The sessions, each named once, see their tokens; logits f32[vocabulary] of all that are wanted, in order.

        `largest`: so many of the largest logits of a row decide, so those that are smaller may be -infinity. The logits
        are views that the next call overwrites. If the step fails, all sessions are as before and can go on.
        `meanwhile` is called once all is ready and before the rows go, if it comes to that: what it sets going in other
        threads has Python to itself while the rows are under way.
        """
        self._meanwhile = meanwhile
        count = sum(len(part.tokens) for part in parts)
        return self._step(parts, self._lanes_for(count, self.chunk), self.chunk, largest, asked=count)

    def rewind(self, session: Session, length: int) -> None:
        """The session forgets all but its first `length` tokens."""
        self.context.truncate(session.number, length)
        del session.tokens[length:]

    def _lanes_for(self, count: int, most: int) -> int:
        """How many lanes a step of so many rows gets, `most` at most in each."""
        if self._given is not None:
            return self._given
        if count == 1 or not self.weights.away:
            return 1
        return self._choice.choose(count, most, time.monotonic_ns())

    def _step(self, parts: Sequence[Part], lanes: int, most: int, largest: int | None, *, asked: int) -> list[F32]:
        """A step in so many lanes, which were chosen for `asked` rows."""
        end = self._ending.segment(largest, self.weights.attachments.map)
        if asked == 1:
            logits = self._at_once(parts, end, largest)
        else:
            logits = self._measured(parts, lanes, most, end, largest, asked=asked)
        self.context.advance([(part.session.number, len(part.tokens)) for part in parts])
        for part in parts:
            part.session.tokens += part.tokens
        return logits

    def _at_once(self, parts: Sequence[Part], end: int, largest: int | None) -> list[F32]:
        """All rows in the first lane, where they fit: the short way of a step."""
        lane = self._lanes[0]
        lane.load([Share(p.session.number, 0, p.tokens, p.wanted) for p in parts], len(self.manifest.layers), end)
        self._pass([lane])
        found = self._logits(lane, end, largest, 0)
        return self._at_once(parts, self._ending.all, None) if found is None else found

    def _measured(
        self, parts: Sequence[Part], lanes: int, most: int, end: int, largest: int | None, *, asked: int
    ) -> list[F32]:
        """The rows in so many lanes; what came of it is noted, for the next choice."""
        known, start, before = len(self._lanes), time.monotonic_ns(), self._worked()
        fits = asked <= most and sum([part.wanted for part in parts]) <= self._head_rows
        if lanes == 1 and fits:
            logits = self._at_once(parts, end, largest)
        else:
            loads = deal([(len(p.tokens), p.wanted) for p in parts], lanes, most=most, most_wanted=self._head_rows)
            while len(self._lanes) < min(lanes, len(loads)):
                self._lanes.append(Lane(self.weights.another(), self.context))
            logits = self._dealt(parts, loads, end, largest)
        now, after = time.monotonic_ns(), self._worked()
        if known == len(self._lanes):  # connections are made once; that is not how long a step takes
            ran = Ran(now - start, *(late - early for late, early in zip(after, before, strict=True)))
            self._choice.ran(asked, most, lanes, ran, now)
        return logits

    def _worked(self) -> tuple[int, int, int]:
        """Nanoseconds that the memories worked so far, and calls made."""
        return self.weights.spent.weights_ns, self.context_ns, self.weights.spent.calls

    def _dealt(self, parts: Sequence[Part], loads: list[list[Piece]], end: int, largest: int | None) -> list[F32]:
        """Pass the loads through the model to segment `end`, as many at a time as there are lanes."""
        found: list[F32] = []
        ahead: dict[int, int] = {}
        for first in range(0, len(loads), len(self._lanes)):
            found = [row.copy() for row in found] if end == self._ending.all else found  # the lanes are used again
            lanes = self._lanes[: len(loads) - first]
            for lane, load in zip(lanes, loads[first:], strict=False):
                lane.load(_shares(parts, load, ahead), len(self.manifest.layers), end)
            self._pass(lanes)
            for lane in lanes:
                given = self._logits(lane, end, largest, len(found))
                if given is None:
                    return self._dealt(parts, loads, self._ending.all, None)
                found += given
        return found

    def _logits(self, lane: Lane, end: int, largest: int | None, at: int) -> list[F32] | None:
        """What the end gave of the lane's wanted rows (`Ending`)."""
        count = len(lane.task.wanted)
        if not count or largest is None or end == self._ending.all:
            return lane.logits[:count]
        return self._ending.largest(lane.rows, count, largest, at)

    def _pass(self, lanes: Sequence[Lane]) -> None:
        """The lanes' rows pass through the model: natively as far as that goes, the rest call by call."""
        if (meanwhile := self._meanwhile) is not None:
            self._meanwhile = None
            meanwhile()
        try:
            stands = self._walk(lanes)
            if stands is not None:
                pairs = zip(lanes, stands, strict=True)
                together(step(lane.parted, lane.attend, lane.rows, lane.task, at) for lane, at in pairs)
        except BaseException:
            for lane in lanes:
                lane.weights.abandon()
            raise


def _shares(parts: Sequence[Part], load: Sequence[Piece], ahead: dict[int, int]) -> Iterator[Share]:
    """The rows of a load; `ahead`: how many rows of each session other loads have already."""
    for piece in load:
        part = parts[piece.part]
        session = part.session.number
        yield Share(session, ahead.get(session, 0), part.tokens[piece.first : piece.first + piece.rows], piece.wanted)
        ahead[session] = ahead.get(session, 0) + piece.rows
