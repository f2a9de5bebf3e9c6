"""The choice of what a weight memory runs next: by itself, and in a simulation of owners that call it in a loop."""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from twofold.schedule.calls import CallQueue, Waiting

SEGMENTS = 31
FAR = 1 << 60


def queue() -> CallQueue:
    return CallQueue(SEGMENTS, lambda segment: 256 if segment < SEGMENTS - 1 else 32, 50_000)


def put(
    calls: CallQueue,
    port: int,
    segment: int = 3,
    rows: int = 1,
    *,
    owner: str = "",
    arrived: int = 0,
    expiry: int = FAR,
) -> None:
    owner = owner or f"owner {port}"
    calls.enter(owner)
    calls.put(Waiting(port, owner, segment, rows, arrived, expiry))


def test_calls_of_all_owners_for_one_segment_run_together() -> None:
    calls = queue()
    for port in range(5):
        put(calls, port, rows=port + 1)
    batch = calls.next(10)
    assert batch == [0, 1, 2, 3, 4]
    assert len(calls) == 0
    assert calls.next(11) == []


def test_a_batch_has_no_more_rows_than_its_segment_takes_and_the_rest_comes_next() -> None:
    calls = queue()
    for port in range(5):
        put(calls, port, rows=100, arrived=port)
    assert calls.next(10) == [0, 1]
    assert calls.next(11) == [2, 3]
    assert calls.next(12) == [4]


def test_a_small_call_goes_in_the_room_that_a_large_one_leaves() -> None:
    calls = queue()
    for port, rows in enumerate((200, 100, 30)):
        put(calls, port, rows=rows, arrived=port)
    assert calls.next(10) == [0, 2]


def test_the_longest_queue_goes_first() -> None:
    calls = queue()
    put(calls, 0, 7)
    for port in range(1, 4):
        put(calls, port, 9, arrived=1)
    assert calls.next(2) == [1, 2, 3]


def test_a_lone_call_does_not_wait_longer_than_a_token_takes() -> None:
    calls, now, cost = queue(), 0, 100_000
    put(calls, 99, 20)
    for port in itertools.cycle(range(40)):  # somebody else always has a full batch at some other segment
        segment = now // cost % 20
        for other in range(32):
            put(calls, 1000 * port + other + 100, segment, arrived=now)
        batch = calls.next(now)
        now += cost
        calls.ran(now, cost)
        if batch[0] == 99:
            break
        for done in batch:
            calls.withdraw(done)
        assert now < 3 * SEGMENTS * cost


def test_expired_calls_are_given_back_and_wait_no_more() -> None:
    calls = queue()
    for port in range(4):
        put(calls, port, port % 2, expiry=10 * port + 5)
    assert calls.expired(20) == [0, 1]
    assert len(calls) == 2
    assert calls.expired(20) == []


def test_one_connection_is_never_waited_for() -> None:
    calls = queue()
    put(calls, 0, 1)
    assert calls.next(1) == [0]
    calls.ran(100, 99)
    put(calls, 0, 2, arrived=110)
    assert calls.linger(111) == 0


def test_who_was_answered_a_moment_ago_at_the_segment_before_is_waited_for() -> None:
    calls = queue()
    for port in range(3):
        put(calls, port, 1)
    assert calls.next(0)
    calls.ran(1000, 1000)
    put(calls, 0, 2, arrived=1100)
    assert 0 < calls.linger(1100) <= 1.5 * 2 * 1000
    put(calls, 1, 2, arrived=1200)
    put(calls, 2, 2, arrived=1300)
    assert calls.linger(1300) == 0


def test_lanes_of_one_owner_that_are_out_of_step_do_not_wait_for_each_other() -> None:
    for other, waits in (("a", False), ("b", True)):
        calls = queue()
        put(calls, 1, 3, owner="a")
        assert calls.next(0) == [1]
        calls.ran(100_000, 100_000)
        put(calls, 2, 3, owner=other, arrived=100_000)
        assert (calls.linger(100_000) > 0) == waits


