"""The `gpt_oss` family: experts with biases and a clamped SwiGLU, a sink in each head, windows in every other layer
(OpenAI 2025, arXiv 2508.10925).
"""

import msgspec

from twofold.model.family.base import Blueprint, Facts, rotary_of
from twofold.model.family.mixture import Router, mixture
from twofold.model.family.parts import Layer, Parts, Size, pre_norm_into, stack
from twofold.model.operations import Attention, ClampedSwiGLU, rounded
from twofold.model.segment import EXPERT_IN

LIMIT, SLOPE = 7.0, rounded(1.702)  # of the SwiGLU
FULL_EVERY = 2  # one layer of two sees all


def build(facts: Facts) -> Blueprint:
    """The blueprint of a gpt_oss checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    size, router = Size.of(facts), Router.of(facts)
    rotary = rotary_of(facts, size.head_dim, interleaved=False, whole_pairs=False)
    full = size.attention(rotary)
    windowed = size.attention(rotary, window=facts.integer("attention.sliding_window"))
    every = facts.integer("attention.sliding_window_pattern", FULL_EVERY)
    return stack(Parts(facts, size), lambda i, layer: _layer(layer, windowed if (i + 1) % every else full, router))


def _gate(gate: str, up: str, out: str) -> ClampedSwiGLU:
    return ClampedSwiGLU(gate, up, out, LIMIT, SLOPE)


def _layer(parts: Parts, attention: Attention, router: Router) -> Layer:
    into = pre_norm_into(parts)
    sinks = parts.facts.vector(parts.tensor("attn_sinks", 1, attention.heads))
    ffn = mixture(parts, router, "ffn out", gate=_gate)
    out_of = parts.pre_norm_out(*ffn, x=EXPERT_IN, norm="post_attention_norm")
    return Layer(into, msgspec.structs.replace(attention, sinks=sinks), out_of)
