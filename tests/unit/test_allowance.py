import math

from hypothesis import given
from hypothesis import strategies as st

from twofold.processor.allowance import LONGEST_NS, NEVER, Allowance, Gate
from twofold.schedule.calls import Waiting
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


SECOND = 10**9


def call_of(port: int, rows: int, *, owner: str = "a", expiry: int = 10**18) -> Waiting:
    return Waiting(port, owner, 0, rows, 0, expiry)


def gate_of(**scopes: Scope) -> Gate:
    gate = Gate()
    for owner, scope in scopes.items():
        assert gate.limit(owner, scope, now=0)
    return gate


def test_an_owner_without_limits_need_not_pass_the_gate() -> None:
    assert not Gate().limit("a", Scope(expires=1, admin=True), now=0)


def test_calls_start_in_the_order_in_which_they_came_and_owners_do_not_wait_for_each_other() -> None:
    gate = gate_of(a=Scope(rows=4), b=Scope(rows=4))
    calls = [call_of(port, 3) for port in range(3)]
    for call in calls:
        gate.put(call)
    gate.put(other := call_of(9, 4, owner="b"))
    assert list(gate.ready(0)) == [calls[0], other]
    assert list(gate.ready(0)) == []
    gate.ended(0)
    assert list(gate.ready(0)) == [calls[1]]


def test_what_is_gone_takes_no_room_whether_it_had_started_or_not() -> None:
    gate = gate_of(a=Scope(rows=4))
    for port in range(3):
        gate.put(call_of(port, 4))
    assert [call.port for call in gate.ready(0)] == [0]
    for port in (1, 0, 0):
        gate.ended(port)
    assert [call.port for call in gate.ready(0)] == [2]


def test_the_pause_is_until_the_next_call_may_start() -> None:
    gate = gate_of(a=Scope(rate=10.0), b=Scope(rows=1))
    assert gate.pause(0) == LONGEST_NS
    for port in range(2):
        gate.put(call_of(port, 15))
    assert gate.pause(0) == 0
    assert len(list(gate.ready(0))) == 1
    assert gate.pause(0) == SECOND // 2
    assert len(list(gate.ready(SECOND // 2))) == 1
    assert gate.pause(SECOND) == LONGEST_NS


def test_who_connects_again_owes_what_was_owed() -> None:
    gate = gate_of(a=Scope(rate=10.0))
    gate.put(call_of(1, 30))
    assert list(gate.ready(0))
    gate.ended(1)
    assert gate.limit("a", Scope(rate=10.0), now=0)
    gate.put(call_of(2, 1))
    assert gate.pause(0) == 2 * SECOND


def test_calls_that_wait_here_expire() -> None:
    gate = gate_of(a=Scope(rows=1))
    started, late, later = call_of(1, 1, expiry=5), call_of(2, 1, expiry=5), call_of(3, 1, expiry=6)
    for call in (started, late, later):
        gate.put(call)
    assert list(gate.ready(0)) == [started]
    assert gate.expired(4) == []
    assert gate.expired(5) == [late]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 8), st.booleans(), st.integers(0, SECOND)), max_size=60))
def test_every_call_is_started_once_in_order_unless_it_left_before(events: list[tuple[int, int, bool, int]]) -> None:
    gate, now = gate_of(a=Scope(rows=8, rate=20.0)), 0
    asked: list[Waiting] = []
    started: list[Waiting] = []
    open_calls: dict[int, Waiting] = {}
    for port, rows, ends, pause in events:
        now += pause
        if port in open_calls and ends:
            gate.ended(port)
            left = open_calls.pop(port)
            asked = [call for call in asked if call is not left or call in started]
        elif port not in open_calls:
            open_calls[port] = call = call_of(port, rows)
            asked.append(call)
            gate.put(call)
        started += gate.ready(now)
        assert sum(call.rows for call in started if open_calls.get(call.port) is call) <= 8
    while open_calls:
        now += SECOND
        started += gate.ready(now)
        for port, call in list(open_calls.items()):
            if call in started:
                gate.ended(port)
                del open_calls[port]
    assert started == asked
