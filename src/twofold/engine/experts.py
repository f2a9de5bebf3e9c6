"""A segment with experts called in parts, where no replica holds all of it: front, the experts chosen, back.

    front ──▶ expert in, ids, shares ──▶ each expert called with the rows that go to it ──▶ summed ──▶ back

Which way a call goes is the memory map's to say, and changes no bit: an expert's row depends on that row alone, and the
sum is by rising number of the expert.
"""

from collections import deque
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from twofold.engine.caller import Caller
from twofold.kernels.arithmetic import F32
from twofold.model.segment import EXPERT_IN, EXPERT_OUT, Mixture

AT_ONCE = 4  # experts that are called at once, each over a connection of its own


class _Asked(NamedTuple):
    """An expert under way: for which rows of the lane, and what it weighs in each."""

    caller: Caller
    rows: npt.NDArray[np.intp]
    shares: F32


class PartedWeights:
    """Weight memory as the step loop sees it: segments whole where somebody holds them so, else in parts."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._mixtures = {each.segment: each for each in caller.attachments.manifest.mixtures}
        self._callers: list[Caller] = []  # of experts
        self._parted: tuple[Mixture, int] | None = None  # what was begun in parts, and its rows

    def begin(self, segment: int, count: int) -> None:
        """Send the first `count` rows to `segment`, or to its front; errors as for `Caller.begin`."""
        mixture = self._mixtures.get(segment)
        whole = mixture is None or segment in self._caller.attachments.map.holders
        self._parted = None if mixture is None or whole else (mixture, count)
        self._caller.begin(segment if mixture is None or whole else mixture.front, count)

    def finish(self) -> None:
        """Wait until the planes that the segment gives are in the rows; errors as for `Caller.finish`."""
        self._caller.finish()
        if self._parted is not None:
            (mixture, count), self._parted = self._parted, None
            self._caller.rows[mixture.routed][:count] = self._summed(mixture, count)
            self._caller.begin(mixture.back, count)
            self._caller.finish()

    def _summed(self, mixture: Mixture, count: int) -> F32:
        """What the experts make of the rows, weighed and summed by rising number."""
        rows = self._caller.rows
        ids, shares = rows[mixture.ids][:count], rows[mixture.shares].astype(np.float32)
        total = np.zeros((count, rows[mixture.routed].shape[1]), np.float32)
        asked: deque[_Asked] = deque()
        free = self._free(min(AT_ONCE, mixture.count))
        try:
            for expert in range(mixture.count):
                row, place = np.nonzero(ids == expert)
                if not len(row):
                    continue
                if not free:
                    free.append(_add(asked.popleft(), total))
                asked.append(_Asked(free.pop(), row, shares[row, place][:, None]))
                asked[-1].caller.rows[EXPERT_IN][: len(row)] = rows[EXPERT_IN][row]
                asked[-1].caller.begin(mixture.first + expert, len(row))
            for one in asked:
                _add(one, total)
        except BaseException:
            for caller in self._callers:
                caller.abandon()
            raise
        return total

    def _free(self, count: int) -> list[Caller]:
        """Callers for so many experts at once."""
        while len(self._callers) < count:
            self._callers.append(self._caller.another())
        return self._callers[:count]


def _add(asked: _Asked, total: F32) -> Caller:
    """Wait for an expert and add what it gives; its caller is free again."""
    asked.caller.finish()
    given = asked.caller.rows[EXPERT_OUT][: len(asked.rows)].astype(np.float32)
    total[asked.rows] = total[asked.rows] + given * asked.shares
    return asked.caller
