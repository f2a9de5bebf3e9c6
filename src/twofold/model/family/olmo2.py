"""The `olmo2` family: norms behind attention and feed-forward, and on all of q and all of k (arXiv 2501.00656)."""

from twofold.model.family.base import Blueprint, Facts, rotary_of, rotary_shapes
from twofold.model.family.parts import Layer, Parts, Size, stack
from twofold.model.operations import Add, Attention, SwiGLU


def build(facts: Facts) -> Blueprint:
    """The blueprint of an olmo2 checkpoint; raises ModelError naming the metadata that is missing or unsupported."""
    size = Size.of(facts)
    facts.refuse("attention.sliding_window", (0,), "sliding-window attention")
    rotary = rotary_of(facts, size.head_dim, interleaved=False)
    attention = size.attention(rotary)
    parts = Parts(facts, size, shapes=rotary_shapes(facts, rotary))
    return stack(parts, lambda _, layer: _post_norm(layer, attention))


def _post_norm(parts: Parts, attention: Attention) -> Layer:
    out_of = (
        *parts.attention_out("mixed"),
        parts.norm("mixed", "post_attention_norm", "mixed"),
        Add("carry", "mixed", "middle"),
        *parts.gated("middle", SwiGLU, "ffn out"),
        parts.norm("ffn out", "post_ffw_norm", "ffn out"),
        Add("middle", "ffn out", "carry"),
    )
    return Layer((*parts.qkv("carry"), *parts.width_norms()), attention, out_of)
