"""The `glm4_moe` family: a mixture of experts beside one that all share, chosen by sigmoid scores and a correction;
the first layers are dense (GLM-4.5 Team 2025, arXiv 2508.06471).
"""

from twofold.model.family.base import Blueprint, Facts, rotary_of, rotary_shapes
from twofold.model.family.mixture import SIGMOID, Router, mixture
from twofold.model.family.parts import Layer, Parts, Size, pre_norm_into, stack
from twofold.model.operations import Attention, SwiGLU
from twofold.model.segment import EXPERT_IN

NORM = "post_attention_norm"  # as GGUF names it in this family


def build(facts: Facts) -> Blueprint:
    """The blueprint of a glm4_moe checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    size, router = Size.of(facts), Router.of(facts, scoring=SIGMOID)
    facts.refuse("nextn_predict_layers", (0,), "layers that predict further tokens")
    dense = facts.integer("leading_dense_block_count", 0, low=0)
    rotary = rotary_of(facts, size.head_dim, interleaved=False)
    attention = size.attention(rotary)
    parts = Parts(facts, size, shapes=rotary_shapes(facts, rotary))
    return stack(parts, lambda i, layer: _layer(layer, attention, None if i < dense else router))


def _layer(parts: Parts, attention: Attention, router: Router | None) -> Layer:
    head_norms = f"{parts.prefix}attn_q_norm.weight" in parts.facts.tensor_names
    into = pre_norm_into(parts, head_norms=head_norms)
    if router is None:
        return Layer(into, attention, parts.pre_norm_out(*parts.gated("ffn in", SwiGLU, "ffn out"), norm=NORM))
    return Layer(into, attention, parts.pre_norm_out(*mixture(parts, router, "ffn out"), x=EXPERT_IN, norm=NORM))
