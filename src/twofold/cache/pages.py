"""Which pages of the pool belong to which session: integers only, no tensors.

A page is 64 positions over all layers. A session's pages are in the order of its positions; the session's
length is how many positions hold what was seen. Reserving pages does not lengthen a session: a step that fails
half way leaves its length as it was, and the next step writes the same positions again.
"""

from dataclasses import dataclass, field

from twofold.errors import RequestError

PAGE_POSITIONS = 64


@dataclass
class Sequence:
    """One session's place in the pool: `length` positions seen, held in `pages`."""

    pages: list[int] = field(default_factory=list)
    length: int = 0


class PageTable:
    """Shares out the pages of one pool. `check()` recomputes its invariants."""

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self._free = list(range(pages - 1, -1, -1))
        self._sequences: dict[int, Sequence] = {}
        self._next = 0

    def open(self) -> int:
        """A new, empty session; returns its number."""
        self._next += 1
        self._sequences[self._next] = Sequence()
        return self._next

    def __getitem__(self, session: int) -> Sequence:
        return self._sequences[session]

    @property
    def free_pages(self) -> int:
        """Pages that no session holds."""
        return len(self._free)

    def reserve(self, session: int, count: int) -> None:
        """Give the session pages for `count` positions more; RequestError, taking none, if too few are free."""
        sequence = self._sequences[session]
        needed = -(-(sequence.length + count) // PAGE_POSITIONS) - len(sequence.pages)
        if needed > len(self._free):
            raise RequestError(
                f"context memory is full: {needed} pages of {PAGE_POSITIONS} positions are needed and "
                f"{self.free_pages} of {self.pages} are free; close a session or allow more with --context"
            )
        sequence.pages += [self._free.pop() for _ in range(needed)]

    def advance(self, session: int, count: int) -> None:
        """`count` more positions hold what was seen."""
        self._sequences[session].length += count

    def truncate(self, session: int, length: int) -> None:
        """Forget the positions from `length` on and free the pages that held only them."""
        sequence = self._sequences[session]
        sequence.length = min(length, sequence.length)
        keep = -(-sequence.length // PAGE_POSITIONS)
        self._free += reversed(sequence.pages[keep:])
        del sequence.pages[keep:]

    def close(self, session: int) -> None:
        """Forget the session and free its pages."""
        self.truncate(session, 0)
        del self._sequences[session]

    def check(self) -> None:
        """Raise AssertionError unless every page is free or held exactly once and every length fits its pages."""
        held = [page for sequence in self._sequences.values() for page in sequence.pages]
        assert sorted(held + self._free) == list(range(self.pages)), "a page is lost or held twice"
        for session, sequence in self._sequences.items():
            room = len(sequence.pages) * PAGE_POSITIONS
            assert 0 <= sequence.length <= room, f"session {session}: {sequence.length} positions in room for {room}"