def test_a_call_that_was_answered_in_another_way_is_neither_open_nor_expected() -> None:
    calls = queue()
    for port in range(2):
        put(calls, port, 1)
    assert calls.next(0) == [0, 1]
    calls.withdraw(0)
    assert (calls.open(0), calls.open(1)) == (False, True)
    calls.ran(1000, 1000)
    calls.check()
    assert not calls.open(1)
    put(calls, 1, 2, arrived=1001)
    assert calls.linger(1001) == 0


def test_nobody_is_waited_for_longer_because_a_long_prompt_went_before() -> None:
    waits = []
    for rows, took in ((1, 100_000), (256, 20_000_000)):
        calls = queue()
        for port in range(2):
            put(calls, port, 1)
        assert calls.next(0)
        calls.ran(100_000, 100_000)
        put(calls, 9, 7, rows, arrived=100_000)
        calls.withdraw(0)
        calls.withdraw(1)
        for _ in range(5):
            put(calls, 10, 7, rows)
            assert calls.next(100_000)
            calls.ran(100_000, took)
            calls.withdraw(10)
        calls.withdraw(9)
        for port in range(2):
            put(calls, port, 1)
        assert calls.next(100_000)
        calls.ran(200_000, 100_000)
        put(calls, 0, 2, arrived=200_000)
        waits.append(calls.linger(200_000))
    assert 0 < waits[1] < 6 * waits[0]


def test_who_stays_away_is_not_waited_for() -> None:
    calls = queue()
    for port in range(2):
        put(calls, port, 1)
    assert calls.next(0)
    calls.ran(1000, 1000)
    put(calls, 0, 2, arrived=900_000)
    assert calls.linger(900_000) == 0


# a simulation: owners that call in a loop


@dataclass
class Looping:
    """A connection that walks the segments for ever, `think` nanoseconds after each answer."""

    owner: str
    rows: int = 1
    think: int = 10_000
    segment: int = 0
    asked: int = 0


def cost(rows: int) -> int:
    """Nanoseconds of a batch: a pass over the weights, and the rows."""
    return 90_000 + 12_000 * rows


class Simulated:
    """One weight memory and its loops, in time that is only counted."""

    def __init__(self, loops: list[Looping], seed: int = 0) -> None:
        self.loops, self.chance = loops, random.Random(seed)
        self.queue, self.now = queue(), 0
        self.asking: dict[int, Waiting] = {}
        self.had: Counter[str] = Counter()
        self.waits: dict[str, list[int]] = {loop.owner: [] for loop in loops}
        self.batches: list[int] = []
        self._coming: list[tuple[int, int]] = []
        for port, loop in enumerate(loops):
            self.queue.enter(loop.owner)
            loop.segment = self.chance.randrange(SEGMENTS)
            heapq.heappush(self._coming, (self.chance.randrange(100_000), port))

    def run(self, until: int) -> None:
        while self.now < until:
            self._arrive()
            if not len(self.queue):
                self.now = self._coming[0][0]
                continue
            linger = self.queue.linger(self.now)
            if linger:
                first = self._coming[0][0] if self._coming else self.now + linger
                self.now = min(self.now + linger, max(first, self.now + 1))
                continue
            self._work(self.queue.next(self.now))
            self.queue.check()

    def _arrive(self) -> None:
        while self._coming and self._coming[0][0] <= self.now:
            at, port = heapq.heappop(self._coming)
            loop = self.loops[port]
            rows = min(loop.rows, 32) if loop.segment == SEGMENTS - 1 else loop.rows
            loop.asked = at
            self.asking[port] = Waiting(port, loop.owner, loop.segment, rows, at, FAR)
            self.queue.put(self.asking[port])

    def _work(self, ports: list[int]) -> None:
        batch = [self.asking[port] for port in ports]
        rows = sum(waiting.rows for waiting in batch)
        for waiting in batch:
            self.waits[waiting.owner].append(self.now - waiting.arrived)
        self.now += cost(rows)
        self.batches.append(rows)
        self.queue.ran(self.now, cost(rows))
        for waiting in batch:
            loop = self.loops[waiting.port]
            self.had[loop.owner] += waiting.rows
            loop.segment = (loop.segment + 1) % SEGMENTS
            think = int(loop.think * self.chance.uniform(0.5, 1.5))
            heapq.heappush(self._coming, (self.now + think, waiting.port))


