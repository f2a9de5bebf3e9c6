"""A lane: rows of its own, with a way of its own to both memories, so that several can be under way at once."""

import time
from collections.abc import Sequence

from twofold.engine.caller import Caller
from twofold.engine.experts import PartedWeights
from twofold.engine.step import Task
from twofold.memory.context import ContextMemory, Run


class Lane:
    """One lane. Rows are placed, then passed through the model as `task` says."""

    def __init__(self, weights: Caller, context: ContextMemory) -> None:
        self.weights, self.rows = weights, weights.rows
        self.parted = PartedWeights(weights)
        self._context = context
        self.placed = context.placed(weights.rows)
        self.task = Task(0, 0, 0, ())
        self.context_ns = 0  # time in context operations done one by one
        self.layers_ns = [0] * len(context.manifest.layers)  # the same by layer

    def load(self, runs: Sequence[Run], tokens: Sequence[int], task: Task) -> None:
        """The lane's rows are those of `runs`, with these token ids; errors as for `ContextMemory.place`."""
        self._context.place(self.placed, runs)
        self.rows["ids"][: len(tokens), 0] = tokens
        self.task = task

    def attend(self, layer: int, count: int) -> None:
        """The context operation of a layer."""
        start = time.perf_counter_ns()
        self.placed.attend(layer, count)
        took = time.perf_counter_ns() - start
        self.context_ns += took
        self.layers_ns[layer] += took
