"""Masks: all are made when the step is over, and those that take long are made while it runs."""

import threading

import pytest

from twofold.engine.masks import HANDOVER, Mask, Masks
from twofold.errors import RequestError


class Costing:
    """A mask that takes `seconds` of a clock that stands still otherwise."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now = seconds, 0.0
        self.threads: list[str] = []
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()

    def prepare(self) -> None:
        self.threads.append(threading.current_thread().name)
        self.began.set()
        assert self.may_end.wait(10)
        self.now += self.seconds

    def mask(self) -> Mask:
        return Mask(self, lambda: self.now)


@pytest.fixture
def masks():  # type: ignore[no-untyped-def]
    made = Masks()
    yield made
    made.close()


def test_a_costly_mask_is_made_while_the_step_runs(masks: Masks) -> None:
    costing = Costing(2 * HANDOVER)
    mask = costing.mask()
    with masks.made([mask]):  # nothing is known of it yet
        pass
    costing.began.clear()
    costing.may_end.clear()
    with masks.made([mask]):
        assert costing.began.wait(10)  # under way, and not made
        assert costing.now == costing.seconds
        costing.may_end.set()
    assert costing.now == 2 * costing.seconds
    assert costing.threads[0] == threading.current_thread().name != costing.threads[1]


def test_a_cheap_mask_is_made_where_the_step_begins(masks: Masks) -> None:
    costing = Costing(HANDOVER / 2)
    mask = costing.mask()
    for count in (1, 2, 3):
        with masks.made([mask]):
            assert len(costing.threads) == count
    assert set(costing.threads) == {threading.current_thread().name}


def test_the_cheap_are_made_beside_the_costly(masks: Masks) -> None:
    costly, cheap = Costing(1.0), Costing(0.0)
    first, second = costly.mask(), cheap.mask()
    with masks.made([first, second]):
        pass
    costly.may_end.clear()
    with masks.made([first, second]):
        assert (len(cheap.threads), costly.now) == (2, 1.0)
        costly.may_end.set()
    assert costly.now == 2.0


def test_masks_are_made_even_if_the_step_fails(masks: Masks) -> None:
    costly = Costing(1.0)
    mask = costly.mask()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), masks.made([mask]):
            raise ZeroDivisionError
    assert costly.now == 2.0


def test_a_constraint_that_became_too_costly_fails_no_step(masks: Masks) -> None:
    class Refusing(Costing):
        def prepare(self) -> None:
            super().prepare()
            raise RequestError("too costly")

    refusing = Refusing(1.0)
    mask = refusing.mask()
    for count in (1, 2):
        with masks.made([mask]):
            pass
        assert len(refusing.threads) == count
