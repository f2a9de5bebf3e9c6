"""Continuous batching: which rows of which requests the next step has. Pure: time is an argument.

    submit ──▶ waiting ──admit──▶ running ──────────────end──▶ gone
                  ▲                  │
                  └──── preempt ─────┘   its pages stay known (`cache/prefix.py`) or are moved out of the pool

A running stream holds pages; each step it is fed what it has not seen, a prompt in chunks beside the others' single
tokens. Rules, in the order in which they bind:

    more urgent first      lower priority numbers, each step of AGEING seconds of waiting counting for one;
    of those, fair shares  whoever had the fewest rows (`shares.py`);
    of one owner           who was given a token least recently, then who came first.

Pages that are missing are taken from what is only kept, then from running streams that are less urgent or came later.
Where no place is free for a stream that waits, the latest makes room of those that are less urgent or whose owner has
more places. So the most urgent, oldest stream always goes on, and with time everybody is that.
"""

from collections import Counter
from collections.abc import Mapping

from twofold.cache.pages import PAGE_POSITIONS, PageTable, pages_for
from twofold.cache.prefix import PrefixTree
from twofold.errors import Overloaded, RequestError
from twofold.schedule.pace import Pace
from twofold.schedule.shares import Shares
from twofold.schedule.stream import Move, Part, Room, Step, Stream
from twofold.units import Seconds

AGEING = Seconds(5.0)
LEAST_RETRY = 1.0
ANSWER_TOKENS = 128.0  # expected of an answer before any was given
SMOOTH = 0.1


