"""A lane: rows of its own, with a way of its own to both memories, so that several can be under way at once."""

import time
from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from twofold.engine.caller import Caller
from twofold.engine.experts import PartedWeights
from twofold.engine.step import Task
from twofold.kernels.arithmetic import F32
from twofold.memory.context import ContextMemory, Run


class Share(NamedTuple):
    """Rows of one lane: the next `tokens` of a session, after `ahead` that other lanes have; the last are `wanted`."""

    session: int
    ahead: int
    tokens: Sequence[int]
    wanted: int


class Lane:
    """One lane. Rows are placed, then passed through the model as `task` says."""

    def __init__(self, weights: Caller, context: ContextMemory) -> None:
        self.weights, self.rows = weights, weights.rows
        self.parted = PartedWeights(weights)
        self._context = context
        self.placed = context.placed(weights.rows)
        self.logits: list[F32] = list(weights.rows["logits"])  # by row, after segment `all` (`Ending`)
        self._ids = weights.rows["ids"].ravel().data  # as they are: the plane has a width of 1
        self.task = Task(0, 0, 0, [])
        self.context_ns = 0  # time in context operations done one by one
        self.layers_ns = [0] * len(context.manifest.layers)  # the same by layer

    def load(self, shares: Iterable[Share], layers: int, end: int) -> None:
        """The lane's rows are those of `shares`, to go through all layers and on to `end`; errors as for
        `ContextMemory.place`."""
        runs: list[Run] = []
        tokens: list[int] = []
        wanted: list[int] = []
        for session, ahead, seen, last in shares:
            runs.append(Run(session, ahead, len(seen)))
            tokens += seen
            wanted += range(len(tokens) - last, len(tokens))
        self._context.place(self.placed, runs)
        self._ids[: len(tokens)] = array("i", tokens)
        self.task = Task(len(tokens), layers, end, wanted)

    def attend(self, layer: int, count: int) -> None:
        """The context operation of a layer."""
        start = time.perf_counter_ns()
        self.placed.attend(layer, count)
        took = time.perf_counter_ns() - start
        self.context_ns += took
        self.layers_ns[layer] += took
