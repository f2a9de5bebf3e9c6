"""The `qwen2` family: Llama with biases on q, k and v (arXiv 2407.10671)."""

from twofold.model.family.base import Blueprint, Facts, rotary_of, rotary_shapes
from twofold.model.family.parts import Parts, Size, pre_norm, stack


def build(facts: Facts) -> Blueprint:
    """The blueprint of a qwen2 checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    size = Size.of(facts)
    facts.refuse("attention.sliding_window", (0,), "sliding-window attention")
    rotary = rotary_of(facts, size.head_dim, interleaved=False)
    attention = size.attention(rotary)
    parts = Parts(facts, size, shapes=rotary_shapes(facts, rotary))
    return stack(parts, lambda _, layer: pre_norm(layer, attention))