class Scheduler:
    """Says what runs next on the sessions of `pages`, all of which are the scheduler's. `check()` recomputes all."""

    def __init__(self, pages: PageTable, room: Room) -> None:
        self.pages, self.room = pages, room
        self.prefixes = PrefixTree(pages)
        self.preemptions = 0
        self.pace = Pace(room.rows, room.stall)
        self._shares = Shares()
        self._running: dict[int, Stream] = {}
        self._waiting: dict[int, Stream] = {}
        self._given = self._last = 0
        self._answer, self._answered = ANSWER_TOKENS, 0

    @property
    def running(self) -> int:
        """Streams that hold pages."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Streams that hold none, those that had to make room among them."""
        return len(self._waiting)

    @property
    def outside(self) -> int:
        """Streams whose pages are kept outside the pool."""
        return sum(stream.outside > 0 for stream in self._waiting.values())

    def oldest_waiting(self, now: Seconds) -> Seconds:
        """How long the stream that waits and came first has been here; 0 if none waits."""
        return Seconds(now - min((stream.arrived for stream in self._waiting.values()), default=now))

    def __getitem__(self, number: int) -> Stream:
        return self._running.get(number) or self._waiting[number]

    def submit(
        self, tokens: list[int], most: int, *, now: Seconds, owner: str = "", priority: int = 0, seen: int = 0
    ) -> Stream:
        """A request arrived: `most` tokens at most are wanted after `tokens`, `seen` of them kept outside.

        What is kept outside may have been made anywhere, so the stream's pages are its own.
        Raises RequestError if the prompt can never fit, and Overloaded if it would have to wait too long or too many
        of its owner wait. A stream is given as many tokens as fit if those are fewer than `most`.
        """
        fits = min(self.room.context_length, self.pages.pages * PAGE_POSITIONS) - len(tokens)
        if fits <= 0:
            raise RequestError(
                f"the prompt has {len(tokens)} tokens, but only {len(tokens) + fits - 1} fit: the model's context has "
                f"{self.room.context_length} positions, context memory {self.pages.pages * PAGE_POSITIONS}; shorten it"
            )
        self._refuse(owner)
        self._last += 1
        stream = Stream(self._last, owner, priority, tokens, min(most, fits), now)
        stream.seen, stream.outside, stream.private = seen, pages_for(seen), seen > 0
        self._waiting[stream.number] = stream
        self._shares.enter(owner)
        return stream

    def end(self, number: int) -> None:
        """The stream is answered, or nobody waits for it any more."""
        stream = self._running.pop(number, None) or self._waiting.pop(number)
        self._shares.leave(stream.owner)
        if stream.session is not None:
            self.pages.close(stream.session)
        if stream.given:
            self._answered += 1
            self._answer += max(SMOOTH, 1 / self._answered) * (stream.given - self._answer)

    def plan(self, now: Seconds) -> Step:
        """What to do next. Whoever does it lengthens the sessions in the page table, then calls `stepped`."""
        step = Step()
        urgency = self._urgency(now)
        self._admit(step, urgency, now)
        ordered = sorted(self._running.values(), key=lambda s: (urgency[s.number], s.turn, s.arrived, s.number))
        decoding = min(sum(self._left(stream) == 1 for stream in ordered), self.room.heads)
        rows, heads, prompts = self.room.rows, self.room.heads, self.pace.prompt_rows(decoding)
        computed: set[int] = set()
        for stream in self._shares.in_turn((urgency[s.number], s) for s in ordered):
            if stream.session is None:  # it had to make room
                continue
            self._adopt(stream)
            left = self._left(stream)
            count = min(left, rows, prompts) if left > 1 else min(1, rows)
            count -= count == left and not heads
            if count < 1 or self._awaits(stream, computed) or not self._secure(stream, count, step, urgency):
                continue
            rows, heads, prompts = rows - count, heads - (count == left), prompts - count * (left > 1)
            computed.update(self._put(step, stream, count))
        return step

    def stepped(self, step: Step, chosen: Mapping[int, int], took: Seconds) -> None:
        """The step was done in `took` seconds; `chosen`: the next tokens of those streams that go on."""
        self.pace.add(step.rows, step.decoding, took)
        for number in step.parts:
            stream = self._running.get(number)
            if stream is not None:
                self._share(stream)
        for number, token in chosen.items():
            stream = self[number]
            stream.tokens.append(token)
            self._given += 1
            stream.turn = self._given
            if not len(stream.tokens) % PAGE_POSITIONS:
                stream.learn()

    def check(self) -> None:
        """Raise AssertionError unless every stream, page and count is where it should be."""
        self.prefixes.check()
        live = [*self._running.values(), *self._waiting.values()]
        assert not set(self._running) & set(self._waiting), "a stream runs and waits"
        assert len(self._running) <= self.room.running, "too many streams run"
        self._shares.check(Counter(stream.owner for stream in live))
        held = {stream.session for stream in self._running.values()}
        assert held == self.pages.sessions, "a session belongs to nobody, or a stream has none"
        assert all(stream.session is None for stream in self._waiting.values()), "a stream holds pages and waits"
        for stream in live:
            assert stream.given <= stream.most, f"stream {stream.number} was given too much"
            assert len(stream.keys) == len(stream.tokens) // PAGE_POSITIONS, f"stream {stream.number} lacks keys"
        for stream in self._running.values():
            assert self._left(stream) >= 1, f"stream {stream.number} saw more than there is"
            assert not stream.outside, f"stream {stream.number} is in the pool and outside"

    def _left(self, stream: Stream) -> int:
        """Tokens that the running stream has not seen."""
        assert stream.session is not None
        return len(stream.tokens) - self.pages[stream.session].length

    def _urgency(self, now: Seconds) -> dict[int, int]:
        """By stream; waiting makes it as small as the smallest priority here, and no smaller."""
        live = [*self._running.values(), *self._waiting.values()]
        least = min((stream.priority for stream in live), default=0)
        return {s.number: max(least, s.priority - int((now - s.arrived) / AGEING)) for s in live}

    def _refuse(self, owner: str) -> None:
        """Raise Overloaded if one more of `owner` is too many: each owner may take half of the places left."""
        own = [stream for stream in self._waiting.values() if stream.owner == owner]
        wait = self._wait(own)
        if wait <= self.room.patience and len(own) < self.room.waiting - len(self._waiting):
            return
        retry = max(LEAST_RETRY, wait - self.room.patience, wait / max(len(own), 1))
        raise Overloaded(
            f"{len(self._waiting)} requests wait already, {len(own)} of them with this key, about {wait:.0f} s long; "
            f"come back in {retry:.0f} s",
            retry,
        )

    def _wait(self, own: list[Stream]) -> float:
        """Seconds that one more of the owner of `own` would wait behind these and the fair share of all others."""
        if not own or not self.pace.rows_per_second:
            return 0.0
        work = sum(self._work(stream) for stream in own) * len(self._shares)
        return min(work, sum(map(self._work, self._waiting.values()))) / self.pace.rows_per_second

    def _work(self, stream: Stream) -> float:
        """Rows that a waiting stream is expected to take."""
        return len(stream.tokens) - stream.seen + max(1.0, min(self._answer, stream.most) - stream.given)

    def _admit(self, step: Step, urgency: Mapping[int, int], now: Seconds) -> None:
        """Let streams in as long as they fit, or others should make room for them."""
        had = self._shares.had
        while self._waiting:
            stream = min(self._waiting.values(), key=lambda s: (urgency[s.number], had(s.owner), s.arrived, s.number))
            while not self._fits(stream):
                if not self._displace(stream, step, urgency):
                    return
            self._begin(stream, step, now)

    def _fits(self, stream: Stream) -> bool:
        """Whether the tokens of the waiting stream fit, beside what the running ones need for theirs."""
        if not self._running:
            return True
        needed = pages_for(len(stream.tokens) + 1)
        room = self.pages.free_pages + self.pages.idle_pages
        if not stream.outside:
            found = self.prefixes.match(self._adoptable(stream))
            needed -= len(found)
            room -= sum(map(self.pages.idle, found))
        return len(self._running) < self.room.running and needed + self._promised() <= room

    def _displace(self, stream: Stream, step: Step, urgency: Mapping[int, int]) -> bool:
        """Let a running stream make room for one that is more urgent, or whose owner has fewer running."""
        running = Counter(other.owner for other in self._running.values())
        last = max(self._running.values(), key=lambda s: (urgency[s.number], running[s.owner], s.arrived, s.number))
        if (urgency[stream.number], running[stream.owner] + 1) >= (urgency[last.number], running[last.owner]):
            return False
        self._preempt(last, step)
        return True

    def _promised(self) -> int:
        """Pages that the running streams need for the tokens they have, and one more for each."""
        held = [(self.pages[s.session], s) for s in self._running.values() if s.session is not None]
        return sum(max(0, pages_for(len(s.tokens)) - len(sequence.pages)) + 1 for sequence, s in held)

    def _begin(self, stream: Stream, step: Step, now: Seconds) -> None:
        """The waiting stream runs."""
        del self._waiting[stream.number]
        self._running[stream.number] = stream
        stream.session, stream.shared = self.pages.open(), 0
        stream.begun = now if stream.begun is None else stream.begun
        if stream.outside:
            self.prefixes.give_back(stream.outside - self.pages.free_pages)
            self.pages.reserve(stream.session, stream.seen)
            self.pages.advance(stream.session, stream.seen)
            step.moves.append(Move(stream.number, tuple(self.pages[stream.session].pages), inward=True))
            stream.outside = stream.seen = 0
            self._share(stream)

    def _preempt(self, stream: Stream, step: Step) -> None:
        """The running stream makes room and waits; its pages are kept outside if there is room for them."""
        assert stream.session is not None
        self.preemptions += 1
        step.parts.pop(stream.number, None)
        sequence = self.pages[stream.session]
        pages = sequence.pages[: pages_for(sequence.length)]
        outside = sum(other.outside for other in self._waiting.values())
        if outside + len(pages) <= self.room.outside_pages:
            stream.outside, stream.seen = len(pages), sequence.length
            step.moves.append(Move(stream.number, tuple(pages), inward=False))
        self.pages.close(stream.session)
        stream.session = None
        self._waiting[stream.number] = self._running.pop(stream.number)

    def _secure(self, stream: Stream, count: int, step: Step, urgency: Mapping[int, int]) -> bool:
        """Reserve pages for `count` positions more; False if nobody who comes after it has any left."""
        assert stream.session is not None
        while (short := self.pages.missing(stream.session, count) - self.pages.free_pages) > 0:
            if self.pages.idle_pages:
                self.prefixes.give_back(short)
                continue
            last = max(self._running.values(), key=lambda s: (urgency[s.number], s.arrived, s.number))
            if last is stream:
                return False
            self._preempt(last, step)
        self.pages.reserve(stream.session, count)
        return True

    def _put(self, step: Step, stream: Stream, count: int) -> list[int]:
        """The stream's next `count` tokens are in the step; returns what stands for the pages that they write."""
        assert stream.session is not None
        start = self.pages[stream.session].length
        tokens = stream.tokens[start : start + count]
        step.parts[stream.number] = Part(
            stream.number, stream.session, tokens, wanted=start + count == len(stream.tokens)
        )
        self._shares.charge(stream.owner, count)
        stream.computed += 0 if stream.given else count
        return stream.chain[start // PAGE_POSITIONS : pages_for(start + count)]

    def _adoptable(self, stream: Stream) -> list[bytes]:
        """The keys of pages that the stream may take from others: one token at least it computes itself."""
        return stream.keys[: (len(stream.tokens) - 1) // PAGE_POSITIONS]

    def _adopt(self, stream: Stream) -> None:
        """Where a page ends, go on with pages that others have computed."""
        assert stream.session is not None
        length = self.pages[stream.session].length
        keys = self._adoptable(stream)
        if length % PAGE_POSITIONS or length // PAGE_POSITIONS >= len(keys):
            return
        found = self.prefixes.match(keys)[length // PAGE_POSITIONS :]
        if found:
            self.pages.adopt(stream.session, found)

    def _awaits(self, stream: Stream, computed: set[int]) -> bool:
        """Whether the next page of the stream is computed in this very step by another."""
        assert stream.session is not None
        page, inside = divmod(self.pages[stream.session].length, PAGE_POSITIONS)
        return not inside and page < len(stream.chain) and stream.chain[page] in computed

    def _share(self, stream: Stream) -> None:
        """Give the pages that the stream has filled to the prefix tree, unless it is private."""
        assert stream.session is not None
        if stream.private:
            return
        full = self.pages[stream.session].length // PAGE_POSITIONS
        if full > stream.shared:
            self.prefixes.share(stream.session, stream.keys[:full])
            stream.shared = full
