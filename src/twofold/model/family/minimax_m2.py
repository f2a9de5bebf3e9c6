"""The `minimax_m2` family: a mixture of experts chosen by sigmoid scores and a correction, all heads of q and all of k
normalised together, a part of each head turned (arXiv 2506.13585 tells of the one before it).
"""

from twofold.model.family.base import Blueprint, Facts, rotary_of, rotary_shapes
from twofold.model.family.mixture import SIGMOID, Router, mixture
from twofold.model.family.parts import Layer, Parts, Size, pre_norm_into, stack
from twofold.model.operations import Attention
from twofold.model.segment import EXPERT_IN


def build(facts: Facts) -> Blueprint:
    """The blueprint of a minimax_m2 checkpoint; ModelError naming the metadata that is missing or unsupported."""
    size, router = Size.of(facts), Router.of(facts, scoring=SIGMOID)
    rotary = rotary_of(facts, size.head_dim, interleaved=False)
    attention = size.attention(rotary)
    parts = Parts(facts, size, shapes=rotary_shapes(facts, rotary))
    return stack(parts, lambda _, layer: _layer(layer, attention, router))


def _layer(parts: Parts, attention: Attention, router: Router) -> Layer:
    into = (*pre_norm_into(parts), *parts.width_norms())
    return Layer(into, attention, parts.pre_norm_out(*mixture(parts, router, "ffn out"), x=EXPERT_IN))
