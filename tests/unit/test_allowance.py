import math

from hypothesis import given
from hypothesis import strategies as st

from twofold.processor.allowance import NEVER, Allowance, most_rows
from twofold.store.grant import Scope

counts = st.integers(1, 256)


def test_without_limits_nothing_waits() -> None:
    allowance = Allowance(Scope(), now=0.0)
    for _ in range(100):
        assert allowance.wait(10**6, now=0.0) == 0
        allowance.start(10**6, now=0.0)


@given(st.floats(0.1, 1000), st.lists(st.tuples(counts, st.floats(0, 2)), min_size=1, max_size=60))
def test_over_any_time_no_more_rows_start_than_the_rate_a_second_s_worth_and_one_call(
    rate: float, calls: list[tuple[int, float]]
) -> None:
    allowance, now, starts = Allowance(Scope(rate=rate), now=5.0), 5.0, []
    for count, pause in calls:
        now += pause
        wait = allowance.wait(count, now)
        assert wait < math.inf
        now += wait
        assert allowance.wait(count, now) <= 1e-6  # after the wait it may start
        allowance.start(count, now)
        starts.append((now, count))
    for at, (begin, _) in enumerate(starts):
        for until, (end, last) in enumerate(starts[at:], at):
            rows = sum(count for _, count in starts[at : until + 1])
            assert rows <= rate * (end - begin + 1) * (1 + 1e-9) + last + 1e-6


def test_rows_wait_no_longer_than_what_is_owed() -> None:
    allowance = Allowance(Scope(rate=10.0), now=0.0)
    allowance.start(30, now=0.0)  # 10 were there, 20 are owed
    assert allowance.wait(1, now=0.0) == 2.0
    assert allowance.wait(256, now=1.5) == 0.5
    assert allowance.wait(1, now=2.0) == 0.0
    assert allowance.wait(1, now=1.0) == 1.0  # a question changes nothing


def test_idleness_saves_up_one_second_and_no_more() -> None:
    allowance = Allowance(Scope(rate=10.0), now=0.0)
    allowance.start(20, now=1000.0)
    assert allowance.wait(1, now=1000.0) == 1.0


@given(st.integers(1, 100), st.lists(st.tuples(st.booleans(), counts), max_size=60))
def test_the_rows_at_work_stay_within_the_bound_or_are_one_call(bound: int, events: list[tuple[bool, int]]) -> None:
    allowance, at_work = Allowance(Scope(rows=bound), now=0.0), []
    for ends, count in events:
        if ends and at_work:
            allowance.end(at_work.pop(0))
        elif allowance.wait(count, now=0.0) == 0:
            allowance.start(count, now=0.0)
            at_work.append(count)
        else:
            assert allowance.wait(count, now=0.0) is NEVER
            assert at_work
        assert sum(at_work) <= bound or len(at_work) == 1
    for count in at_work:
        allowance.end(count)
    assert allowance.wait(bound, now=0.0) == 0


def test_a_call_is_no_larger_than_the_rows_that_may_be_at_work() -> None:
    assert (most_rows(256, Scope()), most_rows(256, Scope(rows=7)), most_rows(32, Scope(rows=100))) == (256, 7, 32)
