"""The scheduler: nobody starves, owners share, prompts do not stall streams, pages are never lost or wrong."""

import itertools
import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from simulated import Asked, Simulated, seconds_of

from twofold.cache.pages import PAGE_POSITIONS, PageTable
from twofold.errors import Overloaded, RequestError
from twofold.schedule.batching import AGEING, Scheduler
from twofold.schedule.stream import Room
from twofold.units import Seconds

FRESH = itertools.count()


def prompt(count: int) -> list[int]:
    """Tokens that no other prompt begins with."""
    return [next(FRESH) + (1 << 20), *range(1, count)]


def asked(count: int, answer: int, **more: object) -> Asked:
    return Asked(prompt(count), answer, **more)  # type: ignore[arg-type]


def test_streams_decode_together_in_one_step() -> None:
    server = Simulated()
    server.run([asked(10, 20) for _ in range(8)])
    assert [step.rows for step in server.steps] == [80, *[8] * 19]


def test_the_age_of_the_oldest_that_waits_is_known() -> None:
    scheduler = Scheduler(PageTable(200), Room(context_length=4096, running=1))
    scheduler.submit(prompt(10), 50, now=Seconds(0.0))
    scheduler.plan(Seconds(0.0))
    waiting = [scheduler.submit(prompt(10), 5, now=Seconds(now)) for now in (1.0, 2.0)]
    assert scheduler.oldest_waiting(Seconds(4.0)) == 3.0
    scheduler.end(waiting[0].number)
    assert scheduler.oldest_waiting(Seconds(4.0)) == 2.0
    scheduler.end(waiting[1].number)
    assert scheduler.oldest_waiting(Seconds(4.0)) == 0.0


def test_a_step_has_no_more_rows_or_logits_than_there_is_room_for_and_nobody_is_left_out() -> None:
    server = Simulated(rows=64, heads=8)
    requests = [asked(100, 30) for _ in range(20)]
    server.run(requests)
    assert all(request.ended for request in requests)
    worst = max(gap for request in requests for gap in request.gaps[1:])
    assert worst < 6 * seconds_of(64)


def test_a_long_prompt_does_not_stall_the_streams_beside_it() -> None:
    server = Simulated(stall=0.05)
    streams = [asked(10, 200) for _ in range(8)]
    long = asked(3000, 5, arrived=0.5)
    server.run([*streams, long])
    assert max(gap for stream in streams for gap in stream.gaps[1:]) < 2 * 0.05
    alone = Simulated()
    lone = asked(3000, 5)
    alone.run([lone])
    assert long.first is not None
    assert lone.first is not None
    assert long.first - 0.5 < 3 * lone.first


def test_a_prompt_that_was_seen_is_not_computed_again() -> None:
    server = Simulated()
    tokens = prompt(300)
    first, second = Asked(tokens, 5), Asked(tokens, 5)
    server.run([first])
    computed = server.rows
    server.run([second])
    assert (first.cached, second.cached) == (0, 4 * PAGE_POSITIONS)
    assert server.rows - computed == 300 - 4 * PAGE_POSITIONS + 4


def test_the_last_token_of_a_prompt_is_computed_even_if_all_its_pages_are_known() -> None:
    server = Simulated()
    tokens = prompt(2 * PAGE_POSITIONS)
    server.run([Asked(tokens, 2)])
    again = Asked(tokens, 2)
    server.run([again])
    assert again.cached == PAGE_POSITIONS


def test_requests_that_begin_alike_and_come_together_compute_the_beginning_once() -> None:
    server = Simulated()
    beginning = prompt(10 * PAGE_POSITIONS)
    requests = [Asked([*beginning, number, 7], 3) for number in range(10)]
    server.run(requests)
    assert server.rows == len(beginning) + 10 * 2 + 10 * 2
    assert sum(request.cached for request in requests) == 9 * len(beginning)


def test_the_next_turn_of_a_conversation_finds_the_answer_too() -> None:
    server = Simulated()
    turn = asked(100, 101)
    stream = server.submit(turn)
    assert stream is not None
    server.run()
    following = Asked([*stream.tokens, 5, 6, 7], 3)
    server.run([following])
    assert following.cached == 200 // PAGE_POSITIONS * PAGE_POSITIONS


@pytest.mark.parametrize("outside", [0, 100])
def test_streams_that_do_not_fit_together_make_room_and_are_all_answered(outside: int) -> None:
    server = Simulated(pages=12, outside_pages=outside)
    requests = [asked(60, 200) for _ in range(6)]
    server.run(requests)
    assert server.scheduler.preemptions > 0
    assert all(request.ended for request in requests)
    recomputed = server.rows - sum(len(request.tokens) + request.answer - 1 for request in requests)
    assert (recomputed == 0) == (outside > 0)
    assert server.pages.free_pages + server.pages.idle_pages == 12


