"""The step: how a token passes through the model. The heart of Twofold.

    rows = weights(segment 0, token ids)
    for each layer:
        attended = context(layer, rows)
        rows     = weights(segment layer + 1, attended, carry)
    logits = rows

`weights` and `context` are arguments: this loop does not know where either memory lives.
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


def step(weights: Weights, context: Context, rows: Rows, layers: int, count: int, wanted: int) -> None:
    """Pass the first `count` rows (plane ids) through the model.

    Leaves in plane logits, first row first, those of the last `wanted` rows. What a row leaves in context
    memory is complete after the last layer's context call, so rows whose logits nobody wants stop there.
    """
    weights(0, count)
    for layer in range(layers):
        context(layer, count)
        if layer + 1 < layers:
            weights(layer + 1, count)
    if wanted:
        rows.keep(layers, count - wanted, count)
        weights(layers, wanted)
