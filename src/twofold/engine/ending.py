"""Which end of a step gives the logits: all of them, or the largest alone where a network would carry a vocabulary.

Whoever asks for the `largest` k gets rows as wide as the vocabulary in which smaller logits may be -infinity. What is
chosen among the k comes out the same: what is left out lies so far below that no temperature makes it equal to the last
of them.
"""

import numpy as np

from twofold.kernels.arithmetic import F32
from twofold.memory.map import MemoryMap
from twofold.model.manifest import Manifest
from twofold.wire.rows import Rows

NETWORKS = ("tls", "wss", "twofold")  # links to other hosts; on one host, finding the largest takes longer than all do
APART = 2.0**-22  # of two float32: more than a division of both can take away
APART_LEAST = 1e-30


class Ending:
    """The ends of the steps of one model."""

    def __init__(self, manifest: Manifest) -> None:
        self.all = len(manifest.layers)
        self.top = self.all + 1
        planes = manifest.cuts[self.top].gives if len(manifest.cuts) > self.top else ()
        self._width = next((plane.width for plane in planes if plane.name == "top_ids"), 0)
        self._vocabulary = manifest.vocabulary
        self._spread: list[F32] = []  # rows of -infinity but for what was put there last
        self._filled: list[np.ndarray[tuple[int], np.dtype[np.int32]]] = []  # which ids those are

    def segment(self, largest: int | None, seen: MemoryMap) -> int:
        """The segment to end a step with, if the `largest` logits are wanted (None: all)."""
        if largest is None or not largest < self._width or self.top not in seen.holders:
            return self.all
        far = any(replica.url.partition("://")[0] in NETWORKS for replica in seen.replicas)
        return self.top if far else self.all

    def largest(self, rows: Rows, count: int, largest: int, at: int) -> list[F32] | None:
        """The logits of the first `count` rows after segment `top`: our own rows f32[vocabulary], from number `at` on.

        None if it has to be all after all.

        That is so if more logits are as good as equal to the last of the `largest` than the segment gives, or if one is
        no number.
        """
        values = rows["top_values"][:count].astype(np.float64)
        last, least = values[:, largest - 1], values[:, -1]
        far = last - least > APART * np.maximum(abs(last), abs(least)) + APART_LEAST
        if not (np.isfinite(rows["log_sum_exp"][:count]).all() and (far.all() or self._width == self._vocabulary)):
            return None
        while len(self._spread) < at + count:
            self._spread.append(np.full(self._vocabulary, -np.inf, np.float32))
            self._filled.append(np.zeros(0, np.int32))
        for number in range(count):
            spread, ids = self._spread[at + number], rows["top_ids"][number].copy()
            spread[self._filled[at + number]] = -np.inf
            spread[ids] = rows["top_values"][number]
            self._filled[at + number] = ids
        return self._spread[at : at + count]
