"""The `llama` family: pre-norm Transformer with grouped heads, rotary positions and SwiGLU (arXiv 2302.13971).

A GGUF file of it with experts is what others call mixtral. GGUF stores q and k so that a rotary pair is two
neighbours, hence `interleaved=True`.
"""

from twofold.model.family import mixtral
from twofold.model.family.base import Blueprint, Facts, rotary_of, rotary_shapes
from twofold.model.family.parts import Parts, Size, pre_norm, stack


def build(facts: Facts) -> Blueprint:
    """The blueprint of a llama checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    if facts.integer("expert_count", 0, low=0):
        return mixtral.build(facts)
    size = Size.of(facts)
    facts.refuse("attention.sliding_window", (0,), "sliding-window attention")
    rotary = rotary_of(facts, size.head_dim, interleaved=True)
    attention = size.attention(rotary)
    parts = Parts(facts, size)
    parts.shapes |= rotary_shapes(facts, rotary)
    return stack(parts, lambda _, layer: pre_norm(layer, attention))
