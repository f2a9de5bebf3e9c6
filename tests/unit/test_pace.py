"""The rows of prompts beside streams follow the times of steps, and never end."""

from twofold.schedule.pace import LEAST_ROWS, Pace
from twofold.units import Seconds

STALL = Seconds(0.05)


def after(steps: int, row_seconds: float, decoding: int = 8) -> Pace:
    """After so many steps of as many rows as fit, each row taking so long."""
    pace = Pace(256, STALL)
    for _ in range(steps):
        rows = decoding + pace.prompt_rows(decoding)
        pace.add(rows, decoding, row_seconds * rows)
    return pace


def test_a_prompt_alone_has_the_whole_step() -> None:
    assert after(20, 0.01).prompt_rows(0) == 256


def test_mixed_steps_settle_near_the_stall() -> None:
    for row_seconds in (0.0003, 0.001, 0.002):
        rows = 8 + after(20, row_seconds).prompt_rows(8)
        assert 0.8 * STALL < rows * row_seconds < 1.2 * STALL


def test_fast_steps_get_all_rows_again() -> None:
    pace = after(20, 0.002)
    for _ in range(20):
        rows = 8 + pace.prompt_rows(8)
        pace.add(rows, 8, 0.0001 * rows)
    assert pace.prompt_rows(8) == 248


def test_prompts_go_on_however_slow_steps_are_and_however_many_decode() -> None:
    pace = after(50, 1.0)
    assert pace.prompt_rows(8) == LEAST_ROWS
    assert pace.prompt_rows(250) == 6


def test_where_decoding_alone_is_slow_a_step_may_take_twice_that() -> None:
    pace = Pace(256, STALL)
    for _ in range(50):
        pace.add(8, 8, 0.1 + 8 * 0.001)
    for _ in range(20):
        rows = 8 + pace.prompt_rows(8)
        pace.add(rows, 8, 0.1 + rows * 0.001)
    assert 0.18 < 0.1 + (8 + pace.prompt_rows(8)) * 0.001 < 0.25


def test_the_rate_is_of_late() -> None:
    pace = after(200, 0.001)
    assert 900 < pace.rows_per_second < 1100
    assert Pace(256, STALL).rows_per_second == 0
