"""What a session has seen, outside of context memory."""

from collections.abc import Sequence
from typing import NamedTuple


class Seen(NamedTuple):
    """The `length` first of `tokens` are in `pages`, bytes as `ContextMemory.read` gives them."""

    tokens: Sequence[int]
    length: int
    pages: bytes


NOTHING = Seen((), 0, b"")


def in_common(tokens: Sequence[int], seen: Sequence[int]) -> int:
    """With how many tokens both begin, one of `tokens` left at least, so that there is something to feed."""
    same = next((i for i, (a, b) in enumerate(zip(tokens, seen, strict=False)) if a != b), min(len(tokens), len(seen)))
    return max(0, min(same, len(tokens) - 1))
