"""Sets of segments as text: what is written is read back, and nothing else is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.errors import ConfigurationError
from twofold.model.ranges import LIMIT, parse_ranges, ranges_text


@given(st.frozensets(st.integers(0, LIMIT - 1), min_size=1, max_size=50))
def test_what_is_written_is_read_back(numbers: frozenset[int]) -> None:
    assert parse_ranges(ranges_text(numbers)) == numbers


@given(st.text(max_size=20) | st.text("0123456789-,", max_size=12))
def test_any_text_is_read_as_numbers_below_the_limit_or_refused(text: str) -> None:
    try:
        numbers = parse_ranges(text)
    except ConfigurationError:
        return
    assert numbers
    assert all(0 <= number < LIMIT for number in numbers)
    assert parse_ranges(ranges_text(numbers)) == numbers


def test_runs_are_written_as_ranges() -> None:
    assert ranges_text([7, 0, 1, 2, 3, 2]) == "0-3,7"
    assert ranges_text([]) == "none"
    assert parse_ranges(" 0-3, 7,7-8 ") == {0, 1, 2, 3, 7, 8}


@pytest.mark.parametrize("text", ["", ",", "1-", "-1", "3-1", "a", "0-65536", "٣", "1 2", "1,,2", "9" * 400])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="not a list of segments"):
        parse_ranges(text)
