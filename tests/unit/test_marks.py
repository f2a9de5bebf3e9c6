"""Marks: the end of a text that may yet become one is as long as can be, and never a whole mark."""

from hypothesis import given
from hypothesis import strategies as st

from twofold.model.marks import undecided


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=5), max_size=3))
def test_it_is_the_longest_end_that_begins_a_mark(text: str, marks: list[str]) -> None:
    fitting = [n for n in range(1, len(text) + 1) if any(m.startswith(text[-n:]) and len(m) > n for m in marks)]
    assert undecided(text, marks) == max(fitting, default=0)
