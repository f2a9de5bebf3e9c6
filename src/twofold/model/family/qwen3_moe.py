"""The `qwen3_moe` family: Qwen3 with a mixture of experts in the place of each feed-forward part (arXiv 2505.09388)."""

from twofold.model.family.base import Blueprint, Facts, rotary_of, rotary_shapes
from twofold.model.family.mixture import Router, mixed
from twofold.model.family.parts import Parts, Size, stack


def build(facts: Facts) -> Blueprint:
    """The blueprint of a qwen3_moe checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    size, router = Size.of(facts), Router.of(facts)
    facts.refuse("attention.sliding_window", (0,), "sliding-window attention")
    rotary = rotary_of(facts, size.head_dim, interleaved=False)
    attention = size.attention(rotary)
    parts = Parts(facts, size, shapes=rotary_shapes(facts, rotary))
    return stack(parts, lambda _, layer: mixed(layer, attention, router, head_norms=True))
