"""How many lanes: never much slower than one, nearly as quick as the best, in simulation; and dealing loses no row."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.schedule.lanes import FORGET_NS, MOST_LANES, LaneChoice, Piece, Ran, deal

MOST = 256
LAYERS = 31
US = 1000.0


@dataclass
class World:
    """What calls take, in microseconds, by their rows; `own` is this side's part of a call that nothing overlaps."""

    work: Callable[[float], float]
    link: Callable[[float], float]
    context: Callable[[float], float]
    own: float = 5.0
    noise: float = 0.05
    now: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    def step(self, rows: int, lanes: int) -> Ran:
        """A step of so many rows, a lane at most MOST."""
        done = min(rows, lanes * MOST)
        each = done / lanes
        work, link, context = self.work(each), self.link(each), self.context(each)
        alone = work + link + context + self.own
        layer = max(lanes * work, lanes * (context + self.own), alone) if lanes > 1 else alone
        took = LAYERS * layer * (1 + abs(self.dice.gauss(0, self.noise)))
        return Ran(*(int(US * t) for t in (took, LAYERS * lanes * work, LAYERS * lanes * context)), LAYERS * lanes)

    def rate(self, rows: int, lanes: int) -> float:
        """Rows a nanosecond, without noise."""
        quiet, self.noise = self.noise, 0.0
        took = self.step(rows, lanes).took
        self.noise = quiet
        return min(rows, lanes * MOST) / took


def smollm2(rows: float) -> float:
    """Microseconds of a segment: nearly flat, then in proportion."""
    return max(45 + 2 * rows, 18 * rows if rows > 32 else 0)


SHM = World(smollm2, lambda r: 8 + 0.5 * r, lambda r: 2 + r)
WORLDS = {
    "shm": SHM,
    "tcp": World(smollm2, lambda r: 20 + r, lambda r: 2 + r, own=15),
    "0.3 ms": World(smollm2, lambda r: 320 + r, lambda r: 2 + r, own=15),
    "3 ms": World(smollm2, lambda r: 3020 + r, lambda r: 2 + r, own=15),
    "long contexts": World(smollm2, lambda r: 20 + r, lambda r: 40 * r),
    "noisy": World(smollm2, lambda r: 20 + r, lambda r: 2 + r, own=15, noise=0.5),
    "one call at a time": World(smollm2, lambda r: 20 + r, lambda r: 2 + r, own=2000),
    "expensive calls": World(smollm2, lambda r: 20 + r, lambda r: 2 + r, own=100),
}


def world_of(name: str) -> World:
    """A world of its own."""
    return replace(WORLDS[name], dice=random.Random(7))


def run(world: World, rows: Callable[[int], int], choice: LaneChoice, steps: int) -> tuple[int, float, float]:
    """(time of all steps, what they would have taken in one lane, with the best number each time)."""
    took, one, best = 0, 0.0, 0.0
    for turn in range(steps):
        asked = rows(turn)
        lanes = choice.choose(asked, MOST, world.now)
        assert 1 <= lanes <= min(MOST_LANES, asked)
        ran = world.step(asked, lanes)
        world.now += ran.took
        took += ran.took
        done = min(asked, lanes * MOST) * (1 + world.noise * 0.8)
        one += done / world.rate(asked, 1)
        best += done / max(world.rate(asked, n) for n in (1, 2, 4, 8) if n <= asked)
        choice.ran(asked, MOST, lanes, ran, world.now)
    return took, one, best


@pytest.mark.parametrize("rows", [1, 2, 4, 8, 16, 700])
@pytest.mark.parametrize("name", WORLDS)
def test_it_is_never_much_slower_than_one_lane_and_nearly_as_quick_as_the_best(name: str, rows: int) -> None:
    took, one, best = run(world_of(name), lambda turn: rows, LaneChoice(), 3000 if rows < 100 else 300)
    assert took <= 1.03 * one
    if WORLDS[name].noise < 0.1:
        assert took <= 1.08 * best


@pytest.mark.parametrize("name", ["shm", "0.3 ms", "expensive calls", "one call at a time"])
def test_numbers_of_rows_that_change_all_the_time_cost_no_more(name: str) -> None:
    rng = random.Random(3)
    choice, world = LaneChoice(), world_of(name)
    for _ in range(4):
        took, one, _ = run(world, lambda turn: rng.choice([2, 3, 4, 5, 6, 9, 11, 14, 17, 22, 30, 40, 200]), choice, 500)
        assert took <= 1.03 * one