SECOND = 1_000_000_000


@pytest.mark.parametrize("owners", [1, 2, 4, 8, 16])
def test_owners_that_begin_anywhere_soon_go_through_the_layers_together(owners: int) -> None:
    simulated = Simulated([Looping(f"owner {number}") for number in range(owners)], seed=owners)
    simulated.run(SECOND)
    late = simulated.batches[len(simulated.batches) // 2 :]
    assert sum(late) / len(late) > 0.8 * owners


def test_the_rate_grows_with_the_owners_and_never_falls() -> None:
    rates = []
    for owners in (1, 2, 4, 8, 16, 32, 64):
        simulated = Simulated([Looping(f"owner {number}") for number in range(owners)])
        simulated.run(SECOND)
        rates.append(sum(simulated.had.values()))
    assert all(later > 0.98 * earlier for earlier, later in itertools.pairwise(rates))


def test_equal_owners_get_equal_shares() -> None:
    simulated = Simulated([Looping(f"owner {number}", think=5_000 * (1 + number % 4)) for number in range(8)])
    simulated.run(2 * SECOND)
    fair = sum(simulated.had.values()) / 8
    assert all(abs(had - fair) < 0.2 * fair for had in simulated.had.values())


def test_an_owner_with_many_connections_and_long_prompts_does_not_hold_up_another() -> None:
    alone = Simulated([Looping("polite")])
    alone.run(SECOND)
    greedy = [Looping("greedy", rows=256, think=0) for _ in range(16)]
    beside = Simulated([Looping("polite"), *greedy])
    beside.run(SECOND)
    waits = sorted(beside.waits["polite"])
    assert waits[int(0.99 * len(waits))] <= 2 * cost(256)
    assert beside.had["polite"] >= 0.5 * SECOND / (cost(256) + cost(1) + 10_000)


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes in whatever order, each call leaves once, and only what arrived leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.queue, self.now = queue(), 0
        self.known: dict[int, Waiting] = {}
        self.ports: Iterator[int] = itertools.count()

    @rule(
        segment=st.integers(0, SEGMENTS - 1),
        rows=st.integers(1, 256),
        owner=st.sampled_from("abc"),
        left=st.integers(0, 50),
    )
    def put(self, segment: int, rows: int, owner: str, left: int) -> None:
        port = next(self.ports)
        rows = min(rows, 32) if segment == SEGMENTS - 1 else rows
        self.queue.enter(owner)
        self.known[port] = Waiting(port, owner, segment, rows, self.now, self.now + left)
        self.queue.put(self.known[port])

    @rule(passed=st.integers(0, 10_000_000))
    def time_passes(self, passed: int) -> None:
        self.now += passed

    @precondition(lambda self: self.known)
    @rule(took=st.integers(1, 10_000_000))
    def run(self, took: int) -> None:
        assert self.queue.linger(self.now) >= 0
        batch = [self.known.pop(port) for port in self.queue.next(self.now)]
        assert batch
        assert len({waiting.segment for waiting in batch}) == 1
        assert sum(waiting.rows for waiting in batch) <= (256 if batch[0].segment < SEGMENTS - 1 else 32)
        self.now += took
        self.queue.ran(self.now, took)

    @rule()
    def expire(self) -> None:
        gone = self.queue.expired(self.now)
        assert set(gone) == {p for p, w in self.known.items() if w.expiry <= self.now}
        for port in gone:
            del self.known[port]

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        port = data.draw(st.sampled_from(sorted(self.known)))
        self.queue.withdraw(port)
        del self.known[port]

    @invariant()
    def nothing_is_lost(self) -> None:
        assert len(self.queue) == len(self.known)
        self.queue.check()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
