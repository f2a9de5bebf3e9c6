"""One engine that serves many: a thread of its own runs step after step for all who ask.

    submit ──▶ Scheduler ──plan──▶ moves, Engine.step ──▶ Sampler ──▶ Telling ──▶ Answer
    (any thread)      ▲                                      │                    (any thread, any event loop)
                      └───────────────stepped, end───────────┘

What is decided is decided in `schedule/batching.py`; here it is done. A step that fails ends the answers that were in
it: what they had seen stays known, so asking again computes little anew.
"""

import copy
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

from twofold.cache.pages import pages_for
from twofold.engine.answer import Answer, Waiter, wake
from twofold.engine.engine import Engine, Part, Session
from twofold.engine.masks import Mask, Masks
from twofold.engine.request import Chosen, Moments, Piece, Request, Usage
from twofold.engine.sampler import Sampler
from twofold.engine.seen import NOTHING, Seen, in_common
from twofold.engine.serving_status import ServingStatus, Sizes, Times
from twofold.engine.telling import Telling
from twofold.errors import InternalError, Overloaded, TwofoldError
from twofold.kernels.arithmetic import F32
from twofold.model.chat import ChatTemplate
from twofold.model.tokenizer import Tokenizer
from twofold.schedule.batching import Scheduler
from twofold.schedule.stream import Room, Step, Stream
from twofold.units import MIB, Seconds

OUTSIDE_BYTES = 512 * MIB  # of contexts that had to make room
NO_DRAIN = Seconds(0.0)


class Choosing(Protocol):
    """What chooses the tokens of one answer: `Sampler`."""

    @property
    def finished(self) -> bool:
        """Nothing more is allowed."""

    @property
    def largest(self) -> int | None:
        """How many of the largest logits of the next token decide; None if all do."""

    def prepare(self) -> None:
        """Make ready for `choose` what does not need the logits; in any thread."""

    def choose(self, logits: F32, position: int) -> Chosen:
        """The token for `position`, from logits f32[vocabulary]."""


@dataclass(eq=False, slots=True)
class Asker:
    """Somebody who waits for an answer."""

    stream: Stream
    answer: Answer
    sampler: Choosing
    telling: Telling
    mask: Mask | None  # of a constrained answer
    keep: bool
    latest: Seconds
    first: Seconds | None = None


