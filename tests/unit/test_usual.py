"""Usual times: patience follows them, and a pause does not pass for one."""

import pytest

from twofold.memory.usual import LEAST_PATIENCE, TIMES_USUAL, UNKNOWN_PATIENCE, Slowness, Usual


def test_patience_is_a_multiple_of_the_usual_time_of_calls_alike() -> None:
    usual = Usual()
    for _ in range(5):
        usual.add(3, 200, 0.5)
    assert usual.patience(3, 129) == TIMES_USUAL * 0.5
    assert usual.patience(3, 255) == TIMES_USUAL * 0.5
    assert usual.patience(3, 1) == UNKNOWN_PATIENCE
    assert usual.patience(4, 200) == UNKNOWN_PATIENCE


def test_short_calls_still_get_the_least_patience() -> None:
    usual = Usual()
    usual.add(0, 1, 1e-4)
    assert usual.patience(0, 1) == LEAST_PATIENCE


def test_one_pause_does_not_make_patience_long_but_lasting_slowness_does() -> None:
    usual = Usual()
    usual.add(0, 1, 0.02)
    assert usual.add(0, 1, 3.0) == pytest.approx(150)
    assert usual.patience(0, 1) < 1.2 * TIMES_USUAL * 0.02
    for _ in range(100):
        usual.add(0, 1, 0.2)
    assert usual.patience(0, 1) == pytest.approx(TIMES_USUAL * 0.2, rel=0.01)


def test_levels_of_slowness_double_and_fade() -> None:
    slowness = Slowness()
    assert slowness.level == 0
    for _ in range(40):
        slowness.add(4.0)
    assert slowness.level == 2
    for _ in range(40):
        slowness.add(1.2)
    assert slowness.level == 0
    slowness.add(0.0)
    assert slowness.level == 0
