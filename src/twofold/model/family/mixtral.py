"""The `mixtral` family: Mistral with a mixture of experts in the place of each feed-forward part (arXiv 2401.04088).

GGUF files of it call themselves llama, with experts.
"""

from twofold.model.family.base import Blueprint, Facts, rotary_of, rotary_shapes
from twofold.model.family.mixture import Router, mixed
from twofold.model.family.parts import Parts, Size, stack


def build(facts: Facts) -> Blueprint:
    """The blueprint of a mixtral checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    size, router = Size.of(facts), Router.of(facts)
    rotary = rotary_of(facts, size.head_dim, interleaved=True)
    attention = size.attention(rotary, window=facts.integer("attention.sliding_window", 0, low=0))
    parts = Parts(facts, size, shapes=rotary_shapes(facts, rotary))
    return stack(parts, lambda _, layer: mixed(layer, attention, router))
