"""The `mistral` family: Llama that sees a window of positions, where the checkpoint says so (arXiv 2310.06825)."""

from twofold.model.family.base import Blueprint, Facts, rotary_of, rotary_shapes
from twofold.model.family.parts import Parts, Size, pre_norm, stack


def build(facts: Facts) -> Blueprint:
    """The blueprint of a mistral checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    size = Size.of(facts)
    rotary = rotary_of(facts, size.head_dim, interleaved=True)
    attention = size.attention(rotary, window=facts.integer("attention.sliding_window", 0, low=0))
    parts = Parts(facts, size, shapes=rotary_shapes(facts, rotary))
    return stack(parts, lambda _, layer: pre_norm(layer, attention))
