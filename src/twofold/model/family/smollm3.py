"""The `smollm3` family: Llama in which every fourth layer does not know where it stands (NoPE, arXiv 2501.18795)."""

from twofold.model.family.base import Blueprint, Facts, rotary_of, rotary_shapes
from twofold.model.family.parts import Parts, Size, pre_norm, stack
from twofold.model.operations import Rotary

BARE_EVERY = 4  # the last layer of so many has no rotary embedding


def build(facts: Facts) -> Blueprint:
    """The blueprint of a smollm3 checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    size = Size.of(facts)
    facts.refuse("attention.sliding_window", (0,), "sliding-window attention")
    rotary = rotary_of(facts, size.head_dim, interleaved=True)
    turned, bare = size.attention(rotary), size.attention(Rotary((), interleaved=False))
    every = facts.integer("rope.bare_every", BARE_EVERY)
    parts = Parts(facts, size, shapes=rotary_shapes(facts, rotary))
    return stack(parts, lambda i, layer: pre_norm(layer, turned if (i + 1) % every else bare))
