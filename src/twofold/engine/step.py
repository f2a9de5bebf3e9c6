"""The step: how a token passes through the model. The heart of Twofold.

    for each layer:
        rows     = weights(segment layer, token ids, or attended and carry)
        attended = context(layer, rows)
    logits = weights(an end of the step, attended, carry)

`weights` and `context` are arguments: this loop does not know where either memory lives. It gives way while its rows
are with weight memory, so that several lanes can take turns. `walk.py` has the same in one native call.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from twofold.wire.rows import Rows

_ENDED = object()


class Weights(Protocol):
    """Weight memory, wherever it is: one call at a time."""

    def begin(self, segment: int, count: int) -> None:
        """Send the first `count` rows to `segment`; they are to be left alone until `finish`."""

    def finish(self) -> None:
        """Wait until the planes that the segment gives are in the rows."""


class Context(Protocol):
    """Context memory, wherever it is."""

    def __call__(self, layer: int, count: int) -> None:
        """Rotate, append and attend the first `count` rows: planes q, k, v → attended."""


class Task(NamedTuple):
    """The way of a lane's rows: the first `rows` through all `layers`, the `wanted` of them on to segment `end`."""

    rows: int
    layers: int
    end: int
    wanted: list[int]  # numbers of rows, rising


class Stand(NamedTuple):
    """How far a step has come: how many segments were answered, and whether the next was called."""

    stage: int = 0
    begun: bool = False


def step(weights: Weights, context: Context, rows: Rows, task: Task, at: Stand) -> Iterator[None]:
    """Pass `rows` (plane ids) through the model as `task` says, from `at` on; gives way after every call.

    Leaves in the planes that the end gives, first row first, those of the wanted rows. What a row leaves in context
    memory is complete after the last layer's context call, so rows that nobody wants stop there.
    """
    stage, begun = at
    for layer in range(stage, task.layers):
        if not begun:
            weights.begin(layer, task.rows)
        yield
        weights.finish()
        context(layer, task.rows)
        begun = False
    if task.wanted and stage <= task.layers:
        if not begun:
            rows.keep(task.end, task.wanted)
            weights.begin(task.end, len(task.wanted))
        yield
        weights.finish()


def together(steps: Iterable[Iterator[None]]) -> None:
    """Steps of several lanes in turns: while the rows of one are with weight memory, others are in context memory.

    They keep their order at every layer, so a step may be of the positions that follow those of the one before it.
    """
    going = list(steps)
    while going:
        going = [one for one in going if next(one, _ENDED) is not _ENDED]