def test_who_came_first_keeps_its_pages() -> None:
    server = Simulated(pages=12)
    requests = [asked(60, 200) for _ in range(6)]
    server.run(requests)
    ends = [request.ended for request in requests]
    assert ends[0] == min(ends, key=lambda end: end or 0.0)


def test_streams_beyond_the_logits_of_a_step_take_turns() -> None:
    server = Simulated(heads=4)
    streams = [stream for _ in range(10) if (stream := server.submit(asked(5, 1000))) is not None]
    while not all(stream.given for stream in streams):
        server.step()
    for _ in range(50):
        server.step()
        assert max(stream.given for stream in streams) <= min(stream.given for stream in streams) + 1


def test_who_is_let_in_is_not_put_out_for_the_next_page() -> None:
    server = Simulated(pages=8)
    requests = [asked(60, 60) for _ in range(6)]
    server.run(requests)
    assert server.scheduler.preemptions == 0
    assert all(request.ended for request in requests)


def test_the_oldest_is_never_put_out_and_who_is_put_out_of_a_step_is_not_in_it() -> None:
    server = Simulated(pages=7, heads=2, running=4)
    for _ in range(4):
        server.submit(asked(50, 300))
    server.step()
    while server.streams:
        oldest = min(server.streams)
        step = server.step()
        assert oldest not in server.streams or server.scheduler[oldest].session is not None
        assert all(number not in step.parts for move in step.moves if not move.inward for number in [move.number])
    assert server.scheduler.preemptions > 3


def test_a_prompt_that_can_never_fit_is_refused_at_once_with_the_reason() -> None:
    server = Simulated(pages=4)
    with pytest.raises(RequestError, match="prompt has 256 tokens, but only 255 fit"):
        server.submit(asked(256, 1))
    with pytest.raises(RequestError, match="context has 100 positions"):
        Simulated(context_length=100).submit(asked(100, 1))
    last = asked(255, 50)
    server.run([last])
    assert last.ended
    assert len(last.gaps) == 1


def test_equal_owners_get_equal_shares_whatever_they_ask() -> None:
    server = Simulated(checks=False, running=16, waiting=4000, patience=1e9)
    chance = random.Random(3)
    requests = []
    for owner, (number, length, answer) in {
        "few": (200, 300, 5),
        "many": (600, 60, 60),
        "mixed": (400, 30, 100),
    }.items():
        requests += [asked(chance.randint(2, 2 * length), answer, owner=owner) for _ in range(number)]
    server.run(requests, until=8.0)
    assert len({server.streams[number].owner for number in server.streams}) == 3, "all have work all the time"
    fair = sum(server.had.values()) / 3
    assert all(abs(had - fair) < 0.2 * fair for had in server.had.values()), server.had


def test_an_owner_that_floods_does_not_hold_up_another() -> None:
    flood = [asked(200, 50, owner="flood") for _ in range(300)]
    polite = [asked(50, 20, owner="polite", arrived=0.5 + number) for number in range(10)]
    server = Simulated(checks=False, running=16, waiting=1000, patience=1e9)
    server.run([*flood, *polite], until=15)
    waits = [request.first - request.arrived for request in polite if request.first is not None]
    assert len(waits) == 10
    assert max(waits) < 0.3
    assert server.streams, "the flood is still there"


def test_a_flood_leaves_places_for_others_in_the_queue() -> None:
    server = Simulated(running=1, waiting=64)
    flood = [asked(50, 50, owner="flood") for _ in range(100)]
    for request in flood:
        server.submit(request)
    assert sum(request.refused is None for request in flood) == 32
    polite = [asked(50, 50, owner="polite") for _ in range(100)]
    for request in polite:
        server.submit(request)
    assert sum(request.refused is None for request in polite) == 16
    assert server.submit(asked(50, 50, owner="third")) is not None


def test_the_more_urgent_goes_first_and_the_less_urgent_is_not_starved() -> None:
    server = Simulated(checks=False, running=4, waiting=1000, patience=1e9)
    urgent = [asked(50, 50, priority=0, owner=f"{n % 3}", arrived=0.03 * n) for n in range(300)]
    patient = asked(50, 5, priority=1, owner="patient", arrived=0.5)
    server.run([*urgent, patient], until=20)
    early = [request for request in urgent if 0.5 < request.arrived < 4 and request.first]
    assert patient.first is not None
    assert len(early) > 50
    assert AGEING < patient.first - patient.arrived < 1.2 * AGEING


