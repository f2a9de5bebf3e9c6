"""Which pages of the pool belong to which session: integers only, no tensors.

A page is 64 positions over all layers. A session's pages are in the order of its positions; the session's
length is how many positions hold what was seen. Reserving pages does not lengthen a session: a step that fails
half way leaves its length as it was, and the next step writes the same positions again.

A page may be held by many sessions at once, and kept besides when no session holds it (`prefix.py`):

    free ──reserve──▶ held by one ──adopt, exchange──▶ held by many
      ▲                 │   ▲ adopt
      │ drop            ▼   │
      └───────────── kept by the prefix tree alone: idle

Only full pages are shared, and a position is written only where a session ends, so nothing is ever copied on write.
"""

from dataclasses import dataclass, field

from twofold.errors import RequestError

PAGE_POSITIONS = 64


def pages_for(positions: int) -> int:
    """How many pages so many positions take."""
    return -(-positions // PAGE_POSITIONS)


@dataclass
class Sequence:
    """One session's place in the pool: `length` positions seen, held in `pages`."""

    pages: list[int] = field(default_factory=list)
    length: int = 0


class PageTable:
    """Shares out the pages of one pool. `check()` recomputes its invariants."""

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.idle_pages = 0  # kept, and held by no session
        self._free = list(range(pages - 1, -1, -1))
        self._holders = [0] * pages  # sessions that hold each page
        self._kept: set[int] = set()
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
        """Pages that nobody holds or keeps."""
        return len(self._free)

    @property
    def sessions(self) -> set[int]:
        """The numbers of all sessions."""
        return set(self._sequences)

    def missing(self, session: int, count: int) -> int:
        """Pages that `reserve` would take."""
        sequence = self._sequences[session]
        return max(0, pages_for(sequence.length + count) - len(sequence.pages))

    def reserve(self, session: int, count: int) -> None:
        """Give the session pages for `count` positions more; RequestError, taking none, if too few are free."""
        needed = self.missing(session, count)
        if needed:
            self._need(needed)
            self._sequences[session].pages += [self._take() for _ in range(needed)]

    def advance(self, session: int, count: int) -> None:
        """`count` more positions hold what was seen."""
        self._sequences[session].length += count

    def adopt(self, session: int, pages: list[int]) -> None:
        """The session, which ends with a full page, goes on with full pages that others hold or that are kept."""
        sequence = self._sequences[session]
        assert sequence.length % PAGE_POSITIONS == 0, "a session adopts pages only where a page ends"
        for page in sequence.pages[pages_for(sequence.length) :]:  # reserved, and not needed now
            self._let_go(page)
        del sequence.pages[pages_for(sequence.length) :]
        for page in pages:
            self._hold(page)
        sequence.pages += pages
        sequence.length += len(pages) * PAGE_POSITIONS

    def exchange(self, session: int, index: int, page: int) -> None:
        """The session's full page `index` is given back for `page`, which holds the same."""
        pages = self._sequences[session].pages
        if pages[index] != page:
            self._hold(page)
            self._let_go(pages[index])
            pages[index] = page

    def truncate(self, session: int, length: int) -> tuple[int, int] | None:
        """Forget the positions from `length` on and give back the pages that held only them.

        If the session now ends inside a page that it shares, it gets one of its own: returns (from, to), and what is
        in the one is to be copied to the other. RequestError, changing nothing, if none is free for that.
        """
        sequence = self._sequences[session]
        length = min(length, sequence.length)
        keep = pages_for(length)
        own = None
        if length % PAGE_POSITIONS and self._shared(sequence.pages[keep - 1]):
            self._need(1)
            own = (sequence.pages[keep - 1], self._take())
            self._let_go(own[0])
            sequence.pages[keep - 1] = own[1]
        sequence.length = length
        for page in reversed(sequence.pages[keep:]):
            self._let_go(page)
        del sequence.pages[keep:]
        return own

    def close(self, session: int) -> None:
        """Forget the session and give its pages back."""
        self.truncate(session, 0)
        del self._sequences[session]

    def keep(self, page: int) -> None:
        """The page, which a session holds and has filled, stays as it is when no session holds it any more."""
        assert self._holders[page], "only what a session has filled is kept"
        self._kept.add(page)

    def drop(self, page: int) -> None:
        """The page is kept no more."""
        self._kept.remove(page)
        if not self._holders[page]:
            self.idle_pages -= 1
            self._free.append(page)

    def idle(self, page: int) -> bool:
        """Whether no session holds the page."""
        return not self._holders[page]

    def check(self) -> None:
        """Raise AssertionError unless every page is where the counts say and only full pages are shared."""
        holders = [0] * self.pages
        for session, sequence in self._sequences.items():
            room = len(sequence.pages) * PAGE_POSITIONS
            assert 0 <= sequence.length <= room, f"session {session}: {sequence.length} positions in room for {room}"
            assert len(set(sequence.pages)) == len(sequence.pages), f"session {session} holds a page twice"
            for page in sequence.pages:
                holders[page] += 1
        assert holders == self._holders, "a page is held by others than is known"
        taken = {page for page in range(self.pages) if holders[page]} | self._kept
        assert sorted([*self._free, *taken]) == list(range(self.pages)), "a page is lost, or free and held"
        assert self.idle_pages == sum(not holders[page] for page in self._kept), "idle pages are miscounted"
        for session, sequence in self._sequences.items():
            for page in sequence.pages[sequence.length // PAGE_POSITIONS :]:
                assert not self._shared(page), f"session {session} shares a page that is not full"

    def _need(self, count: int) -> None:
        if count > len(self._free):
            raise RequestError(
                f"context memory is full: {count} pages of {PAGE_POSITIONS} positions are needed and "
                f"{self.free_pages} of {self.pages} are free; close a session or allow more with --context"
            )

    def _shared(self, page: int) -> bool:
        return self._holders[page] > 1 or page in self._kept

    def _take(self) -> int:
        page = self._free.pop()
        self._holders[page] = 1
        return page

    def _hold(self, page: int) -> None:
        self.idle_pages -= not self._holders[page]  # such a page is kept: free ones are only taken
        self._holders[page] += 1

    def _let_go(self, page: int) -> None:
        self._holders[page] -= 1
        if self._holders[page]:
            return
        if page in self._kept:
            self.idle_pages += 1
        else:
            self._free.append(page)
