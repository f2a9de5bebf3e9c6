"""A server that computes nothing, in time that is only counted: the real scheduler, and pages that remember tokens."""

import heapq
import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from twofold.cache.pages import PAGE_POSITIONS, PageTable
from twofold.errors import Overloaded
from twofold.schedule.batching import Scheduler
from twofold.schedule.stream import Room, Step, Stream
from twofold.units import Seconds

STEP_SECONDS, ROW_SECONDS = 0.003, 0.0004  # about those of a small model on two cores


def seconds_of(rows: int) -> float:
    """What a step takes."""
    return STEP_SECONDS + ROW_SECONDS * rows


@dataclass
class Asked:
    """A request of a client, and what became of it."""

    tokens: list[int]
    answer: int  # tokens that it takes until it is answered
    owner: str = ""
    priority: int = 0
    arrived: float = 0.0
    first: float | None = None  # when its first token came
    ended: float | None = None
    cached: int = 0
    refused: Overloaded | None = None
    gaps: list[float] = field(default_factory=list)  # between its tokens
    latest: float = 0.0


class Simulated:
    """Does what the scheduler says. A page knows the tokens up to its end; every step checks that they are right."""

    def __init__(self, *, pages: int = 200, checks: bool = True, **room: int | float) -> None:
        self.room = Room(**({"context_length": 4096} | room))  # type: ignore[arg-type]
        self.pages = PageTable(pages)
        self.scheduler = Scheduler(self.pages, self.room)
        self.checks, self.now = checks, 0.0
        self.streams: dict[int, Asked] = {}
        self.had: Counter[str] = Counter()  # rows by owner
        self.rows = 0
        self.steps: list[Step] = []
        self._written: dict[int, tuple[int, ...]] = {}
        self._outside: dict[int, list[tuple[int, ...]]] = {}
        self._tokens = itertools.count(1000)

    def submit(self, asked: Asked) -> Stream | None:
        """A request arrives now; None if it was refused."""
        asked.arrived = asked.latest = self.now
        try:
            stream = self.scheduler.submit(
                list(asked.tokens), asked.answer, now=Seconds(self.now), owner=asked.owner, priority=asked.priority
            )
        except Overloaded as refused:
            asked.refused = refused
            return None
        self.streams[stream.number] = asked
        return stream

    def end(self, number: int) -> None:
        """A client has its answer, or goes away."""
        self.scheduler.end(number)
        self._outside.pop(number, None)
        del self.streams[number]

    def step(self, *, fails: bool = False) -> Step:
        """Plan a step and do it, or half of it."""
        step = self.scheduler.plan(Seconds(self.now))
        self._check()
        assert step.parts or not self.streams, "there is work, and nothing is done"
        self._check_room(step)
        for move in step.moves:
            if move.inward:
                for page, tokens in zip(move.pages, self._outside.pop(move.number), strict=True):
                    self._written[page] = tokens
            else:
                self._outside[move.number] = [self._written[page] for page in move.pages]
        self._write(step)
        if not fails:
            self._done(step)
            self.steps.append(step)
        self._check()
        return step

    def run(self, arrivals: Iterable[Asked] = (), until: float = 1e9) -> None:
        """Let requests arrive at their times and step until all are answered, or until then."""
        coming = [(asked.arrived, index, asked) for index, asked in enumerate(arrivals)]
        heapq.heapify(coming)
        while (coming or self.streams) and self.now < until:
            if not self.streams:
                self.now = max(self.now, coming[0][0])
            while coming and coming[0][0] <= self.now:
                self.submit(heapq.heappop(coming)[2])
            if self.streams:
                self.step()

    def _check(self) -> None:
        if self.checks:
            self.scheduler.check()

    def _check_room(self, step: Step) -> None:
        assert step.rows <= self.room.rows
        assert sum(part.wanted for part in step.parts.values()) <= self.room.heads

    def _write(self, step: Step) -> None:
        """Each part is written behind what its stream has seen, which must be there."""
        for number, part in step.parts.items():
            tokens, sequence = tuple(self.scheduler[number].tokens), self.pages[part.session]
            for index in range(sequence.length // PAGE_POSITIONS):
                assert self._written[sequence.pages[index]] == tokens[: (index + 1) * PAGE_POSITIONS]
            start, end = sequence.length, sequence.length + len(part.tokens)
            assert tuple(part.tokens) == tokens[start:end]
            if start % PAGE_POSITIONS:
                assert self._written[sequence.pages[start // PAGE_POSITIONS]][:start] == tokens[:start]
            for index in range(start // PAGE_POSITIONS, (end - 1) // PAGE_POSITIONS + 1):
                self._written[sequence.pages[index]] = tokens[: min(end, (index + 1) * PAGE_POSITIONS)]

    def _done(self, step: Step) -> None:
        took = seconds_of(step.rows)
        self.now += took
        self.rows += step.rows
        chosen = {}
        for number, part in step.parts.items():
            self.pages.advance(part.session, len(part.tokens))
            self.had[self.streams[number].owner] += len(part.tokens)
            if part.wanted:
                chosen[number] = next(self._tokens)
        for number in list(chosen):
            asked = self.streams[number]
            stream = self.scheduler[number]
            asked.first = self.now if asked.first is None else asked.first
            asked.gaps.append(self.now - asked.latest)
            asked.latest, asked.cached = self.now, stream.cached
            if stream.given + 1 == min(asked.answer, stream.most):
                asked.ended = self.now
                del chosen[number]
                self.end(number)
        self.scheduler.stepped(step, chosen, Seconds(took))