def test_a_refusal_says_honestly_when_to_come_back() -> None:
    server = Simulated(running=8, waiting=1000, patience=5.0)
    load = [asked(100, 100) for _ in range(400)]
    server.run(load[:20], until=1.0)
    for request in load[20:]:
        server.submit(request)
    refused = [request.refused for request in load if request.refused]
    assert refused
    back, later = server.now + refused[0].retry_after_seconds, asked(100, 100)
    server.run(until=back)
    assert server.submit(later) is not None
    server.run(until=back + 10)
    assert later.first is not None
    assert later.first - later.arrived < 2 * 5.0
    waits = [request.first - request.arrived for request in load if request.first]
    assert max(waits) < 2 * 5.0, "who was let in was promised so much"


def test_a_full_queue_has_room_again_when_the_refusal_says_and_not_much_before() -> None:
    server = Simulated(running=2, waiting=16, patience=1e9)
    server.run([asked(20, 900)])
    start = server.now
    server.run([asked(20, 900, arrived=start + late) for late in (0.0, 1.7)], until=start + 2)
    refused = None
    while refused is None:
        last = asked(20, 900)
        server.submit(last)
        refused = last.refused
    after = refused.retry_after_seconds
    assert after > 1
    start = server.now
    server.run(until=start + after / 4)
    assert server.submit(asked(20, 900)) is None
    server.run(until=start + 1.5 * after)
    assert server.submit(asked(20, 900)) is not None


def test_who_was_let_in_does_not_wait_longer_than_is_promised_for_under_steady_overload() -> None:
    chance = random.Random(1)
    arrivals, at = [], 0.0
    while at < 60:
        at += chance.expovariate(45)  # about 1.5 times what can be served
        arrivals.append(
            asked(chance.randint(5, 100), chance.randint(1, 60), owner=str(chance.randrange(5)), arrived=at)
        )
    server = Simulated(checks=False, running=32, patience=3.0)
    server.run(arrivals)
    server.scheduler.check()
    refused = sum(request.refused is not None for request in arrivals)
    waits = sorted(request.first - request.arrived for request in arrivals if request.first is not None)
    assert 0.1 < refused / len(arrivals) < 0.6
    assert len(waits) + refused == len(arrivals)
    assert waits[int(0.99 * len(waits))] < 2 * 3.0


class AnyOrder(RuleBasedStateMachine):
    """Whatever comes in whatever order, every invariant holds after each event, and what is left can be answered."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Simulated(
            pages=9, rows=96, heads=3, running=5, waiting=12, outside_pages=6, patience=2.0, context_length=400
        )

    @rule(
        words=st.lists(st.integers(0, 1), max_size=4),
        rest=st.integers(1, 70),
        answer=st.integers(1, 90),
        owner=st.sampled_from("abc"),
        priority=st.integers(-1, 2),
    )
    def submit(self, words: list[int], rest: int, answer: int, owner: str, priority: int) -> None:
        tokens = [word for word in words for _ in range(PAGE_POSITIONS)] + [9] * rest
        self.server.submit(Asked(tokens, answer, owner, priority))

    @rule(fails=st.booleans())
    def step(self, fails: bool) -> None:
        self.server.step(fails=fails)

    @rule(count=st.integers(2, 40))
    def steps(self, count: int) -> None:
        for _ in range(count):
            self.server.step()

    @precondition(lambda self: self.server.streams)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.server.end(data.draw(st.sampled_from(sorted(self.server.streams))))

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        self.server.now += seconds

    @invariant()
    def all_is_where_it_should_be(self) -> None:
        self.server.scheduler.check()

    def teardown(self) -> None:
        self.server.run()
        pages = self.server.pages
        assert pages.free_pages + pages.idle_pages == pages.pages
        self.server.scheduler.prefixes.give_back(pages.pages)
        assert pages.free_pages == pages.pages


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_check_notices_a_session_that_belongs_to_nobody() -> None:
    server = Simulated()
    server.submit(asked(5, 5))
    server.step()
    server.pages.open()
    with pytest.raises(AssertionError, match="belongs to nobody"):
        server.scheduler.check()


def test_a_kept_context_goes_on_where_it_was() -> None:
    server = Simulated()
    tokens = prompt(150)
    stream = server.scheduler.submit(tokens, 3, now=Seconds(0), seen=140)
    step = server.scheduler.plan(Seconds(0))
    assert [(move.number, len(move.pages), move.inward) for move in step.moves] == [(stream.number, 3, True)]
    assert [part.tokens for part in step.parts.values()] == [tokens[140:]]
    assert isinstance(server.scheduler, Scheduler)


def test_a_refusal_names_how_many_wait() -> None:
    server = Simulated(running=1, waiting=4)
    for _ in range(2):
        server.submit(asked(5, 5))
    with pytest.raises(Overloaded, match="2 requests wait already, 2 of them with this key"):
        server.scheduler.submit(prompt(5), 5, now=Seconds(0))
