"""The engine: sessions over the two memories. Feed tokens, get logits."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from twofold.engine.caller import Caller
from twofold.engine.ending import Ending
from twofold.engine.lane import Lane
from twofold.engine.step import Task, step, together
from twofold.engine.walk import Walk
from twofold.engine.work import Work, at_work
from twofold.errors import RequestError
from twofold.kernels.arithmetic import F32
from twofold.memory.context import ContextMemory, Run
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

    def step(self, parts: Sequence[Part], *, largest: int | None = None) -> list[F32]:
        """The sessions, each named once, see their tokens; logits f32[vocabulary] of all that are wanted, in order.

        `largest`: so many of the largest logits of a row decide, so those that are smaller may be -infinity. The logits
        are views that the next call overwrites. If the step fails, all sessions are as before and can go on.
        """
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
        if not self.weights.away:
            return 1
        return self._choice.choose(count, most, time.monotonic_ns())

    def _step(self, parts: Sequence[Part], lanes: int, most: int, largest: int | None, *, asked: int) -> list[F32]:
        """A step in so many lanes, which were chosen for `asked` rows."""
        loads = deal([(len(p.tokens), p.wanted) for p in parts], lanes, most=most, most_wanted=self._head_rows)
        known = len(self._lanes)
        while len(self._lanes) < min(lanes, len(loads)):
            self._lanes.append(Lane(self.weights.another(), self.context))
        end = self._ending.segment(largest, self.weights.attachments.map)
        start, before = time.monotonic_ns(), self._worked()
        logits = self._ended(parts, loads, end, largest)
        now, after = time.monotonic_ns(), self._worked()
        if known == len(self._lanes):  # connections are made once; that is not how long a step takes
            ran = Ran(now - start, *(late - early for late, early in zip(after, before, strict=True)))
            self._choice.ran(asked, most, lanes, ran, now)
        for part in parts:
            self.context.advance([(part.session.number, len(part.tokens))])
            part.session.tokens += part.tokens
        return logits

    def _worked(self) -> tuple[int, int, int]:
        """Nanoseconds that the memories worked so far, and calls made."""
        return self.weights.spent.weights_ns, self.context_ns, self.weights.spent.calls

    def _ended(self, parts: Sequence[Part], loads: list[list[Piece]], end: int, largest: int | None) -> list[F32]:
        """Pass the loads through the model to segment `end`, as many at a time as there are lanes."""
        found: list[F32] = []
        ahead: Counter[int] = Counter()
        for first in range(0, len(loads), len(self._lanes)):
            found = [row.copy() for row in found] if end == self._ending.all else found  # the lanes are used again
            lanes = self._lanes[: len(loads) - first]
            for lane, load in zip(lanes, loads[first:], strict=False):
                self._load(lane, parts, load, ahead, end)
            self._pass(lanes)
            for lane in lanes:
                given = self._logits(lane, end, largest, len(found))
                if given is None:
                    return self._ended(parts, loads, self._ending.all, None)
                found += given
        return found

    def _logits(self, lane: Lane, end: int, largest: int | None, at: int) -> Iterable[F32] | None:
        """What the end gave of the lane's wanted rows (`Ending`)."""
        count = len(lane.task.wanted)
        if not count:
            return []
        if largest is None or end == self._ending.all:
            return self._ending.logits(lane.rows, count)
        return self._ending.largest(lane.rows, count, largest, at)

    def _load(self, lane: Lane, parts: Sequence[Part], load: list[Piece], ahead: Counter[int], end: int) -> None:
        runs: list[Run] = []
        tokens: list[int] = []
        wanted: list[int] = []
        for piece in load:
            session = parts[piece.part].session.number
            runs.append(Run(session, ahead[session], piece.rows))
            ahead[session] += piece.rows
            tokens += parts[piece.part].tokens[piece.first : piece.first + piece.rows]
            wanted += range(len(tokens) - piece.wanted, len(tokens))
        lane.load(runs, tokens, Task(len(tokens), len(self.manifest.layers), end, wanted))

    def _pass(self, lanes: Sequence[Lane]) -> None:
        """The lanes' rows pass through the model: natively as far as that goes, the rest call by call."""
        try:
            stands = self._walk(lanes)
            pairs = zip(lanes, stands, strict=True)
            together(step(lane.parted, lane.attend, lane.rows, lane.task, at) for lane, at in pairs)
        except BaseException:
            for lane in lanes:
                lane.weights.abandon()
            raise