def test_a_slow_beginning_is_not_what_others_are_held_against() -> None:
    world, choice = world_of("expensive calls"), LaneChoice()
    ran = world.step(4, 1)
    choice.ran(4, MOST, 1, ran._replace(took=5 * ran.took), world.now)
    run(world, lambda turn: 4, choice, 50)
    assert sum(choice.choose(4, MOST, world.now + i) == 1 for i in range(3)) == 3


def test_one_lane_is_measured_again_now_and_then() -> None:
    world, choice = world_of("long contexts"), LaneChoice()
    run(world, lambda turn: 16, choice, 100)
    chosen = []
    for _ in range(200):
        chosen.append(choice.choose(16, MOST, world.now))
        ran = world.step(16, chosen[-1])
        world.now += ran.took
        choice.ran(16, MOST, chosen[-1], ran, world.now)
    assert 2 <= chosen.count(1) <= 10


def test_a_prefill_is_dealt_to_several_lanes_after_its_first_step() -> None:
    world, choice = world_of("long contexts"), LaneChoice()
    assert choice.choose(700, MOST, world.now) == 1
    choice.ran(700, MOST, 1, world.step(700, 1), world.now)
    assert choice.choose(444, MOST, world.now) > 1


def test_what_was_learnt_is_unlearnt_when_the_world_changes() -> None:
    choice, before = LaneChoice(), world_of("long contexts")
    after = replace(world_of("expensive calls"), own=150.0)
    run(before, lambda turn: 16, choice, 500)
    assert choice.choose(16, MOST, before.now) > 1
    after.now = before.now
    took, one, _ = run(after, lambda turn: 16, choice, 2 * FORGET_NS // int(1 / after.rate(16, 1) * 16))
    assert choice.choose(16, MOST, after.now) == 1
    assert took <= 1.5 * one


def test_nothing_is_tried_that_cannot_pay() -> None:
    """Where weight memory is all that takes time, several lanes only cost."""
    world, choice = World(lambda r: 100 * r, lambda r: 0.5, lambda r: 0.5, own=0.0, noise=0.0), LaneChoice()
    for _ in range(200):
        assert choice.choose(8, MOST, world.now) == 1
        ran = world.step(8, 1)
        world.now += ran.took
        choice.ran(8, MOST, 1, ran, world.now)


PARTS = st.lists(st.integers(1, 300).flatmap(lambda rows: st.tuples(st.just(rows), st.integers(0, rows))), min_size=1)


@given(PARTS, st.integers(1, 8), st.integers(1, 256), st.integers(1, 32))
def test_dealing_keeps_every_row_in_order_and_every_limit(
    parts: list[tuple[int, int]], lanes: int, most: int, most_wanted: int
) -> None:
    loads = deal(parts, lanes, most=most, most_wanted=most_wanted)
    rows = [(piece.part, piece.first + i) for load in loads for piece in load for i in range(piece.rows)]
    assert rows == [(part, row) for part, (count, _) in enumerate(parts) for row in range(count)]
    for load in loads:
        assert 1 <= sum(piece.rows for piece in load) <= most
        assert sum(piece.wanted for piece in load) <= most_wanted
        for piece in load:
            count, wanted = parts[piece.part]
            kept = range(piece.first, piece.first + piece.rows)
            assert piece.wanted == sum(row >= count - wanted for row in kept)
    total, limit = sum(count for count, _ in parts), max(sum(p.rows for p in load) for load in loads)
    assert limit <= -(-total // lanes)


def test_dealing_is_even() -> None:
    assert deal([(1, 1)] * 5, 2, most=256, most_wanted=32) == [
        [Piece(0, 0, 1, 1), Piece(1, 0, 1, 1), Piece(2, 0, 1, 1)],
        [Piece(3, 0, 1, 1), Piece(4, 0, 1, 1)],
    ]
    assert deal([(444, 2)], 2, most=256, most_wanted=32) == [[Piece(0, 0, 222, 0)], [Piece(0, 222, 222, 2)]]
