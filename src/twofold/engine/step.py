"""The step: how a token passes through the model. The heart of Twofold.

    for each layer:
        rows     = weights(segment layer, token ids, or attended and carry)
        attended = context(layer, rows)
    logits = weights(last segment, attended, carry)

`weights` and `context` are arguments: this loop does not know where either memory lives. `walk.py` has the same loop in
one native call.
"""

from typing import Protocol

from twofold.wire.rows import Rows


class Weights(Protocol):
    """Weight memory, wherever it is."""

    def __call__(self, segment: int, count: int) -> None:
        """Run `segment` on the first `count` rows, from the planes it takes into the planes it gives."""


class Context(Protocol):
    """Context memory, wherever it is."""

    def __call__(self, layer: int, count: int) -> None:
        """Rotate, append and attend the first `count` rows: planes q, k, v → attended."""


def step(
    weights: Weights, context: Context, rows: Rows, layers: int, count: int, wanted: int, *, first: int = 0
) -> None:
    """Pass the first `count` rows (plane ids) through the model, from layer `first` on.

    Leaves in plane logits, first row first, those of the last `wanted` rows. What a row leaves in context
    memory is complete after the last layer's context call, so rows whose logits nobody wants stop there.
    """
    for layer in range(first, layers):
        weights(layer, count)
        context(layer, count)
    if wanted:
        rows.keep(layers, count - wanted, count)
        weights(layers, wanted)
