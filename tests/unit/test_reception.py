"""While calls come, strangers get a share of the time; otherwise everybody is let in."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold import link
from twofold.link.base import Listener
from twofold.link.desk import Desk
from twofold.processor.reception import BURST_NS, BUSY_NS, SHARE, Reception

MS = 1_000_000
START = 10 * BUSY_NS


class Watched(Desk):
    """A desk that knows how many descriptors are watched, beside its own."""

    def __init__(self) -> None:
        self.count = -1
        super().__init__()

    def add(self, *what):  # type: ignore[no-untyped-def]
        self.count += 1
        return super().add(*what)

    def remove(self, place):  # type: ignore[no-untyped-def]
        self.count -= 1
        super().remove(place)


@pytest.fixture(scope="module")
def listeners() -> Iterator[list[Listener]]:
    found = [link.listen("tcp://127.0.0.1:0"), link.listen("tcp://127.0.0.1:0")]
    yield found
    for listener in found:
        listener.close()


@pytest.fixture
def desk() -> Iterator[Watched]:
    desk = Watched()
    yield desk
    desk.close()


def test_the_door_shuts_when_the_burst_is_spent_and_opens_when_it_is_paid_back(
    desk: Watched, listeners: list[Listener]
) -> None:
    reception = Reception(desk, listeners)
    assert reception.look(START, START) == 0
    assert desk.count == 2
    reception.spent(BURST_NS + 3 * MS)
    opens = reception.look(START, START)
    assert desk.count == 0
    assert opens - START == int(3 * MS / SHARE)
    assert reception.look(opens - MS, START) == pytest.approx(opens, abs=2)
    assert desk.count == 0
    assert reception.look(opens + 2, START) == 0
    assert desk.count == 2


def test_while_nobody_calls_the_door_is_open(desk: Watched, listeners: list[Listener]) -> None:
    reception = Reception(desk, listeners)
    for turn in range(20):
        now = START + turn * MS
        assert reception.look(now, now - BUSY_NS - 1) == 0
        reception.spent(10 * BURST_NS)
    assert desk.count == 2


def test_a_rest_is_kept_whether_anybody_calls_or_not(desk: Watched, listeners: list[Listener]) -> None:
    reception = Reception(desk, listeners)
    reception.rest(START + 5 * MS)
    assert reception.look(START, 0) == START + 5 * MS
    assert desk.count == 0
    assert reception.look(START + 5 * MS, 0) == 0
    assert desk.count == 2


@given(st.lists(st.tuples(st.integers(0, 50 * MS), st.integers(0, 5 * MS)), min_size=1, max_size=60))
def test_strangers_never_get_more_than_their_share_and_one_burst(turns: list[tuple[int, int]]) -> None:
    desk, listener = Watched(), link.listen("tcp://127.0.0.1:0")
    reception = Reception(desk, [listener])
    now, spent = START, 0
    for passes, costs in turns:
        now += passes
        if not reception.look(now, now):
            reception.spent(costs)
            spent += costs
    assert spent <= BURST_NS + SHARE * (now - START) + 5 * MS + len(turns)
    desk.close()
    listener.close()
