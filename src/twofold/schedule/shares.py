"""Fair shares: who had how much, and so whose turn it is. Pure.

Each owner has a count of the rows it had, its virtual time; the next turn is that of the owner with the smallest. An
owner that comes back begins where the least of those present stands: what was not used is not saved up. (Virtual token
counters: Sheng et al. 2024, arXiv 2401.00588.)
"""

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar


class Owned(Protocol):
    """What has an owner."""

    owner: str


Item = TypeVar("Item", bound=Owned)


class Shares:
    """Rows that each owner had, of the owners that have something here now and of those who had more than they."""

    def __init__(self) -> None:
        self._had: dict[str, float] = {}
        self._here: Counter[str] = Counter()

    def __len__(self) -> int:
        """Owners that have something here."""
        return len(self._here)

    def had(self, owner: str) -> float:
        """Rows the owner had, as its turn counts them."""
        return self._had[owner]

    def enter(self, owner: str) -> None:
        """Something of `owner` came."""
        if owner not in self._here:
            least = min((self._had[other] for other in self._here), default=None)
            self._had = {} if least is None else {o: had for o, had in self._had.items() if had >= least}
            self._had.setdefault(owner, least or 0.0)
        self._here[owner] += 1

    def leave(self, owner: str) -> None:
        """Something of `owner` is gone."""
        self._here[owner] -= 1
        if not self._here[owner]:
            del self._here[owner]

    def charge(self, owner: str, rows: int) -> None:
        """`owner` had `rows` rows."""
        self._had[owner] += rows

    def in_turn(self, ordered: Iterable[tuple[int, Item]]) -> Iterator[Item]:
        """Of (urgency, item), in the order in which each owner's own come: the most urgent, of whoever had least.

        Between two items the owner of the first, and nobody else, may be charged.
        """
        queues: dict[str, deque[tuple[int, Item]]] = {}
        for urgency, item in ordered:
            queues.setdefault(item.owner, deque()).append((urgency, item))
        heads = [(queue[0][0], self._had[owner], owner) for owner, queue in queues.items()]
        heapq.heapify(heads)
        while heads:
            owner = heads[0][2]
            queue = queues[owner]
            yield queue.popleft()[1]
            if queue:
                heapq.heapreplace(heads, (queue[0][0], self._had[owner], owner))
            else:
                heapq.heappop(heads)

    def check(self, owners: Counter[str]) -> None:
        """Raise AssertionError unless exactly these owners have so much here."""
        assert owners == self._here, "an owner is miscounted"
        assert set(self._here) <= set(self._had), "an owner has no count"
