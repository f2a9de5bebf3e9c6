"""Marks in a text that comes piece by piece: how much of its end could be the beginning of one."""

from collections.abc import Iterable


def undecided(text: str, marks: Iterable[str]) -> int:
    """Length of the longest end of `text` that begins a mark and is not yet all of it."""
    marks = tuple(marks)
    longest = max(map(len, marks), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(len(mark) > length and mark.startswith(text[-length:]) for mark in marks):
            return length
    return 0
