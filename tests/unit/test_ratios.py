"""Ratios and bars of the comparison: formed inside a round, against the best peer of that round, and judged."""

import compare
import pytest
import ratios
from ratios import BARS, BEST, Bar, Row, missed

from twofold.errors import ConfigurationError, RequestError

ROUNDS = [
    {"twofold": 300.0, "a": 100.0, "b": 50.0},
    {"twofold": 100.0, "a": 10.0, "b": 50.0},
    {"twofold": 90.0, "a": 30.0, "b": 10.0},
]


def row(against: str, median: float) -> Row:
    return {against: {"minimum": 0.0, "median": median, "maximum": 9.0}}


def test_ratios_are_formed_in_each_round_and_the_best_peer_may_change() -> None:
    found = ratios.ratios(ROUNDS)
    assert found["a"] == {"minimum": 3.0, "median": 3.0, "maximum": 10.0}
    assert found["b"] == {"minimum": 2.0, "median": 6.0, "maximum": 9.0}
    assert found[BEST] == {"minimum": 2.0, "median": 3.0, "maximum": 3.0}


def test_of_seconds_the_best_peer_is_the_quickest() -> None:
    assert ratios.ratios(ROUNDS[:1], less_is_better=True)[BEST]["median"] == 6.0


def test_alone_there_is_nothing_to_be_compared_with() -> None:
    assert ratios.ratios([{"twofold": 5.0}]) == {}


@pytest.mark.parametrize("value", [0.0, -3.0, float("nan")])
def test_what_cannot_have_been_measured_is_refused(value: float) -> None:
    with pytest.raises(RequestError, match=r"a gave .* no measurement"):
        ratios.ratios([{"twofold": 1.0, "a": value}])


def test_a_bar_holds_the_median_from_below_or_from_above() -> None:
    least, most = Bar("w", BEST, 2.0), Bar("w", BEST, most=1.0)
    assert least.missed({"w": row(BEST, 2.0)}) is None
    assert least.missed({"w": row(BEST, 1.99)}) == "w: 1.99 of best peer, at least 2.0 is wanted"
    assert most.missed({"w": row(BEST, 1.0)}) is None
    assert most.missed({"w": row(BEST, 1.01)}) == "w: 1.01 of best peer, at most 1.0 is wanted"


def test_a_ratio_that_was_not_measured_misses_its_bar_if_its_work_ran() -> None:
    assert missed("llama-1b-q8_0", {"decode 1": {}}, ["decode 1"]) == ["decode 1: no ratio to best peer was measured"]
    assert missed("llama-1b-q8_0", {}, []) == []


def test_a_model_without_bars_cannot_be_checked() -> None:
    with pytest.raises(ConfigurationError, match="no bars are known for other; they are of smollm2"):
        missed("other", {}, [])


def test_every_bar_is_of_a_work_that_is_measured_and_says_one_thing() -> None:
    for bars in BARS.values():
        assert {bar.work for bar in bars} <= set(compare.NAMES)
        assert all((bar.least is None) != (bar.most is None) for bar in bars)