@dataclass(slots=True)
class Counts:
    """What was done since the start."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    steps: int = 0
    rows: int = 0
    refused: int = 0
    finished: Counter[str] = field(default_factory=Counter)
    times: Times = field(default_factory=Times)
    sizes: Sizes = field(default_factory=Sizes)

    def ended(self, asker: Asker, now: Seconds) -> None:
        """An answer has no more tokens."""
        stream, first = asker.stream, asker.first
        self.times.answer.add(now - stream.arrived)
        if first is not None:
            self.times.prefill.add(first - (stream.begun or first))
            self.times.decode.add(now - first)
        self.sizes.prompt.add(stream.prompt)
        self.sizes.generated.add(asker.telling.tokens)
        self.sizes.allowed.add(stream.most)


def room_of(engine: Engine, *, running: int = 64, waiting: int = 256, outside_bytes: int = OUTSIDE_BYTES) -> Room:
    """The room that an engine has: `running` answers at once, `waiting` behind them."""
    context = engine.context
    return Room(
        context_length=engine.manifest.context_length,
        rows=engine.chunk,
        heads=engine.weights.rows.layout.head_rows,
        running=running,
        waiting=waiting,
        outside_pages=outside_bytes // context.pool.page_bytes,
    )


class Serving:
    """Answers requests with `engine`, whose sessions are all its own. Close it, or use it as a context manager."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        *,
        room: Room | None = None,
        choosing: Callable[[Request, Tokenizer, int], Choosing] = Sampler,
        masks: Masks | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tokenizer, self.manifest = tokenizer, engine.manifest
        self.chat_template = None if tokenizer.data.chat_template is None else ChatTemplate.of(tokenizer.data)
        self._engine, self._choosing, self._clock = engine, choosing, clock
        self._page_bytes = engine.context.pool.page_bytes
        self._scheduler = Scheduler(engine.context.pages, room or room_of(engine))
        self._askers: dict[int, Asker] = {}
        self._outside: dict[int, bytes | memoryview] = {}
        self._cancelled: set[int] = set()
        self._told: list[Waiter] = []  # who was given something and is to be woken
        self._counts = Counts()
        self._changed = threading.Condition()
        self._until: float | None = None  # when answers in hand are ended, once none are taken any more
        self._masks = masks or Masks()
        self._thread = threading.Thread(
            target=self._run, name="serving", daemon=True
        )  # a forgotten `close` holds no exit up
        self._thread.start()

    def __enter__(self) -> "Serving":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, request: Request, before: Seen = NOTHING) -> Answer:
        """Begin an answer; from any thread. What `before` has seen of the prompt's beginning is not computed again.

        Raises RequestError for what cannot be had, Overloaded if it would have to wait too long.
        """
        sampler = self._choosing(request, self.tokenizer, self.manifest.vocabulary)
        known = in_common(request.prompt, before.tokens[: before.length])
        with self._changed:
            if self._until is not None:
                raise Overloaded("this server is ending; ask another, or come back later", 1.0)
            now = self._now()
            try:
                most, owner, priority = request.limits.max_tokens, request.owner, request.priority
                tokens = list(request.prompt)
                stream = self._scheduler.submit(tokens, most, now=now, owner=owner, priority=priority, seen=known)
            except Overloaded:
                self._counts.refused += 1
                raise
            if known:
                self._outside[stream.number] = memoryview(before.pages)[: pages_for(known) * self._page_bytes]
            number = stream.number
            answer = Answer(Usage(stream.prompt, moments=Moments(arrived=now)), lambda: self._cancel(number))
            telling = Telling(request.limits, self.tokenizer, stream.most)
            mask = None if request.constraint is None else Mask(sampler, self._clock)
            self._askers[number] = Asker(stream, answer, sampler, telling, mask, request.keep, now)
            self._counts.prompt_tokens += stream.prompt
            self._changed.notify()
        return answer

    def status(self) -> ServingStatus:
        """What is under way and what was done; from any thread."""
        with self._changed:
            scheduler, pages, counts = self._scheduler, self._engine.context.pages, self._counts
            return ServingStatus(
                running=scheduler.running,
                waiting=scheduler.waiting,
                swapped=scheduler.outside,
                oldest_waiting_seconds=scheduler.oldest_waiting(self._now()),
                pages=pages.pages,
                pages_used=pages.pages - pages.free_pages - pages.idle_pages,
                pages_cached=pages.idle_pages,
                prompt_tokens=counts.prompt_tokens,
                cached_tokens=counts.cached_tokens,
                generated_tokens=counts.generated_tokens,
                steps=counts.steps,
                rows=counts.rows,
                preemptions=scheduler.preemptions,
                finished=dict(counts.finished),
                refused=counts.refused,
                times=copy.deepcopy(counts.times),
                sizes=copy.deepcopy(counts.sizes),
                work=self._engine.work(),
            )

    def close(self, drain: Seconds = NO_DRAIN) -> None:
        """Take no requests any more; answers in hand may end within `drain`, then they are cancelled.

        All pages of context memory are free afterwards.
        """
        with self._changed:
            self._until = self._clock() + drain
            self._changed.notify()
        self._thread.join()
        self._masks.close()
        self._scheduler.prefixes.give_back(self._engine.context.pages.pages)

    def _now(self) -> Seconds:
        return Seconds(self._clock())

    def _cancel(self, number: int) -> None:
        with self._changed:
            self._cancelled.add(number)
            self._changed.notify()

    def _run(self) -> None:
        try:
            while (step := self._next()) is not None:
                self._do(step)
        except BaseException:
            with self._changed:
                self._until = self._clock()
                self._end_all(InternalError("the engine's thread ended; this is a bug, please report it with the log"))
            raise

    def _next(self) -> Step | None:
        """Wait for something to do; None if there is nothing any more."""
        with self._changed:
            while True:
                if self._until is not None and self._clock() >= self._until:
                    self._cancelled |= set(self._askers)
                self._told += self._drop(self._cancelled)
                if self._askers:
                    return self._scheduler.plan(self._now())
                self._wake()
                if self._until is not None:
                    return None
                self._changed.wait()

    def _drop(self, numbers: set[int]) -> list[Waiter]:
        """Those who went away, or may not stay, have no answer any more."""
        waiters = [self._finish(number, "cancelled") for number in sorted(numbers) if number in self._askers]
        numbers.clear()
        return [waiter for waiter in waiters if waiter]

    def _do(self, step: Step) -> None:
        """Move what is to be moved, run the step, and tell what came of it."""
        self._move(step)
        parts = list(step.parts.values())
        asked = [self._askers[part.number] for part in parts if part.wanted]
        start = self._clock()
        try:
            rows = [Part(Session(part.session), part.tokens, int(part.wanted)) for part in parts]
            with self._masks.made(asker.mask for asker in asked if asker.mask):
                given = self._engine.step(rows, largest=_largest(asked), meanwhile=self._wake)
        except TwofoldError as error:
            self._fail([part.number for part in parts], error)
            return
        took = Seconds(self._clock() - start)
        self._told += self._tell(step, asked, given, took)

    def _wake(self) -> None:
        """Wake who was told something. That waits until the next step's rows go: an event loop that is woken wants the
        interpreter, which planning a step needs as well, and walking it does not."""
        told, self._told = self._told, []
        wake(told)

    def _move(self, step: Step) -> None:
        """Copy pages out of the pool, or back."""
        for move in step.moves:
            if move.inward:
                self._engine.context.write(move.pages, self._outside.pop(move.number))
            else:
                self._outside[move.number] = self._engine.context.read(move.pages)

    def _tell(self, step: Step, asked: Sequence[Asker], given: Sequence[F32], took: Seconds) -> list[Waiter]:
        """Choose the next tokens and tell them; the scheduler learns who goes on."""
        waiters: list[Waiter | None] = []
        goes_on: dict[int, int] = {}
        ended: list[tuple[int, Piece | TwofoldError]] = []
        now = self._now()
        for asker, logits in zip(asked, given, strict=True):
            number = asker.stream.number
            try:
                chosen = asker.sampler.choose(logits, len(asker.stream.tokens))
                piece = asker.telling.push(chosen, complete=asker.sampler.finished)
            except TwofoldError as error:
                ended.append((number, error))
                continue
            self._count(asker, now)
            if piece is not None and piece.finish is not None:
                asker.answer.left = self._left(asker.stream) if asker.keep else None
                ended.append((number, piece))
                continue
            goes_on[number] = chosen.token
            if piece is not None:
                waiters.append(asker.answer.put(piece))
        with self._changed:
            self._counts.steps += 1
            self._counts.rows += step.rows
            self._scheduler.stepped(step, goes_on, took)
            waiters += [self._over(number, last) for number, last in ended]
        return [waiter for waiter in waiters if waiter]

    def _left(self, stream: Stream) -> Seen:
        """All that the stream's session has seen, copied: pages are given to others as soon as it ends."""
        assert stream.session is not None
        held = self._engine.context.pages[stream.session]
        pages = self._engine.context.read(held.pages[: pages_for(held.length)])
        return Seen(stream.tokens[: held.length], held.length, pages)

    def _count(self, asker: Asker, now: Seconds) -> None:
        """A token was chosen."""
        times, stream = self._counts.times, asker.stream
        if asker.first is None:
            asker.first = now
            usage = asker.answer.usage
            usage.cached_tokens, usage.moments.first, usage.moments.begun = stream.cached, now, stream.begun or now
            self._counts.cached_tokens += stream.cached
            times.first_token.add(now - stream.arrived)
            times.queue.add((stream.begun or now) - stream.arrived)
        else:
            times.token.add(now - asker.latest)
        asker.latest = now
        asker.answer.usage.generated_tokens = asker.telling.tokens
        self._counts.generated_tokens += 1

    def _fail(self, numbers: Iterable[int], error: TwofoldError) -> None:
        """The step of these failed."""
        with self._changed:
            self._told += [waiter for number in numbers if (waiter := self._over(number, error))]

    def _end_all(self, error: TwofoldError) -> None:
        self._told += [waiter for number in list(self._askers) if (waiter := self._over(number, error))]
        self._wake()

    def _finish(self, number: int, finish: str) -> Waiter | None:
        return self._over(number, self._askers[number].telling.end(finish))

    def _over(self, number: int, last: Piece | TwofoldError) -> Waiter | None:
        """The answer has its last piece, or an error."""
        asker = self._askers.pop(number)
        self._outside.pop(number, None)
        self._scheduler.end(number)
        finish = last.finish if isinstance(last, Piece) else "error"
        self._counts.finished[finish or ""] += 1
        asker.answer.usage.moments.ended = now = self._now()
        self._counts.ended(asker, now)
        return asker.answer.put(last)


def _largest(asked: Sequence[Asker]) -> int | None:
    """How many of the largest logits decide for all of them; None if all do for somebody."""
    wanted = [asker.sampler.largest for asker in asked]
    return None if None in wanted else max([one for one in wanted if one], default=1)
